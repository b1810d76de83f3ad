"""explain: where chosen experiments look, whether findings are there, and what they could do without looking there."""

from pathlib import Path
from typing import Any

from xraylab import files, tables
from xraylab.data.prepare import Preparation
from xraylab.explain import feature_maps, gallery, gallery_maps, localization, probes, saliency
from xraylab.explain.target import Target
from xraylab.model import hardware
from xraylab.params.config import Params
from xraylab.params.evaluate import Explain
from xraylab.paths import Paths
from xraylab.targets import PREFIX, of_table


def run(cfg: Params, paths: Paths) -> None:
    """Write reports/explain/: summary.json, and the pictures that it names."""
    hardware.deterministic_algorithms()
    top_two = files.read_json(paths.evaluation / "top_two.json")
    ranked, repeat = cfg.explain.experiments == "top-two", cfg.study.repeats[0]
    names = top_two["top_two"] if ranked else cfg.explain.experiments
    targets = [Target.load(paths, name, repeat, cfg.explain.findings, print) for name in names]
    masks = _masks(cfg, paths)
    shortcuts = files.read_json(paths.audit)["shortcuts"]
    with files.replacing_folder(paths.explanation) as folder:
        records = [_explained(each, cfg.explain, repeat, masks, shortcuts, folder) for each in targets]
        summary = {
            "ranked_on": top_two["ranked_on"] if ranked else None,
            "methods": cfg.explain.methods,
            "experiments": records,
            "feature_maps": feature_maps.write(targets, cfg.explain.feature_maps, folder),
        }
        files.write_json(summary, folder / "summary.json")
    for record in records:
        for warning in record["probes"]["warnings"]:
            print(f"warning: {record['experiment']}: {warning}")


def _masks(cfg: Params, paths: Paths) -> gallery.MasksOf:
    """Class or finding -> image id -> mask; in a single-label study each class has all of them."""
    preparation, index = Preparation.recorded(cfg.images.model_dump()), tables.read(paths.index)
    if findings := [name.removeprefix(PREFIX) for name in of_table(index)]:
        return localization.find_masks_of_findings(paths.raw, index, preparation, cfg.images.resize_method, findings)
    masks = localization.find_masks(paths.raw, index, preparation, cfg.images.resize_method)
    return dict.fromkeys(index["label"].unique(), masks)


def _explained(
    target: Target, cfg: Explain, repeat: int, masks: gallery.MasksOf, shortcuts: dict[str, Any], folder: Path
) -> dict[str, Any]:
    several = target.findings is not None
    shares = cfg.occlusion_patch, cfg.occlusion_stride
    methods = saliency.methods(cfg.methods, target.size, *shares, target.hardware, several)
    facts = {"experiment": target.name, "repeat": repeat, "epoch": target.record["best_epoch"]}
    pictures = gallery.write(target, methods, cfg.images, masks, folder)
    pictures["maps"] = gallery_maps.write(target, cfg.overlays, folder)
    if target.findings is None:
        masked = {name: mask for each in masks.values() for name, mask in each.items()}
        return {
            **facts,
            **pictures,
            "localisation": localization.measure(target, methods, cfg.masked_images, masked, repeat),
            "probes": probes.measure(target, cfg.centre, cfg.shortcut_ratio, shortcuts["model"]),
        }
    return {
        **facts,
        **pictures,
        "findings": {"shown": target.findings.shown, "thresholds": target.findings.thresholds},
        "localisation": localization.measure_findings(target, methods, cfg.masked_images, masks, repeat),
        "probes": probes.measure_findings(target, target.findings, cfg.centre, cfg.shortcut_ratio, shortcuts),
    }
