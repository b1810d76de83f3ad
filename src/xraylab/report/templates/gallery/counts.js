"use strict";
/* One class against the rest at a threshold, as evaluate/operating_points.py counts: an image counts as the class where
   its probability is at least the threshold. A label of -1 is unknown, a probability of NaN of an image that the run does
   not test: neither enters a count. */
function outcome(p, truth, threshold) {
  if (truth < 0 || Number.isNaN(p)) return null;
  if (truth) return p >= threshold ? "tp" : "fn";
  return p >= threshold ? "fp" : "tn";
}
function countOutcomes(p, truth, threshold) {
  const counts = { tp: 0, fp: 0, fn: 0, tn: 0 };
  for (let image = 0; image < p.length; image += 1) {
    const kind = outcome(p[image], truth[image], threshold);
    if (kind) counts[kind] += 1;
  }
  return counts;
}
/* Name -> [count, out of how many]. */
function proportions({ tp, fp, fn, tn }) {
  return {
    sensitivity: [tp, tp + fn], specificity: [tn, tn + fp],
    ppv: [tp, tp + fp], npv: [tn, tn + fn], accuracy: [tp + tn, tp + fp + fn + tn],
  };
}
/* PPV and NPV where a share `prevalence` has the class; NaN where undefined. */
function atPrevalence({ tp, fp, fn, tn }, prevalence) {
  const [called, missed] = [tp / (tp + fn), fn / (tp + fn)].map((share) => share * prevalence);
  const [alarm, cleared] = [fp / (fp + tn), tn / (fp + tn)].map((share) => share * (1 - prevalence));
  return { ppv: called / (called + alarm), npv: cleared / (cleared + missed) };
}
/* Every threshold that tells the images apart, rising, with the true and false positives from there on. */
function thresholdCurve(p, truth) {
  const order = [...p.keys()].filter((image) => outcome(p[image], truth[image], 0)).sort((a, b) => p[b] - p[a]);
  const curve = { thresholds: [], tp: [], fp: [] };
  let [tp, fp] = [0, 0];
  order.forEach((image, at) => {
    if (truth[image]) tp += 1;
    else fp += 1;
    if (at + 1 < order.length && p[order[at + 1]] === p[image]) return;
    curve.thresholds.push(p[image]);
    curve.tp.push(tp);
    curve.fp.push(fp);
  });
  Object.values(curve).forEach((values) => values.reverse());
  return curve;
}
/* The number of the lowest of these thresholds that decides as `threshold` does. */
function positionOf(thresholds, threshold) {
  let [low, high] = [0, thresholds.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (thresholds[middle] < threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}
