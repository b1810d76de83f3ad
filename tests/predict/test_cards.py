"""The model card of a run says what the study's files say."""

import hashlib
from pathlib import Path
from typing import Any

import finished_findings
import finished_study
import pytest
from conftest import Loaded

from xraylab import files, tables
from xraylab.errors import DataError, MissingError
from xraylab.inference.card import Estimate
from xraylab.paths import Paths
from xraylab.predict import cards
from xraylab.registry import weights as registry
from xraylab.report import study_facts
from xraylab.stages import evaluate


def evaluated(made: Loaded) -> Paths:
    """The study evaluated, with the hashes that the stage `index` would have written."""
    given, paths = made
    index = tables.read(paths.index)
    tables.write(
        index.assign(file_hash=[hashlib.sha256(name.encode()).hexdigest() for name in index["id"]]), paths.index
    )
    evaluate.run(given, paths)
    return paths


def test_it_holds_the_operating_points_and_metrics_of_the_evaluation(finished: Loaded) -> None:
    _, paths = finished
    card = cards.of_run(paths, "baseline/0")
    rows = tables.read(paths.evaluation / "operating_points.csv", ("experiment", "class", "point"))
    rows = rows[(rows["experiment"] == "baseline") & (rows["threshold"] != "")]
    assert [(each.class_, each.point, each.threshold) for each in card.operating_points] == [
        (row["class"], row["point"], float(row["threshold"])) for _, row in rows.iterrows()
    ]
    assert [each.specificity.value for each in card.operating_points] == rows["specificity"].astype(float).tolist()
    comparison = tables.read(paths.comparison).set_index(["experiment", "repeat", "checkpoint", "split"])
    row = comparison.loc[("baseline", 0, "best", "test")]
    for name, column in (("auroc", "auroc"), ("sensitivity", "recall"), ("accuracy", "accuracy")):
        assert card.metric(name).estimate.value == pytest.approx(float(row[column]))
    (calibration,) = files.read_json(paths.evaluation / "calibration.json")
    assert card.temperature == calibration["temperature"]


def test_it_counts_and_hashes_the_images_of_each_split(finished: Loaded) -> None:
    given, paths = finished
    card = cards.of_run(paths, "baseline")
    train = tables.read(paths.split / "train_data.csv")
    names = train["id"].map(tables.read(paths.index).set_index("id")["path"])
    lines = sorted(files.sha256(paths.raw / name) for name in names)
    assert card.data.training_sha256 == hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    assert card.data.splits["train"].images == len(train)
    assert card.data.splits["train"].patients == train["patient"].nunique() < len(train)
    assert (card.data.source, card.study, card.versions["torch"]) == ("demo", given.study.title, card.versions["torch"])
    assert card.starting_weights.pretrained == given.model.pretrained


def test_an_epoch_chosen_on_test_images_is_said(tmp_path: Path) -> None:
    made = finished_study.make(tmp_path, {"train": {"monitor": "test_accuracy"}}, keep=("baseline",))
    card = cards.of_run(evaluated(made), "baseline")
    assert (card.selection.on_test, card.selection.monitor) == (True, "test_accuracy")
    assert card.selection.description == "the epoch with the best accuracy on the test images"
    assert "Its epoch was selected on the test images: its metrics are too optimistic." in card.limits


def test_without_validation_images_there_are_no_operating_points(tmp_path: Path) -> None:
    images = {"train": {"Healthy": 8, "TB": 8}, "valid": {"Healthy": 0, "TB": 0}, "test": {"Healthy": 8, "TB": 8}}
    changes: dict[str, Any] = {"split": {"valid_pct": 0}, "train": {"monitor": "test_accuracy"}}
    card = cards.of_run(evaluated(finished_study.make(tmp_path, changes, images, keep=("baseline",))), "baseline")
    assert (card.temperature, card.data.splits["valid"].images) == (None, 0)
    assert {each.point for each in card.operating_points} <= {"0.5"}


def test_each_finding_has_points_a_temperature_and_metrics_of_its_own(tmp_path: Path) -> None:
    card = cards.of_run(evaluated(finished_findings.make(tmp_path, keep=("baseline",))), "baseline")
    assert (card.classes, card.multi_label) == (finished_findings.FINDINGS, True)
    assert {each.class_ for each in card.operating_points} == set(card.temperatures) == set(card.classes)
    assert all(isinstance(card.metric("auroc", name).estimate, Estimate) for name in card.classes)
    assert card.metric("auroc") == card.metric("auroc", "macro")
    assert card.data.splits["train"].patients == card.data.splits["train"].images // 2


def test_explanations_need_not_have_been_made_and_the_card_says_so(tmp_path: Path) -> None:
    paths = evaluated(finished_study.make(tmp_path, keep=("baseline",)))
    path = paths.explanation / "summary.json"
    explained = {"experiment": "baseline", "probes": {"warnings": ["baseline looks at a corner."]}}
    files.write_json(finished_study.NOT_EXPLAINED | {"experiments": [explained]}, path)
    with_explanation = cards.of_run(paths, "baseline").limits
    assert "baseline looks at a corner." in with_explanation
    assert study_facts.NOT_EXPLAINED not in with_explanation
    path.unlink()
    assert study_facts.NOT_EXPLAINED in cards.of_run(paths, "baseline").limits


def test_named_weights_bring_their_licence(tmp_path: Path) -> None:
    paths = evaluated(
        finished_study.make(
            tmp_path,
            {"model": {"pretrained": "txrv-densenet121-all", "img_size": 224}, "images": {"size": 224}},
            keep=("baseline",),
        )
    )
    weights = cards.of_run(paths, "baseline").starting_weights
    assert weights.licence == registry.read()["txrv-densenet121-all"].licence == "Apache-2.0"


def test_results_of_another_training_are_refused(tmp_path: Path) -> None:
    paths = evaluated(finished_study.make(tmp_path, keep=("baseline",)))
    path = paths.model("baseline", 0) / "model.json"
    files.write_json(files.read_json(path) | {"train_seconds": 1.0}, path)
    with pytest.raises(DataError, match="reports/evaluation is not of this training of baseline/0: `dvc repro`"):
        cards.of_run(paths, "baseline")


def test_a_study_that_is_not_evaluated_is_an_error_that_says_what_to_do(trained: Loaded) -> None:
    with pytest.raises(MissingError, match=r"summary\.json does not exist: `dvc repro` makes it"):
        cards.of_run(trained[1], "baseline")


@pytest.mark.parametrize(
    ("source", "shown"), [("/home/mueller/films", "films"), ("~/films", "films"), ("kaggle:a/films", "kaggle:a/films")]
)
def test_it_does_not_say_where_on_a_machine_the_images_lay(tmp_path: Path, source: str, shown: str) -> None:
    paths = evaluated(finished_study.make(tmp_path, {"data": {"source": source}}))
    data = cards.of_run(paths, "baseline").data
    assert data.source == shown
    assert data.description.startswith(f"{shown}; ")
