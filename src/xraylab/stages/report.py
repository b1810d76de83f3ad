"""report: one page from the artefacts, and a model card per experiment."""

from typing import Any

import numpy as np

from xraylab import files, tables
from xraylab.data import augment
from xraylab.data.augment import Augmentation, Gray
from xraylab.model.names import built_by
from xraylab.params.config import Params, read_plan
from xraylab.params.images import BATCHWISE
from xraylab.params.train import phases
from xraylab.paths import Paths
from xraylab.report import (
    answer,
    cards,
    checklist,
    comparison,
    curves,
    experiments,
    explanation,
    external,
    facts,
    images,
    made,
    page,
    pair,
    participants,
    pictures,
    plots,
    rows,
    search,
    shortcuts,
    verdict,
)
from xraylab.report.names import names
from xraylab.report.records import TEXT, Record, records
from xraylab.report.split import sentences
from xraylab.studies import beside, presets

SIDES = ("train", "valid", "test")
AUGMENTED_CLASSES, VIEWS = 2, 5
ERASED = 0.449  # the level that a network takes for 0
EVALUATED = ("figures", "spread", "operating_points", "subgroups", "epochs", "demographics")
CONTENTS = {
    "data": "Data",
    "curves": "Learning curves",
    "comparison": "Comparison",
    "roc": "ROC, precision-recall and decision curves",
    "experiments": "Experiment by experiment",
    "pictures": "Pictures",
    "pair": "The two best",
    "explain": "Is it right for the right reason?",
    "external": "External test",
    "search": "The search",
    "published": "The published study",
    "made": "How it was made",
    "checklist": "Checklists",
    "cards": "Model cards",
}


def run(params: Params, paths: Paths) -> None:
    summary = files.read_json(paths.evaluation / "summary.json")
    split = files.read_json(paths.split / "summary.json")
    audit, index = files.read_json(paths.audit), tables.read(paths.index)
    read = {name: records(tables.read(paths.evaluation / f"{name}.csv", TEXT)) for name in EVALUATED}
    means = {(row["experiment"], row["checkpoint"], row["side"]): row for row in summary["means"]}
    totals, tested = _totals(split["sides"]), _tested(split, params.study.repeats)
    known = _experiments(paths, summary, totals)
    explained = files.read_json(paths.explanation / "summary.json")
    shortcut = shortcuts.warning(audit, explained)
    made_cards = {
        each["experiment"]: cards.card(
            params,
            summary,
            audit,
            each["plan"],
            each["runs"],
            read["figures"],
            built_by(each["plan"].model.arch),
            shortcuts.of_experiment(explained, each["experiment"]),
        )
        for each in known
    }
    found = {
        "search": _search(paths),
        "external": external.section(_external(paths), read["figures"], summary["predictions"]),
        "published": _published(params.study.preset, paths, read["spread"]),
        "explained": explanation.section(explained, paths.explanation),
        **_pictures(params, paths, summary, index, read),
    }
    html = page.render(
        names(list(index["id"]), params.report.hide_names),
        params=params,
        params_text=paths.params.read_text(encoding="utf-8"),
        summary=summary,
        contents={key: value for key, value in CONTENTS.items() if found.get(key, True)},
        shortcut=shortcut,
        headline=verdict.headline(summary, params.evaluate.confidence),
        tests=verdict.paragraph(summary, params.evaluate.confidence),
        f1_name=answer.f1_name(summary),
        answer=answer.sentences(summary, means, tested),
        forest=curves.forest(summary, read["figures"]),
        columns=comparison.COLUMNS,
        comparison=comparison.rows(summary, means, read["figures"], read["spread"]),
        learning_curves=curves.learning(paths.evaluation, summary, read["figures"], read["epochs"]),
        rocs=curves.rocs(paths.evaluation, summary, _shares(split)),
        net_benefit=curves.net_benefit(paths.evaluation, summary),
        lines=curves.key(summary, means),
        sections=_sections(paths, summary, read, known),
        group_figures=experiments.GROUPED,
        experiments=known,
        resolved=rows.resolved([each["plan"].model_dump() for each in known]),
        made=_made(paths, summary),
        checklists=checklist.filled(
            facts.study(params, summary, audit, totals, found["external"], built_by)
            | participants.facts(read["demographics"], read["subgroups"])
        ),
        cards=made_cards,
        split=split,
        totals=totals,
        tested=tested,
        audit=audit,
        split_by=sentences(params.split),
        flow=participants.flow(audit, split["removed"], read["demographics"]),
        people=participants.table(read["demographics"]),
        leaks=files.read_json(paths.split / "audit.json"),
        removed=tables.read(paths.split / "removed.csv").to_dict("records"),
        method_names=explanation.METHODS,
        augmented=_augmented(paths, known),
        **found,
        **curves.data(index, params.data.classes, split),
    )
    with files.replacing_folder(paths.cards) as folder:
        for experiment, card in made_cards.items():
            files.write_text(cards.markdown(experiment, params.study.title, card), folder / f"{experiment}.md")
    with files.replacing_folder(paths.plots) as folder:
        plots.write(folder, paths.evaluation, summary, _shares(split))
    files.write_text(html, paths.report)
    if shortcut:
        print(f"warning: {shortcuts.OPENING} {shortcut}")
    print(f"the report is {paths.report.relative_to(paths.root).as_posix()}: open it in a browser")
    print("to keep this state: git add --all && git commit")


def _published(name: str | None, paths: Paths, spread: list[Record]) -> dict[str, Any] | None:
    if name is None:
        return None
    preset = presets.read(name)
    side = preset.data.get("side")
    table = tables.read(paths.split / f"{side}_data.csv") if side else tables.read(paths.index)
    counts = table["label"].value_counts().to_dict()
    images = {label: counts.get(label, 0) for label in preset.data["images"] or {}}
    return beside.published(preset, images, beside.measured(spread), files.read_yaml(paths.params))


def _pictures(
    params: Params, paths: Paths, summary: dict[str, Any], index: Any, read: dict[str, list[Record]]
) -> dict[str, Any]:
    """Images of each class, of the best experiment, and of the two best where there are two."""
    shown = pictures.showing(paths.cache)
    found: dict[str, Any] = {
        "class_samples": pictures.of_classes(index, params.data.classes, shown),
        "samples": pictures.of_test(paths.evaluation, summary, shown),
        "pair": None,
    }
    if len(summary["top_two"]) > 1:
        alone = pictures.of_pair(paths.evaluation, summary, shown)
        repeat = params.study.repeats[0]
        found["pair"] = {"rows": pair.table(summary, read["figures"], read["spread"]), "alone": alone, "repeat": repeat}
    return found


def _external(paths: Paths) -> list[dict[str, Any]]:
    return [files.read_json(path) for path in sorted(paths.external.glob("*.json"))]


def _search(paths: Paths) -> dict[str, Any] | None:
    """What the last search found; None where there was none."""
    if not (paths.search / "trials.csv").is_file():
        return None
    return search.section(tables.read(paths.search / "trials.csv"), files.read_json(paths.search / "importance.json"))


def _augmented(paths: Paths, known: list[dict[str, Any]]) -> list[tuple[list[str], list[list[str]]]]:
    """The experiments that augment alike, and one training image of each of the first classes with some draws."""
    pixels = np.load(paths.cache / "images.npy", mmap_mode="r")
    index = tables.read(paths.split_of(0) / "train_data.csv")
    row_of = {name: row for row, name in enumerate(tables.read(paths.cache / "rows.csv")["id"])}
    chosen = [row_of[name] for name in index.groupby("label", sort=False)["id"].first()[:AUGMENTED_CLASSES]]
    alike: dict[tuple[Augmentation, int], list[str]] = {}
    for each in known:
        plan = each["plan"]
        augmentation = Augmentation(**plan.augment.model_dump(exclude=set(BATCHWISE)))
        if augmentation.changes:
            alike.setdefault((augmentation, plan.model.pixels), []).append(each["experiment"])
    pictures = pixels[chosen]
    return [(names, [_views(picture, pictures, *how) for picture in pictures]) for how, names in alike.items()]


def _views(image: Gray, pictures: Gray, augmentation: Augmentation, size: int) -> list[str]:
    """The image, and some draws of it; in training any image may lend its histogram, here one of `pictures`."""
    drawn = augmentation.draw(augment.uniform([0], VIEWS))
    drawn = augment.match_histograms(drawn, np.stack([image] * VIEWS), lambda places: pictures[places], len(pictures))
    views = [augment.shown(image, drawn, number, augmentation, size, ERASED) for number in range(VIEWS)]
    return [images.data_uri(view) for view in [augment.resized(image, size), *views]]


def _totals(sides: dict[str, Any]) -> dict[str, int]:
    return {side: sum(part["images"] for part in sides[side].values()) for side in SIDES}


def _shares(split: dict[str, Any]) -> dict[str, float]:
    """Of the test images, each class's share; with folds, of the first one's."""
    test = max(_totals(split["sides"])["test"], 1)
    return {label: part["images"] / test for label, part in split["sides"]["test"].items()}


def _tested(split: dict[str, Any], repeats: list[int]) -> int:
    """How many images are tested; with folds, in all of those that the repeats test."""
    folds = split["folds"]
    parts = [split] if folds is None else [split["each_fold"][fold] for fold in {repeat % folds for repeat in repeats}]
    return sum(_totals(part["sides"])["test"] for part in parts)


def _experiments(paths: Paths, summary: dict[str, Any], totals: dict[str, int]) -> list[dict[str, Any]]:
    """What was trained: each experiment's plan, what it changes, its runs and how fast they were."""
    runs = curves.by_experiment(summary)
    plans = {experiment: read_plan(paths.plan(experiment)) for experiment in runs}
    baseline = plans[summary["baseline"]].model_dump()
    return [
        {
            "experiment": experiment,
            "plan": plans[experiment],
            "schedule": ", ".join(dict.fromkeys(part.schedule for part in phases(plans[experiment].train))),
            "changes": rows.changes(plans[experiment].model_dump(), baseline),
            "runs": own,
            "speed": [made.speed(run, totals["train"]) for run in own],
        }
        for experiment, own in runs.items()
    ]


def _sections(
    paths: Paths, summary: dict[str, Any], read: dict[str, list[Record]], known: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    calibrations = files.read_json(paths.evaluation / "calibration.json")
    return [
        experiments.section(summary, read, calibrations, each["experiment"])
        | {
            "changes": each["changes"],
            "chart": curves.calibration(paths.evaluation, summary, each["experiment"]),
        }
        for each in known
    ]


def _made(paths: Paths, summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "commit": made.commit(paths.root),
        "index": files.sha256(paths.index),
        "machines": made.machines(summary["runs"]),
        "versions": made.versions(),
    }
