/* The panels: one per experiment that is shown, each with its threshold, its confusion matrix and its rates. */
const MOST_PROBABLE = -1;
const state = { first: facts.first, second: "", repeat: facts.repeats[0], column: 0, turn: 0, shown: 0, panels: [], order: [] };
const percent = (share) => (Number.isNaN(share) ? "not defined" : `${(100 * share).toFixed(1)} %`);
const short = (number) => String(Number(number.toPrecision(6)));
function made(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}
function option(value, text) {
  const node = made("option", "", text);
  node.value = value;
  return node;
}
const atThreshold = () => state.column !== MOST_PROBABLE;
const columnName = () => facts.columns[state.column];
/* What a run shows of the chosen class; `point`: the operating point whose threshold it has, null if moved by hand. */
class Panel {
  constructor(experiment, index, before) {
    [this.experiment, this.index] = [experiment, index];
    this.name = `${experiment}-${state.repeat}`;
    this.columns = runs.get(this.name);
    this.root = element("panel").content.firstElementChild.cloneNode(true);
    this.part = (name) => this.root.querySelector(`.${name}`);
    this.root.classList.add(`of-${index}`);
    this.part("experiment").textContent = experiment;
    if (facts.chosen_on_test.includes(experiment)) this.part("experiment").append(" †");
    if (atThreshold()) this.prepare(before);
    this.part("at-threshold").hidden = !atThreshold();
    this.part("most-probable").hidden = atThreshold();
  }
  prepare(before) {
    [this.p, this.truth] = [this.columns[state.column], truth[state.column]];
    this.curve = thresholdCurve(this.p, this.truth);
    this.points = facts.points[this.name][state.column];
    const wanted = before?.point ?? facts.first_point;
    const point = this.points.find((each) => each.point === wanted) ?? this.points[0];
    [this.threshold, this.point] = [point.threshold, point.point];
    if (before && before.point === null) [this.threshold, this.point] = [before.threshold, null];
    const { thresholds } = this.curve;
    const [slider, exact] = [this.part("slider"), this.part("exact")];
    slider.max = Math.max(thresholds.length - 1, 0);
    slider.disabled = thresholds.length < 2;
    slider.addEventListener("input", () => this.move(thresholds[slider.valueAsNumber], null));
    exact.addEventListener("change", () => exact.checkValidity() && exact.value && this.move(exact.valueAsNumber, null));
    this.points.forEach((each, number) => this.addPoint(each, number));
  }
  addPoint({ point, threshold }, number) {
    const mark = made("i", "", String(number + 1));
    mark.style.setProperty("--at", this.position(threshold));
    this.part("marks").append(mark);
    const button = made("button", "", made("b", "", `${number + 1} `), `${point === "0.5" ? "threshold 0.5" : point}: `, made("span", "number", short(threshold)));
    button.type = "button";
    button.dataset.point = point;
    button.addEventListener("click", () => this.move(threshold, point));
    this.part("points").append(made("li", "", button));
  }
  position(threshold) {
    const { thresholds } = this.curve;
    return Math.min(positionOf(thresholds, threshold) / Math.max(thresholds.length - 1, 1), 1);
  }
  move(threshold, point) {
    [this.threshold, this.point] = [threshold, point];
    refresh();
  }
  outcome(image) {
    if (atThreshold()) return outcome(this.p[image], this.truth[image], this.threshold);
    return Number.isNaN(this.columns[0][image]) ? null : this.predicted(image) === facts.actual[image] ? "right" : "wrong";
  }
  /* The number of the most probable class; of two that are equal the first, as in Python. */
  predicted(image) {
    return this.columns.reduce((best, p, label) => (p[image] > this.columns[best][image] ? label : best), 0);
  }
  probability(image) {
    return atThreshold() ? this.p[image] : this.columns[this.predicted(image)][image];
  }
  tests(image) {
    return !Number.isNaN(this.columns[0][image]);
  }
  /* From 0, certain and wrong, to 1, certain and right. */
  ofActual(image) {
    if (!atThreshold()) return this.columns[facts.actual[image]][image];
    return this.truth[image] < 0 ? Infinity : this.truth[image] ? this.p[image] : 1 - this.p[image];
  }
  confidence(image) {
    return atThreshold() ? Math.abs(this.p[image] - this.threshold) : this.probability(image);
  }
  show() {
    if (atThreshold()) this.showThreshold();
    else this.showAccuracy();
  }
  showAccuracy() {
    const tested = facts.names.map((_, image) => this.outcome(image)).filter(Boolean);
    const right = tested.filter((each) => each === "right").length;
    const cell = this.part("most-probable");
    cell.textContent = `${right} of ${tested.length} test images have their class as the most probable one: ${percent(right / tested.length)}.`;
    cell.dataset.value = right;
  }
  showThreshold() {
    const counts = countOutcomes(this.p, this.truth, this.threshold);
    const rates = proportions(counts);
    const assumed = atPrevalence(counts, element("prevalence").valueAsNumber / 100);
    const slider = this.part("slider");
    slider.value = positionOf(this.curve.thresholds, this.threshold);
    slider.setAttribute("aria-label", `Threshold of ${this.experiment} for ${columnName()}`);
    slider.setAttribute("aria-valuetext", `${short(this.threshold)}: sensitivity ${this.text(rates.sensitivity)}, specificity ${this.text(rates.specificity)}`);
    this.part("exact").value = this.threshold;
    for (const [name, count] of Object.entries(counts)) this.write(name, count, String(count));
    for (const [name, pair] of Object.entries(rates)) this.write(name, pair[0] / pair[1], `${this.text(pair)} (${pair[0]} of ${pair[1]})`);
    for (const [name, share] of Object.entries(assumed)) this.write(`${name}-assumed`, share, percent(share));
    for (const button of this.part("points").querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.point === this.point);
    this.part("chosen-here").hidden = this.point !== null;
    this.part("fixed").hidden = this.point === null;
  }
  text([count, of]) {
    return percent(count / of);
  }
  write(name, value, text) {
    const cell = this.root.querySelector(`[data-rate="${name}"]`);
    cell.textContent = text;
    cell.dataset.value = value;
  }
}
/* The ROC curves of the panels, with their operating points and where they stand now. */
function drawRoc() {
  const svg = element("roc-curve");
  const drawn = (tag, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  };
  const at = ({ tp, fp, fn, tn }) => [40 + (240 * fp) / (fp + tn || 1), 260 - (240 * tp) / (tp + fn || 1)];
  const nodes = state.panels.flatMap((panel) => {
    const all = countOutcomes(panel.p, panel.truth, panel.threshold);
    const [with_, without] = [all.tp + all.fn, all.fp + all.tn];
    const corner = (tp, fp) => at({ tp, fp, fn: with_ - tp, tn: without - fp });
    const vertices = [[0, 0], ...panel.curve.tp.map((tp, step) => [tp, panel.curve.fp[step]]).reverse()];
    const bent = vertices.filter(([tp, fp], step) => {
      const [before, after] = [vertices[step - 1], vertices[step + 1]];
      return !before || !after || (tp - before[0]) * (after[1] - fp) !== (after[0] - tp) * (fp - before[1]);
    });
    const line = bent.map(([tp, fp]) => corner(tp, fp).map((part) => part.toFixed(2)).join(" ")).join("L");
    const marks = panel.points.flatMap(({ threshold }, number) => {
      const [x, y] = at(countOutcomes(panel.p, panel.truth, threshold));
      return [drawn("circle", { cx: x, cy: y, r: 4, class: "fixed-point" }), drawn("text", { x: x + 7, y: y + 12 }, String(number + 1))];
    });
    const [x, y] = at(all);
    const group = drawn("g", { class: `of-${panel.index}` });
    group.append(drawn("path", { d: `M${line}` }), ...marks, drawn("circle", { cx: x, cy: y, r: 6.5, class: "now" }));
    return [group];
  });
  svg.querySelectorAll("g.of-0, g.of-1").forEach((old) => old.remove());
  svg.append(...nodes);
  const said = state.panels.map((panel) => `${panel.experiment}: ${panel.part("slider").getAttribute("aria-valuetext")}`);
  svg.setAttribute("aria-label", `ROC curve for ${columnName()}. ${said.join("; ")}`);
}
