"""explain: where chosen experiments look, whether findings are there, and what they could do without looking there."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraylab import files, tables
from xraylab.params.config import Params
from xraylab.params.evaluate import Explain
from xraylab.paths import Paths
from xraylab.targets import PREFIX, of_table

if TYPE_CHECKING:
    from xraylab.explain.gallery import MasksOf
    from xraylab.explain.target import Target


def run(cfg: Params, paths: Paths) -> None:
    """Write reports/explain/: summary.json, and the pictures that it names."""
    top_two = files.read_json(paths.evaluation / "top_two.json")
    chosen = cfg.explain.experiments
    ranked, names = chosen == "top-two", top_two["top_two"] if chosen == "top-two" else chosen
    with files.replacing_folder(paths.explanation) as folder:
        explained = _explain(names, cfg, paths, folder) if names else {"experiments": [], "feature_maps": None}
        ranked_on = top_two["ranked_on"] if ranked else None
        files.write_json({"ranked_on": ranked_on, "methods": cfg.explain.methods, **explained}, folder / "summary.json")
    for record in explained["experiments"]:
        for warning in record["probes"]["warnings"]:
            print(f"warning: {record['experiment']}: {warning}")


def _explain(names: list[str], cfg: Params, paths: Paths, folder: Path) -> dict[str, Any]:
    from xraylab.explain import feature_maps  # noqa: PLC0415 - torch takes time, and often nothing is explained
    from xraylab.explain.target import Target  # noqa: PLC0415
    from xraylab.model import hardware  # noqa: PLC0415

    hardware.deterministic_algorithms()
    repeat = cfg.study.repeats[0]
    targets = [Target.load(paths, name, repeat, cfg.explain.findings, print) for name in names]
    masks, shortcuts = _masks(cfg, paths), files.read_json(paths.audit)["shortcuts"]
    return {
        "experiments": [_explained(each, cfg.explain, repeat, masks, shortcuts, folder) for each in targets],
        "feature_maps": feature_maps.write(targets, cfg.explain.feature_maps, folder),
    }


def _masks(cfg: Params, paths: Paths) -> "MasksOf":
    """Class or finding -> image id -> mask; in a single-label study each class has all of them."""
    from xraylab.data.prepare import Preparation  # noqa: PLC0415 - as above
    from xraylab.explain import localization  # noqa: PLC0415

    preparation, index = Preparation.recorded(cfg.images.model_dump()), tables.read(paths.index)
    if findings := [name.removeprefix(PREFIX) for name in of_table(index)]:
        return localization.find_masks_of_findings(paths.raw, index, preparation, cfg.images.resize_method, findings)
    masks = localization.find_masks(paths.raw, index, preparation, cfg.images.resize_method)
    return dict.fromkeys(index["label"].unique(), masks)


def _explained(
    target: "Target", cfg: Explain, repeat: int, masks: "MasksOf", shortcuts: dict[str, Any], folder: Path
) -> dict[str, Any]:
    from xraylab.explain import gallery, gallery_maps, localization, probes, saliency  # noqa: PLC0415 - as above

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
