/* The images: which are shown, in what order, and one of them enlarged. */
const PAGE = 60;
const OUTCOMES = { tp: "true positive", fp: "false positive", fn: "false negative", tn: "true negative", right: "right", wrong: "wrong" };
const WRONG = new Set(["fp", "fn", "wrong"]);
const KEPT = {
  all: () => true,
  errors: (kinds) => kinds.some((kind) => WRONG.has(kind)),
  first: ([one, two]) => one !== null && !WRONG.has(one) && WRONG.has(two),
  second: ([one, two]) => two !== null && WRONG.has(one) && !WRONG.has(two),
  differ: ([one, two]) => WRONG.has(one) !== WRONG.has(two),
};
const KEYS = {
  name: (image) => image,
  confidence: (image, panel) => panel.confidence(image),
  loss: (image, panel) => panel.ofActual(image),
  highest: (image, panel) => -panel.probability(image),
  lowest: (image, panel) => panel.probability(image),
  difference: (image, panel, other) => (other ? -Math.abs(panel.probability(image) - other.probability(image)) : 0),
};
function hasLabel(image, label) {
  if (label === "") return true;
  return facts.multi ? truth[label][image] === 1 : facts.actual[image] === Number(label);
}
function chosenImages() {
  const [first, second] = state.panels;
  const [show, label, source, sort] = ["show", "label", "source", "sort"].map((id) => element(id)?.value ?? "");
  const search = element("search").value.trim().toLowerCase();
  const kept = KEPT[show] ?? (([one]) => one === show);
  const images = facts.names.flatMap((name, image) => (
    first.tests(image)
    && hasLabel(image, label)
    && (source === "" || facts.source[image] === Number(source))
    && name.toLowerCase().includes(search)
    && kept(state.panels.map((panel) => panel.outcome(image))) ? [image] : []));
  const keys = new Map(images.map((image) => [image, KEYS[sort](image, first, second)]));
  return images.sort((a, b) => (keys.get(a) === keys.get(b) ? a - b : keys.get(a) - keys.get(b)));
}
function labelsOf(image) {
  if (!facts.multi) return facts.labels[facts.actual[image]];
  const labels = facts.columns.filter((_, column) => truth[column][image] === 1);
  return labels.length ? labels.join(", ") : "none of the findings";
}
/* In the list an overlay of another finding than the one that is judged would mislead. */
const isOfColumn = (overlay) => !facts.multi || overlay.label === columnName();
function picture(image, experiment, wanted) {
  const radiograph = made("img");
  [radiograph.src, radiograph.alt, radiograph.loading, radiograph.decoding] = [pictureOf(image), "", "lazy", "async"];
  const box = made("span", "picture", radiograph);
  const overlay = overlayOf(experiment, image);
  if (overlay && wanted(overlay)) {
    const layer = made("img", "overlay");
    [layer.src, layer.alt, layer.loading] = [overlay.source, "", "lazy"];
    box.append(layer);
  }
  return box;
}
function verdict(panel, image) {
  const kind = panel.outcome(image);
  const text = kind ? OUTCOMES[kind] : "label unknown";
  const what = atThreshold() ? "" : `${facts.labels[panel.predicted(image)]} `;
  const line = made("span", `verdict-line of-${panel.index}`, `${what}${panel.probability(image).toFixed(3)} `, made("b", WRONG.has(kind) ? "wrong" : "", text));
  return line;
}
function card(image, at) {
  const button = made("button", "card");
  button.type = "button";
  const wrong = WRONG.has(state.panels[0].outcome(image));
  button.classList.toggle("wrong", wrong);
  button.append(
    made("span", "pictures", ...state.panels.map((panel) => picture(image, panel.experiment, isOfColumn))),
    made("span", "name", facts.names[image]), made("span", "actual", labelsOf(image)),
    ...state.panels.map((panel) => verdict(panel, image)));
  button.addEventListener("click", () => enlarge(at));
  return made("li", "", button);
}
function showImages() {
  state.order = chosenImages();
  state.shown = Math.min(PAGE, state.order.length);
  element("images").classList.toggle("two", state.panels.length > 1);
  element("images").replaceChildren(...state.order.slice(0, state.shown).map(card));
  tellCount();
}
function showMore() {
  const next = state.order.slice(state.shown, state.shown + PAGE);
  const cards = next.map((image, number) => card(image, state.shown + number));
  element("images").append(...cards);
  state.shown += next.length;
  tellCount();
  cards[0]?.querySelector("button").focus();
}
function tellCount() {
  const all = state.order.length;
  const text = all === state.shown ? `${all} ${all === 1 ? "image" : "images"}` : `${all} images, the first ${state.shown} of them shown`;
  element("count").textContent = text;
  element("more").hidden = all === state.shown;
}
/* The image at a place of the order, in the dialog. */
function enlarge(at) {
  const image = state.order[at];
  state.enlarged = at;
  element("enlarged-name").textContent = facts.names[image];
  const source = facts.source.length ? `, source: ${facts.sources[facts.source[image]]}` : "";
  element("enlarged-facts").textContent = `Label: ${labelsOf(image)}${source}`;
  element("enlarged-pictures").replaceChildren(...state.panels.map((panel) => {
    const overlay = overlayOf(panel.experiment, image);
    const said = overlay ? `overlay: ${overlay.any ? "" : "no "}evidence for ${overlay.label}` : "no overlay";
    return made("figure", "", picture(image, panel.experiment, () => true), made("figcaption", "", made("b", "", panel.experiment), ` ${said}`));
  }));
  const heads = ["", "Label", ...state.panels.map((panel) => `p, ${panel.experiment}`)].map((text) => made("th", "", text));
  const labels = { 1: "yes", 0: "no", "-1": "unknown" };
  const rows = facts.columns.map((name, column) => {
    const head = made("th", "", name);
    head.scope = "row";
    return made("tr", "", head, made("td", "", labels[truth[column][image]]), ...state.panels.map((panel) => made("td", "", panel.columns[column][image].toFixed(4))));
  });
  element("enlarged-table").replaceChildren(made("thead", "", made("tr", "", ...heads)), made("tbody", "", ...rows));
  element("before").disabled = at === 0;
  element("after").disabled = at === state.order.length - 1;
  if (!element("enlarged").open) element("enlarged").showModal();
}
