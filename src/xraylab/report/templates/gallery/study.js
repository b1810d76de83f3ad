/* The data of the page: facts, pictures and the probabilities of runs, each in a block of its own or in a file beside. */
const element = (id) => document.getElementById(id);
const parsed = (id) => JSON.parse(element(id).textContent);
function bytes(text) {
  const binary = atob(text);
  const array = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) array[at] = binary.charCodeAt(at);
  return array.buffer;
}
function columnsOf(array) {
  return facts.columns.map((_, column) => array.subarray(column * facts.names.length, (column + 1) * facts.names.length));
}
const facts = parsed("facts");
const truth = columnsOf(new Int8Array(bytes(facts.truth)));
const thumbnails = facts.folder ? [] : parsed("thumbnails");
const evidence = new Map(Object.entries(facts.evidence).map(([experiment, rows]) =>
  [experiment, new Map(rows.map(([image, label, any], at) => [image, { at, label, any }]))]));
const layers = new Map([...evidence.keys()].map((name) => [name, facts.folder ? [] : parsed(`overlays-${name}`)]));
const runs = new Map();
const waiting = new Map();
/* Files beside the page call it; what is in the page comes here too. */
function received(name, text) {
  runs.set(name, columnsOf(new Float64Array(bytes(text))));
  waiting.get(name)?.();
}
function load(name) {
  if (runs.has(name)) return Promise.resolve();
  return new Promise((resolve, reject) => {
    waiting.set(name, resolve);
    if (!facts.folder) return received(name, parsed(`run-${name}`));
    const script = document.createElement("script");
    script.src = `runs/${name}.js`;
    script.addEventListener("error", () => reject(new Error(`runs/${name}.js is missing beside this page`)));
    document.head.append(script);
  });
}
const inline = "data:image/webp;base64,";
const pictureOf = (image) => (facts.folder ? `images/${image}.webp` : inline + thumbnails[image]);
/* An experiment's overlay of an image, which is of its first repeat; undefined where there is none. */
function overlayOf(experiment, image) {
  const known = state.repeat === facts.repeats[0] ? evidence.get(experiment)?.get(image) : undefined;
  if (!known) return undefined;
  const source = facts.folder ? `overlays/${experiment}/${image}.webp` : inline + layers.get(experiment)[known.at];
  return { source, label: known.label, any: known.any };
}
