/* What changes what: experiments, repeat and class make the panels anew; a threshold or a filter shows other images. */
function refresh() {
  state.panels.forEach((panel) => panel.show());
  if (atThreshold()) drawRoc();
  showImages();
}
async function rebuild() {
  const [before, turn] = [state.panels, (state.turn += 1)];
  [state.first, state.second] = [element("first").value, element("second").value];
  state.repeat = Number(element("repeat").value);
  const column = Number(element("column").value);
  if (column !== state.column || !before.length) {
    state.column = column;
    if (atThreshold()) element("prevalence").value = short(100 * (facts.prevalences[column] ?? shareOf(column)));
    before.length = 0;
  }
  const shown = [state.first, state.second].filter((name, at, all) => name && all.indexOf(name) === at);
  try {
    await Promise.all(shown.map((name) => load(`${name}-${state.repeat}`)));
  } catch (error) {
    element("count").textContent = error.message;
    return;
  }
  if (turn !== state.turn) return; // something else was chosen while files were loading
  state.panels = shown.map((name, index) => new Panel(name, index, before[index]));
  element("panels").replaceChildren(...state.panels.map((panel) => panel.root));
  for (const part of document.querySelectorAll(".needs-threshold")) part.hidden = !atThreshold();
  offer("show", (each) => (atThreshold() || !(each.value in OUTCOMES)) && (shown.length > 1 || !["first", "second", "differ"].includes(each.value)));
  offer("sort", (each) => shown.length > 1 || each.value !== "difference");
  for (const each of document.querySelectorAll("#show option[data-names]")) {
    each.textContent = each.dataset.names.replace("{first}", shown[0]).replace("{second}", shown[1] ?? "");
  }
  refresh();
}
/* The options of a choice that make sense now; one that does not is not left chosen. */
function offer(id, sensible) {
  const choice = element(id);
  for (const each of choice.options) each.hidden = each.disabled = !sensible(each);
  if (choice.selectedOptions[0].disabled) choice.selectedIndex = 0;
}
function shareOf(column) {
  const known = [...truth[column]].filter((label) => label >= 0);
  return known.filter((label) => label === 1).length / Math.max(known.length, 1);
}
function fill(id, names, values = names) {
  element(id)?.append(...names.map((name, at) => option(values[at], name)));
}
fill("first", facts.experiments);
fill("second", facts.experiments);
fill("repeat", facts.repeats.map(String));
if (!facts.multi && !facts.binary) fill("column", ["the most probable class"], [MOST_PROBABLE]);
fill("column", facts.columns, [...facts.columns.keys()]);
fill("label", facts.multi ? facts.columns : facts.labels, [...(facts.multi ? facts.columns : facts.labels).keys()]);
fill("source", facts.sources, [...facts.sources.keys()]);
element("first").value = facts.first;
for (const id of ["first", "second", "repeat", "column"]) element(id).addEventListener("change", rebuild);
for (const id of ["show", "label", "source", "sort"]) element(id)?.addEventListener("change", showImages);
element("search").addEventListener("input", showImages);
element("prevalence").addEventListener("input", () => state.panels.forEach((panel) => panel.show()));
for (const slider of document.querySelectorAll("input.opacity")) {
  slider.addEventListener("input", () => {
    document.body.style.setProperty("--overlay", slider.value / 100);
    for (const other of document.querySelectorAll("input.opacity")) other.value = slider.value;
  });
}
element("more").addEventListener("click", showMore);
element("before").addEventListener("click", () => enlarge(state.enlarged - 1));
element("after").addEventListener("click", () => enlarge(state.enlarged + 1));
element("close").addEventListener("click", () => element("enlarged").close());
element("enlarged").addEventListener("keydown", (event) => {
  const at = state.enlarged + { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.target.type !== "range" && at in state.order) enlarge(at);
});
rebuild();
