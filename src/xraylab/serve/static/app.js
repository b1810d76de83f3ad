"use strict";

const THUMBNAIL = 96, PREVIEW = 1280, AT_ONCE = 3, RETRIES = 20;
const at = (id) => document.getElementById(id);
const films = [];
let models = [], current = null, waiting = [], running = 0, shownRequest = 0;
const viewer = new Viewer(() => {
  at("zoom").value = `${Math.round(viewer.zoom * 100)} %`;
  at("brightness").value = viewer.brightness;
  at("contrast").value = viewer.contrast;
});

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const percent = (p) => `${(100 * p).toFixed(1)}\u00a0%`;
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
const dataUrl = (png) => `data:image/png;base64,${png}`;

/* One film's answer; a server that is busy is asked again when it says. */
async function predict(film, query) {
  const body = new FormData();
  body.append("files", film.file, film.name);
  for (let attempt = 0; ; attempt++) {
    let response;
    try {
      response = await fetch(`/predict?${new URLSearchParams(query)}`, { method: "POST", body });
    } catch {
      throw new Error("the server cannot be reached");
    }
    if ((response.status === 429 || response.status === 503) && attempt < RETRIES) {
      await sleep(Number(response.headers.get("Retry-After")) || 1);
      continue;
    }
    if (response.status === 401) window.location.reload();
    const answer = await response.json();
    const failed = answer.error || answer.files[0].error;
    if (failed) throw new Error(failed.message);
    return answer.files[0];
  }
}

/* Films and what is known of them */

function add(files) {
  for (const file of files) {
    const film = { file, name: file.name || "film", answer: null, error: null, row: null };
    films.push(film);
    film.row = row(film);
    at("rows").append(film.row);
    waiting.push(film);
  }
  at("table").hidden = at("actions").hidden = films.length === 0;
  work();
}

async function work() {
  tell();
  while (waiting.length && running < AT_ONCE) {
    running++;
    classify(waiting.shift()).finally(() => {
      running--;
      work();
    });
  }
}

async function classify(film) {
  try {
    film.answer = await predict(film, { preview: THUMBNAIL, point: point() });
    film.error = null;
  } catch (error) {
    film.error = error.message;
  }
  fill(film);
  if (current === null) select(film, false);
  else if (current === film) show(film);
}

function point() {
  return at("point").value;
}

function tell() {
  const done = films.filter((film) => film.answer || film.error).length;
  const bad = films.filter((film) => film.error).length;
  const parts = [];
  if (done < films.length) parts.push(`${done} of ${films.length} films classified`);
  else if (films.length) parts.push(`${films.length} film${films.length > 1 ? "s" : ""}`);
  if (bad) parts.push(`${bad} cannot be classified`);
  at("status").textContent = parts.join("; ");
}

function row(film) {
  const name = element("button", { type: "button", className: "name" });
  const made = element("tr", {}, element("th", { scope: "row", className: "left" }, name));
  for (const _ of models) made.append(element("td", { className: "said" }));
  made.addEventListener("click", () => {
    select(film, false);
    if (window.matchMedia("(max-width: 62rem)").matches) at("film").scrollIntoView();
  });
  label(name, film, "waits");
  return made;
}

function label(button, film, text) {
  const thumbnail = film.answer
    ? element("img", { src: dataUrl(film.answer.preview), alt: "" })
    : element("span", { className: "blank" });
  const kind = film.error ? "bad" : "";
  button.replaceChildren(
    thumbnail,
    element("span", {}, element("b", { textContent: film.name, title: film.name }), element("small", { textContent: text, className: kind })),
  );
}

function fill(film) {
  const warned = film.answer ? film.answer.results.flatMap((result) => result.warnings.map((each) => each.code)) : [];
  const size = film.answer ? `${film.answer.width} × ${film.answer.height}` : "";
  label(film.row.querySelector("button"), film, film.error || [size, ...new Set(warned)].join("; "));
  film.row.querySelectorAll("td").forEach((cell, number) => {
    const result = film.answer && film.answer.results[number];
    cell.replaceChildren(...(result ? [element("b", { textContent: result.predicted }), summary(number, result)] : []));
  });
}

/* The probability that decides: of the class with a threshold, or the highest one */
function summary(number, result) {
  const { classes } = models[number];
  const decided = classes.filter((name) => `has_${name}` in result);
  const shown = (decided.length ? decided : classes).reduce((best, name) => (result[`p_${name}`] > result[`p_${best}`] ? name : best));
  const limit = threshold(models[number], result, shown);
  const beside = limit === null ? "" : result[`has_${shown}`] ? ` ≥\u00a0${percent(limit)}` : ` <\u00a0${percent(limit)}`;
  return element("small", { textContent: `${shown} ${percent(result[`p_${shown}`])}${beside}`, className: result[`has_${shown}`] ? "reached" : "" });
}

function threshold(model, result, name) {
  const point = model.operating_points.find((each) => each.class === name && each.point === result.point);
  return point ? point.threshold : null;
}

/* The classes that reach their thresholds; of several findings, these are what is predicted */
function decision(number, result) {
  const decided = models[number].classes.filter((name) => `has_${name}` in result);
  const reached = decided.filter((name) => result[`has_${name}`]);
  if (!decided.length || models[number].task === "multi-label") return null;
  return `At the operating point: ${reached.join(", ") || `not ${decided.join(", not ")}`}`;
}

/* The film in large */

async function select(film, focus) {
  current = film;
  for (const each of films) each.row.setAttribute("aria-current", String(each === film));
  film.row.scrollIntoView({ block: "nearest" });
  if (focus) film.row.querySelector("button").focus();
  viewer.reset();
  await show(film);
}

async function show(film) {
  const request = ++shownRequest;
  at("film").hidden = false;
  at("film-title").textContent = film.name;
  if (film.error || !film.answer) {
    at("film-facts").textContent = film.error || "is being classified";
    at("panes").replaceChildren();
    viewer.clear();
    return;
  }
  const { width, height, format, mode } = film.answer;
  at("film-facts").textContent = `${format}, ${width} × ${height} pixels, ${mode}`;
  lay(film.answer);
  at("panes").querySelectorAll(".picture").forEach((each) => each.classList.add("wait"));
  const query = { preview: PREVIEW, point: point() };
  if (at("overlay").checked) query.explain = at("class").value;
  try {
    const answer = await predict(film, query);
    if (request === shownRequest) await paint(answer);
  } catch (error) {
    if (request === shownRequest) at("film-facts").textContent = error.message;
  }
}

function lay(answer) {
  viewer.clear();
  at("panes").classList.toggle("two", models.length > 1);
  at("panes").replaceChildren(...answer.results.map((result, number) => {
    const canvas = element("canvas", { tabIndex: 0 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${current.name}: ${result.predicted}, after ${result.model}`);
    viewer.add(canvas);
    const pane = element("article", { className: models.length > 1 ? "pane" : "pane alone" });
    pane.append(element("h3", { textContent: result.model }), element("div", { className: "picture" }, canvas), said(number, result));
    return pane;
  }));
  viewer.draw();
}

async function paint(answer) {
  viewer.show(await loaded(answer.preview));
  await Promise.all(viewer.panes.map(async (pane, number) => {
    const { overlay } = answer.results[number];
    pane.overlay = overlay ? { image: await loaded(overlay.png), box: overlay.box } : null;
  }));
  at("panes").querySelectorAll(".picture").forEach((each) => each.classList.remove("wait"));
  viewer.draw();
}

async function loaded(png) {
  const image = new Image();
  image.src = dataUrl(png);
  await image.decode();
  return image;
}

function said(number, result) {
  const model = models[number];
  const warnings = result.warnings.map((each) => element("p", { textContent: each.text }));
  const bars = element("ul", { className: "bars" }, ...model.classes.map((name) => bar(model, result, name)));
  return element(
    "div", { className: "said" },
    element("p", { className: "predicted", textContent: result.predicted }),
    decision(number, result) ? element("p", { className: "decision", textContent: decision(number, result) }) : null,
    warnings.length ? element("div", { className: "warnings" }, ...warnings) : null,
    bars,
    result.point ? element("p", { className: "key" }, element("i"), `threshold of the operating point: ${result.point}`) : null,
  );
}

function bar(model, result, name) {
  const p = result[`p_${name}`], calibrated = result[`calibrated_${name}`], has = result[`has_${name}`];
  const limit = threshold(model, result, name);
  const track = element("div", { className: "bar" }, element("i"));
  track.style.setProperty("--p", p);
  if (limit !== null) {
    track.append(element("u"));
    track.style.setProperty("--at", limit);
  }
  const notes = [];
  if (calibrated !== undefined) notes.push(`calibrated ${percent(calibrated)}`);
  if (limit !== null) notes.push(`threshold ${percent(limit)}, ${has ? "reached" : "not reached"}`);
  const line = element("div", { className: "line" }, element("span", { textContent: name }), element("span", { textContent: percent(p) }));
  return element("li", { className: has ? "reached" : "" }, line, track, element("small", { textContent: notes.join("; ") }));
}

/* The table as a file */

function save() {
  const keys = ["file", "model", "predicted", "point", "warnings", "error"];
  const columns = [...keys, ...new Set(films.flatMap((film) => (film.answer ? film.answer.results : []).flatMap(Object.keys)).filter((key) => /^(p|calibrated|has)_/.test(key)))];
  const rows = films.flatMap((film) => film.error || !film.answer
    ? [{ file: film.name, error: film.error || "" }]
    : film.answer.results.map((result) => ({ ...result, file: film.name, warnings: result.warnings.map((each) => each.code).join("; ") })));
  const lines = [columns, ...rows.map((each) => columns.map((key) => each[key] ?? ""))];
  const url = URL.createObjectURL(new Blob([lines.map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n"], { type: "text/csv" }));
  element("a", { href: url, download: "predictions.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/* Spreadsheets run cells that begin with these */
function quoted(value) {
  const text = String(value), safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/* The models */

function card(model) {
  const facts = element("dl", { className: "facts-list" }), known = model.card;
  const fact = (name, value) => {
    if (value === null || value === undefined || value.length === 0) return;
    facts.append(element("dt", { textContent: name }), element("dd", {}, Array.isArray(value) ? list(value) : value));
  };
  if (known) {
    fact("Study", known.study);
    fact("Intended use", known.intended_use);
    fact("Limits", known.limits);
  }
  fact(model.task === "multi-label" ? "Findings" : "Classes", model.classes.join(", "));
  if (known) {
    fact("Data", known.data.description);
    fact("Training", known.training);
    fact("Selection", known.selection.description);
    fact("Starting weights", `${known.starting_weights.description} Licence: ${known.starting_weights.licence || "unknown"}.`);
    fact("Preprocessing", known.preprocessing.description);
  } else {
    const steps = Object.entries(model.preprocessing).filter(([, value]) => value !== null && value !== false && value !== 0);
    fact("Preprocessing", steps.map(([name, value]) => `${name}: ${value}`).join("; "));
  }
  fact("Architecture", model.arch);
  fact("Computes on", model.hardware);
  fact("Notes", model.notes);
  const section = element("section", {}, element("h3", { textContent: model.name }), facts);
  section.append(...[pointTable(model), known ? metricTable(known) : null].filter(Boolean));
  return section;
}

const list = (texts) => element("ul", {}, ...texts.map((text) => element("li", { textContent: text })));

/* A value between 0 and 1 with its interval */
function estimate({ value, ci_low: low, ci_high: high }) {
  if (value === null) return "";
  return low === null || high === null ? value.toFixed(3) : `${value.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
}

function pointTable(model) {
  if (!model.operating_points.length) return null;
  const same = (a, b) => a.class === b.class && a.point === b.point;
  const rows = model.operating_points.map((each) => {
    const tested = model.card && model.card.operating_points.find((other) => same(each, other));
    return [each.class, each.point, each.threshold.toPrecision(3), ...(tested ? [estimate(tested.sensitivity), estimate(tested.specificity)] : [])];
  });
  return tableOf("Operating points, chosen on validation images", ["Class", "Point", "Threshold", ...(model.card ? ["Sensitivity", "Specificity"] : [])], rows);
}

function metricTable({ metrics, confidence }) {
  const rows = metrics.map((each) => [each.class, each.metric, estimate(each.estimate), each.n ?? ""]);
  return rows.length ? tableOf(`Test images, ${100 * confidence} % intervals`, ["Class", "Metric", "Value", "Images"], rows) : null;
}

function tableOf(title, heads, rows) {
  const head = element("tr", {}, ...heads.map((text, number) => element("th", { scope: "col", textContent: text, className: number < 2 ? "left" : "" })));
  const body = rows.map((row) => element("tr", {}, ...row.map((text, number) => element("td", { textContent: text, className: number < 2 ? "left" : "" }))));
  return element("div", { className: "wide" }, element("table", { className: "plain" }, element("caption", { textContent: title }), element("thead", {}, head), element("tbody", {}, ...body)));
}

function options(id, values, selected) {
  at(id).replaceChildren(...values.map((value) => element("option", { value, textContent: value, selected: value === selected })));
}

async function start() {
  models = (await (await fetch("/model")).json()).models;
  document.title = `xraylab: ${models.map((model) => model.name).join(" and ")}`;
  const points = [...new Set(models.flatMap((model) => model.operating_points.map((each) => each.point)))];
  options("point", points, models[0].point);
  at("point").closest(".settings").hidden = !points.length;
  const classes = [...new Set(models.flatMap((model) => model.classes))];
  const decided = models[0].operating_points.map((each) => each.class);
  options("class", classes, decided[0] || classes[0]);
  at("heads").append(...models.map((model) => element("th", { scope: "col", textContent: model.name })));
  at("card-text").append(...models.map(card));
  document.body.dataset.ready = "yes";
}

/* What people do */

function step(by) {
  if (!films.length) return;
  const number = films.indexOf(current) + by;
  select(films[Math.max(0, Math.min(films.length - 1, number))], true);
}

function display() {
  viewer.set(at("overlay").checked, at("opacity").value / 100);
}

function explain() {
  display();
  if (current && at("overlay").checked) show(current);
}

const KEYS = {
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  ArrowRight: () => step(1),
  ArrowLeft: () => step(-1),
  o: () => at("overlay").click(),
  "+": () => viewer.zoomBy(1.25),
  "=": () => viewer.zoomBy(1.25),
  "-": () => viewer.zoomBy(0.8),
  0: () => viewer.reset(),
  m: () => at("card").showModal(),
  "?": () => at("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, select, textarea");
  const arrows = event.key.startsWith("Arrow");
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (field && (arrows || field.type !== "checkbox" && field.type !== "range")) return;
  const work = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!work) return;
  event.preventDefault();
  work();
});

at("files").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = "";
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") add([...event.dataTransfer.files]);
  });
}
at("point").addEventListener("change", () => {
  waiting = [...films];
  work();
});
at("overlay").addEventListener("change", explain);
at("class").addEventListener("change", explain);
at("opacity").addEventListener("input", display);
for (const id of ["brightness", "contrast"]) {
  at(id).addEventListener("input", () => viewer.window(Number(at("brightness").value), Number(at("contrast").value)));
}
at("larger").addEventListener("click", KEYS["+"]);
at("smaller").addEventListener("click", KEYS["-"]);
at("reset").addEventListener("click", KEYS[0]);
at("show-card").addEventListener("click", KEYS.m);
at("show-help").addEventListener("click", KEYS["?"]);
at("save").addEventListener("click", save);
at("clear").addEventListener("click", () => {
  films.length = waiting.length = 0;
  current = null;
  shownRequest++;
  at("rows").replaceChildren();
  at("film").hidden = at("table").hidden = at("actions").hidden = true;
  tell();
});
window.addEventListener("resize", () => viewer.draw());
display();
start();
