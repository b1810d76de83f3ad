"""explain: where chosen experiments look, whether findings are there, and what they could do without looking there."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab import files, tables
from xraylab.data import image_cache
from xraylab.data.prepare import Preparation
from xraylab.errors import DataError
from xraylab.evaluate import figures
from xraylab.explain import album, choose, localise, masks, probes, saliency
from xraylab.explain.saliency import Method
from xraylab.explain.subject import Subject, saliency_of
from xraylab.model import hardware
from xraylab.params.config import Params
from xraylab.params.evaluate import Explain
from xraylab.paths import Paths
from xraylab.predict import kept

CHECKPOINT, SIDE = "best", "test"

Record = dict[str, Any]


def run(given: Params, paths: Paths) -> None:
    """Write reports/explain/: summary.json, and the pictures that it names."""
    hardware.deterministic_algorithms()
    explain, repeat = given.explain, given.study.repeats[0]
    best = files.read_json(paths.evaluation / "top_two.json")
    ranked = explain.experiments == "top-two"
    names = best["top_two"] if ranked else explain.experiments
    subjects = [_subject(paths, name, repeat) for name in names]
    found = _masks(given, paths)
    metadata = files.read_json(paths.audit)["shortcuts"]["model"]
    with files.replacing_folder(paths.explanation) as folder:
        records = [_explained(each, explain, repeat, found, metadata, folder) for each in subjects]
        summary = {
            "ranked_on": best["ranked_on"] if ranked else None,
            "methods": explain.methods,
            "experiments": records,
            "feature_maps": _feature_maps(subjects, explain.feature_maps, folder),
        }
        files.write_json(summary, folder / "summary.json")
    for record in records:
        for warning in record["probes"]["warnings"]:
            print(f"warning: {record['experiment']}: {warning}")


def _subject(paths: Paths, name: str, repeat: int) -> Subject:
    folder = paths.model(name, repeat)
    model = files.read_json(folder / "model.json")
    table = tables.read(paths.prediction(name, repeat))
    tested = table[(table["checkpoint"] == CHECKPOINT) & (table["side"] == SIDE)].reset_index(drop=True)
    if tested.empty:
        raise DataError(f"{paths.prediction(name, repeat)} has no {SIDE} images, so there is nothing to explain")
    machine, notes = hardware.choose_to_score(model["hardware"]["precision"])
    print(*hardware.first_lines(f"{name}-{repeat}", machine), *notes, sep="\n")
    network = kept.network(folder, model, kept.epoch_of(model, CHECKPOINT)).eval().to(machine.device)
    return Subject(name, model, network, machine, tested, *image_cache.load(paths.cache))


def _explained(
    subject: Subject,
    explain: Explain,
    repeat: int,
    found: dict[str, masks.Mask],
    metadata: Record | None,
    folder: Path,
) -> Record:
    patch, stride = explain.occlusion_patch, explain.occlusion_stride
    methods = saliency.methods(explain.methods, subject.pixels, patch, stride, subject.machine)
    return {
        "experiment": subject.name,
        "repeat": repeat,
        "epoch": subject.model[f"{CHECKPOINT}_epoch"],
        **album.write(subject, methods, explain.images, found, folder),
        "localisation": _localisation(subject, methods, explain.masked_images, repeat, found),
        "probes": _probes(subject, explain, metadata),
    }


def _masks(given: Params, paths: Paths) -> dict[str, masks.Mask]:
    preparation = Preparation.recorded(given.images.model_dump())
    return masks.known(paths.raw, tables.read(paths.index), preparation, given.images.fit)


def _localisation(
    subject: Subject, methods: dict[str, Method], most: int, seed: int, found: dict[str, masks.Mask]
) -> Record | None:
    """How well each method finds the findings, with the network and with one of random weights; None without masks."""
    tested = subject.tested[subject.tested["id"].isin(list(found))]
    chosen = tested.iloc[choose.evenly(len(tested), most)]
    inside = {name: masks.read(found[name], subject.pixels) for name in chosen["id"]}
    visible = chosen[[bool(inside[name].any()) for name in chosen["id"]]]
    if len(visible) < 2:
        return None
    ids, labels = list(visible["id"]), list(visible["label"])
    areas = np.stack([inside[name] for name in ids])
    random = kept.untrained(subject.model, seed).eval().to(subject.machine.device)
    networks = {"trained": subject.network, "random": random}
    maps = {kind: saliency_of(subject, each, methods, ids, labels) for kind, each in networks.items()}
    return {
        "images": len(visible),
        "too_small": len(chosen) - len(visible),
        "methods": {
            name: {kind: localise.figures(each[name], areas) for kind, each in maps.items()} for name in methods
        },
    }


def _probes(subject: Subject, explain: Explain, metadata: Record | None) -> Record:
    """The AUROC with parts blacked out, and that of a model of metadata alone, beside the network's own."""
    classes, tested = subject.model["classes"], subject.tested
    positive = classes.index(subject.model["positive"]) if subject.model["positive"] else None
    actual = tested["label"].map(classes.index).to_numpy(int)
    real = figures.auroc(actual, tested[[f"p_{label}" for label in classes]].to_numpy(float), positive)
    found = {}
    for part, p in probes.probabilities(subject, list(tested["id"]), explain.centre).items():
        auroc = figures.auroc(actual, p.double().numpy(), positive)
        found[part] = probes.verdict(real, auroc, explain.nearly)
    told = probes.verdict(real, metadata["auroc"] if metadata else None, explain.nearly)
    found["metadata"] = told | {"facts": metadata["facts"] if metadata else []}
    warnings = probes.warnings(real, found["centre"], found["border"], found["metadata"], explain.centre)
    facts = {"images": len(tested), "auroc": real, "centre_share": explain.centre, "nearly_from": explain.nearly}
    return facts | found | {"warnings": warnings}


def _feature_maps(subjects: list[Subject], most: int, folder: Path) -> Record | None:
    """All networks' first and middle layers on one and the same image: the first tested one of the positive class."""
    if not subjects:
        return None
    model, tested = subjects[0].model, subjects[0].tested
    name = str(tested["id"][_first(tested, model["positive"] or model["classes"][0])])
    return {"id": name, "layers": album.feature_maps(subjects, name, most, folder)}


def _first(tested: pd.DataFrame, label: str) -> int:
    """The row of the first image of that class, or of the first at all."""
    return int((tested["label"] == label).to_numpy().argmax())
