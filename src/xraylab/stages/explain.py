"""explain: where chosen experiments look, whether findings are there, and what they could do without looking there."""

from pathlib import Path
from typing import Any

from xraylab import files, tables
from xraylab.data.prepare import Preparation
from xraylab.explain import feature_maps, gallery, localization, probes, saliency
from xraylab.explain.localization import Mask
from xraylab.explain.target import Target
from xraylab.model import hardware
from xraylab.params.config import Params
from xraylab.params.evaluate import Explain
from xraylab.paths import Paths


def run(cfg: Params, paths: Paths) -> None:
    """Write reports/explain/: summary.json, and the pictures that it names."""
    hardware.deterministic_algorithms()
    top_two = files.read_json(paths.evaluation / "top_two.json")
    ranked, repeat = cfg.explain.experiments == "top-two", cfg.study.repeats[0]
    names = top_two["top_two"] if ranked else cfg.explain.experiments
    targets = [Target.load(paths, name, repeat, print) for name in names]
    preparation = Preparation.recorded(cfg.images.model_dump())
    masks = localization.find_masks(paths.raw, tables.read(paths.index), preparation, cfg.images.resize_method)
    metadata = files.read_json(paths.audit)["shortcuts"]["model"]
    with files.replacing_folder(paths.explanation) as folder:
        records = [_explained(each, cfg.explain, repeat, masks, metadata, folder) for each in targets]
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


def _explained(
    target: Target, cfg: Explain, repeat: int, masks: dict[str, Mask], metadata: dict[str, Any] | None, folder: Path
) -> dict[str, Any]:
    methods = saliency.methods(cfg.methods, target.size, cfg.occlusion_patch, cfg.occlusion_stride, target.hardware)
    return {
        "experiment": target.name,
        "repeat": repeat,
        "epoch": target.record["best_epoch"],
        **gallery.write(target, methods, cfg.images, masks, folder),
        "localisation": localization.measure(target, methods, cfg.masked_images, masks, repeat),
        "probes": probes.measure(target, cfg.centre, cfg.shortcut_ratio, metadata),
    }
