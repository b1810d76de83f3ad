"""What a network still tells with a part of every image blacked out: if that is nearly all, it needs no lungs."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xraylab import targets
from xraylab.data.image_cache import Rows
from xraylab.data.names import some
from xraylab.evaluate import metrics
from xraylab.explain.target import Findings, Target
from xraylab.model import scoring
from xraylab.targets import Values

CHANCE = 0.5
LEAST_SKILL = 0.1
"""Below so much AUROC beyond chance a network knows too little for a share of it to mean anything."""
HIDDEN = ("centre", "border")
LEAST_IMAGES = 10
"""Of a finding present or absent in fewer, an AUROC means too little for a verdict."""
MOST_NAMED = 5


def blacked_out(images: NDArray[np.uint8], part: str, share: float) -> NDArray[np.uint8]:
    """A copy of uint8 images (n, height, width) whose `centre`, or all but it (`border`), is 0.

    The centre is the middle rectangle of `share` of the height and of the width.
    """
    height, width = images.shape[1:]
    above, before = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    inside = np.s_[:, above : height - above, before : width - before]
    if part == "centre":
        result = images.copy()
        result[inside] = 0
    else:
        result = np.zeros_like(images)
        result[inside] = images[inside]
    return result


def measure(target: Target, centre: float, shortcut_ratio: float, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """The AUROC with parts blacked out, and that of a model of metadata alone, beside the network's own.

    `centre` is the centre's share of height and width, `shortcut_ratio` the share of skill that counts as nearly all.
    """
    classes, predictions = target.classes, target.predictions
    positive = classes.index(target.record["positive"]) if target.record["positive"] else None
    actual = predictions["label"].map(classes.index).to_numpy(int)
    real = metrics.auroc(actual, predictions[[f"p_{label}" for label in classes]].to_numpy(float), positive)
    verdicts = {
        part: verdict(part, real, metrics.auroc(actual, p.double().numpy(), positive), shortcut_ratio)
        for part, p in probabilities(target, list(predictions["id"]), centre).items()
    }
    verdicts["metadata"] = {
        **verdict("metadata", real, metadata["auroc"] if metadata else None, shortcut_ratio),
        "facts": metadata["facts"] if metadata else [],
    }
    facts = {"images": len(predictions), "auroc": real, "centre_share": centre, "shortcut_ratio": shortcut_ratio}
    return {**facts, **verdicts, "warnings": warnings(real, **verdicts, share=centre)}


def measure_findings(
    target: Target, findings: Findings, centre: float, shortcut_ratio: float, shortcuts: dict[str, Any]
) -> dict[str, Any]:
    """As `measure`, of the mean AUROC over findings, and of each finding under `findings`; warnings name findings.

    `shortcuts`: what the audit found. A finding with fewer than so many images with it, or without it, has no verdict.
    """
    whole = target.predictions[[f"p_{name}" for name in target.classes]].to_numpy(float)
    hidden = probabilities(target, list(target.predictions["id"]), centre)
    real = _by_finding(findings.truth, whole, target.classes)
    probed = {part: _by_finding(findings.truth, p.double().numpy(), target.classes) for part, p in hidden.items()}
    audited = shortcuts.get("findings") or {}
    probed["metadata"] = {name: audited[name]["auroc"] if name in audited else None for name in target.classes}
    each = {
        name: {
            "auroc": real[name],
            **{part: verdict(part, real[name], probe[name], shortcut_ratio) for part, probe in probed.items()},
        }
        for name in target.classes
    }
    mean = _mean(real)
    verdicts = {part: verdict(part, mean, _mean(probe), shortcut_ratio) for part, probe in probed.items()}
    verdicts["metadata"]["facts"] = shortcuts["model"]["facts"] if shortcuts["model"] else []
    counts = {
        "images": len(target.predictions),
        "auroc": mean,
        "centre_share": centre,
        "shortcut_ratio": shortcut_ratio,
    }
    of_findings = finding_warnings(each, verdicts["metadata"]["facts"], centre, shortcut_ratio)
    said = of_findings or warnings(mean, **verdicts, share=centre)
    return {**counts, **verdicts, "findings": each, "warnings": said}


def _by_finding(truth: Values, p: NDArray[np.float64], findings: list[str]) -> dict[str, float | None]:
    """The AUROC of each finding among the images where it is known; None of few."""
    aurocs: dict[str, float | None] = {}
    for number, name in enumerate(findings):
        known = targets.known(truth[:, number])
        present = truth[known, number] == 1
        enough = min(present.sum(), (~present).sum()) >= LEAST_IMAGES
        aurocs[name] = metrics.auroc_and_auprc(present, p[known, number])[0] if enough else None
    return aurocs


def _mean(values: dict[str, float | None]) -> float | None:
    present = [value for value in values.values() if value is not None]
    return float(np.mean(present)) if present else None


def probabilities(target: Target, ids: Sequence[str], share: float) -> dict[str, Tensor]:
    """For each part in `HIDDEN` the class probabilities (n, classes) of these images with that part blacked out."""
    record, hardware = target.record, target.hardware
    shape = (record["channels"], target.size, target.size)
    forward, _ = scoring.prepare(target.network, hardware, len(HIDDEN) * len(ids), shape, record["multiply_adds"])
    rows, scores = target.rows(ids), {}
    for part in HIDDEN:
        load = partial(_blacked_out, target, rows, part, share)
        phase = f"scoring images without their {part}"
        multi_label = target.findings is not None
        (scores[part],), _ = scoring.score([forward], load, len(rows), hardware, phase, multi_label)
    return scores


def verdict(part: str, real: float | None, probe: float | None, shortcut_ratio: float) -> dict[str, Any]:
    """The share of the network's skill (AUROC beyond chance) that a probe keeps, and whether it tells of a shortcut.

    Nearly all with a black centre, or from metadata alone, is a shortcut; less with a black border may be one.

    None where either AUROC is unknown or the network itself is hardly better than chance.
    """
    if real is None or probe is None or real - CHANCE < LEAST_SKILL:
        return {"auroc": probe, "kept": None, "shortcut": None}
    retained = max(0.0, probe - CHANCE) / (real - CHANCE)
    return {"auroc": probe, "kept": retained, "shortcut": (retained < shortcut_ratio) is (part == "border")}


def warnings(
    real: float | None, centre: dict[str, Any], border: dict[str, Any], metadata: dict[str, Any], share: float
) -> list[str]:
    """What the verdicts mean: nearly all kept without the centre or by metadata alone, or less without the border.

    `share`: the centre's, of height and width.
    """
    if real is None:
        return []
    whole, sentences = f"whole images: {real:.2f}", []
    if centre["shortcut"]:
        sentences.append(
            f"With the centre of every image blacked out, the network still reaches an AUROC of {centre['auroc']:.2f} "
            f"({whole}), {100 * centre['kept']:.0f} % of what it knows beyond chance. "
            "It tells the classes without the lungs."
        )
    if border["shortcut"]:
        sentences.append(
            f"With the border of every image blacked out, all but the middle {100 * share:g} % of height and width, "
            f"the network reaches an AUROC of {border['auroc']:.2f} ({whole}), {100 * border['kept']:.0f} % of what it "
            "knows beyond chance. It leans on the border, or is put off by a black one: films of other hospitals "
            "have other borders."
        )
    if metadata["shortcut"]:
        sentences.append(
            f"A model that sees only facts about the files ({', '.join(metadata['facts'])}), and no image, reaches an "
            f"AUROC of {metadata['auroc']:.2f} ({whole}), {100 * metadata['kept']:.0f} % of what the network knows "
            "beyond chance. The network may tell the classes by where an image comes from."
        )
    return sentences


def finding_warnings(findings: dict[str, Any], facts: list[str], share: float, shortcut_ratio: float) -> list[str]:
    """What the verdicts of several findings mean, a sentence for each part: see `warnings`."""
    ratio, sentences = f"{100 * shortcut_ratio:g} % of what it knows beyond chance of", []
    if names := _name(findings, "centre"):
        sentences.append(
            f"With the centre of every image blacked out, the network keeps at least {ratio} {names}. "
            "It tells this without the lungs."
        )
    if names := _name(findings, "border"):
        sentences.append(
            f"With the border of every image blacked out, all but the middle {100 * share:g} % of height and width, "
            f"the network keeps less than {ratio} {names}. It leans on the border, or is put off by a black one: films "
            "of other hospitals have other borders."
        )
    if names := _name(findings, "metadata"):
        sentences.append(
            f"A model that sees only facts about the files ({', '.join(facts)}), and no image, reaches at least "
            f"{100 * shortcut_ratio:g} % of what the network knows beyond chance of {names}. The network may tell this "
            "by where an image comes from."
        )
    return sentences


def _name(findings: dict[str, Any], part: str) -> str:
    """The findings whose verdict on the part is a shortcut, with both AUROCs; of many, those that stand out most."""
    told = {name: each for name, each in findings.items() if each[part]["shortcut"]}
    order = sorted(told, key=lambda name: told[name][part]["kept"], reverse=part != "border")
    said = [f"{name} (AUROC {told[name][part]['auroc']:.2f}, whole images {told[name]['auroc']:.2f})" for name in order]
    return some(said, MOST_NAMED)


def _blacked_out(target: Target, rows: Rows, part: str, share: float, start: int, stop: int) -> Tensor:
    images = blacked_out(target.images[rows[start:stop]], part, share)
    return target.to_input(images, np.arange(len(images)))
