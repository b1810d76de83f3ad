"""report: one page from the artefacts, and a model card per experiment."""

import numpy as np

from xraylab import files, tables
from xraylab.data import augment
from xraylab.data.augment import Augmentation, Gray
from xraylab.model.names import built_by
from xraylab.params.config import ExperimentConfig, Params
from xraylab.params.images import BATCHWISE
from xraylab.paths import Paths
from xraylab.report import artefacts, dvc_plots, page, plot_tables, seen, study_facts, summary
from xraylab.report.artefacts import Artefacts
from xraylab.report.gallery import page as gallery
from xraylab.report.records import Spread, Tree
from xraylab.studies import comparison, presets

VIEWS = 5
ERASED = 0.449  # the level that a network takes for 0


def run(params: Params, paths: Paths) -> None:
    data = read(params, paths)
    html, cards = page.render(data), study_facts.cards(data)["cards"]
    with files.replacing_folder(paths.cards) as folder:
        for experiment, card in cards.items():
            text = study_facts.markdown(experiment, params.study.title, card)
            files.write_text(text, folder / f"{experiment}.md")
    with files.replacing_folder(paths.plots) as folder:
        dvc_plots.write(folder, paths.evaluation, data.summary, data.test_shares)
        plot_tables.write(folder, paths.evaluation, data.summary)
    with files.replacing_folder(paths.gallery) as folder:
        gallery.write(data, folder)
    files.write_text(html, paths.report)
    if shortcut := summary.shortcut_warning(data.audit, data.explained):
        print(f"warning: {summary.OPENING} {shortcut}")
    for warning in seen.warnings(data):
        print(f"warning: {seen.OPENING} {warning}")
    print(f"the report is {paths.report.relative_to(paths.root).as_posix()}: open it in a browser")
    print("to keep this state: git add --all && git commit")


def read(params: Params, paths: Paths) -> Artefacts:
    """Everything that the report shows. Errors: MissingError."""
    return artefacts.read(params, paths, built_by, _augmented, _published(params, paths), artefacts.explanation(paths))


def _published(params: Params, paths: Paths) -> Tree | None:
    if params.study.preset is None or not paths.evaluation.is_dir():
        return None
    preset = presets.read(params.study.preset)
    split = preset.data.get("split")
    table = tables.read(paths.split / f"{split}_data.csv" if split else paths.index)
    spread = artefacts.records(paths.evaluation / "spread.csv", Spread)
    counts = comparison.image_counts(table, params.data.classes)
    return comparison.published(preset, counts, comparison.mean_metrics(spread), files.read_yaml(paths.params))


def _augmented(cfg: ExperimentConfig, images: Gray) -> list[list[Gray]]:
    """Each image as the network gets it, and some draws of it; in training any image may lend its histogram."""
    augmentation, size = Augmentation(**cfg.augment.model_dump(exclude=set(BATCHWISE))), cfg.model.img_size
    return [_views(image, images, augmentation, size) for image in images] if augmentation.changes else []


def _views(image: Gray, images: Gray, augmentation: Augmentation, size: int) -> list[Gray]:
    sampled = augmentation.draw(augment.uniform([0], VIEWS))
    sampled = augment.match_histograms(sampled, np.stack([image] * VIEWS), lambda rows: images[rows], len(images))
    views = [augment.render(image, sampled, number, augmentation, size, ERASED) for number in range(VIEWS)]
    return [augment.resize(image, size), *views]
