"""Splits of images with several findings: every finding's share in every split, whole patients, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import refused
import small
from conftest import load

from xraylab import files, tables, targets
from xraylab.data.split import assignment, multi_label, strategies, stratification
from xraylab.errors import DataError
from xraylab.paths import Paths
from xraylab.stages import split as stage

FINDINGS = ["Infiltration", "Effusion", "Nodule", "Edema", "Fibrosis"]
PREVALENCE = (0.3, 0.2, 0.1, 0.05, 0.03)
SHARES = {"train": 0.8 * 0.85, "valid": 0.8 * 0.15, "test": 0.2}
NO_PAIRS = pd.DataFrame(columns=["id", "other", "change", "bits"])

Draw = Callable[[pd.DataFrame, int], list[pd.Series]]
DRAWS: dict[str, Draw] = {
    "random": lambda index, seed: strategies.at_random(index, test=0.2, valid=0.15, seed=seed),
    "hash": lambda index, seed: strategies.by_hash(index, test=0.2, valid=0.15, seed=seed),
    "sorted-id": lambda index, seed: strategies.by_sorted_id(index, test=0.2, valid=0.15, seed=seed),
    "folds": lambda index, seed: strategies.by_folds(index, folds=4, valid=0.15, seed=seed),
}


def people(seed: int, patients: int = 600, unknown: float = 0.0) -> pd.DataFrame:
    """Patients of 1 to 6 images whose findings go together; a share of the labels uncertain or missing."""
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 7, patients)
    prevalence = np.clip(np.array(PREVALENCE) * rng.gamma(0.7, 1 / 0.7, (patients, 1)), 0, 0.9).repeat(images, axis=0)
    labels = (rng.random(prevalence.shape) < prevalence).astype(float)
    labels[rng.random(labels.shape) < unknown] = np.nan
    labels[rng.random(labels.shape) < unknown] = targets.UNCERTAIN
    patient = np.arange(patients).repeat(images)
    names = [f"{number:04}_{image:05}.png" for image, number in enumerate(patient)]
    table = pd.DataFrame({"id": names, "path": names, "pixel_hash": names, "source": ""})
    table["patient"] = [f"p{number}" if number % 7 else "" for number in patient]
    return pd.concat([table, targets.to_columns(labels, FINDINGS)], axis=1)


def shares(index: pd.DataFrame, split: pd.Series, value: int = 1) -> dict[tuple[str, str], float]:
    """(finding, split) -> the fraction of the finding's positive (or, of 0, negative) images in that split."""
    return {
        (name, each): float((split[(index[f"y_{name}"] == value).fillna(False)] == each).mean())
        for name in FINDINGS
        for each in SHARES
    }


def furthest(found: dict[tuple[str, str], float]) -> float:
    return max(abs(found[name, split] - SHARES[split]) for name, split in found)


@pytest.mark.parametrize("seed", range(5))
def test_every_finding_has_its_share_of_every_split_and_by_hash_it_has_not(seed: int) -> None:
    index = people(seed)
    (stratified,), (hashed,) = DRAWS["random"](index, seed), DRAWS["hash"](index, seed)
    assert furthest(shares(index, stratified)) < 0.015
    assert furthest(shares(index, hashed)) > 0.045
    for split, share in SHARES.items():
        assert (stratified == split).mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_known_negatives_are_shared_out_too_where_labels_are_missing(seed: int) -> None:
    """Effusion is known of every tenth patient only, and absent in few of them."""
    index = people(seed, unknown=0.02)
    index["y_Effusion"] = (1 - index["y_Effusion"].where(index["y_Effusion"] >= 0)).astype("Int64")
    index.loc[~index["id"].str.contains("^...3"), "y_Effusion"] = pd.NA
    (split,) = DRAWS["random"](index, seed)
    for value in (0, 1):
        found, count = shares(index, split, value), (index["y_Effusion"] == value).sum()
        for name, share in SHARES.items():
            assert found["Effusion", name] == pytest.approx(share, abs=6 / count), (name, value)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("seed", range(3))
def test_a_patient_is_in_one_split(draw: str, seed: int) -> None:
    index = people(seed, unknown=0.1)
    for split in DRAWS[draw](index, seed):
        known = index["patient"] != ""
        assert set(split) == {"train", "valid", "test"}
        assert split[known].groupby(index["patient"][known]).nunique().max() == 1


@pytest.mark.parametrize("draw", DRAWS)
def test_the_seed_decides_and_the_order_of_the_rows_does_not(draw: str) -> None:
    index = people(0)
    shuffled = index.sample(frac=1, random_state=1)
    for one, again, other in zip(DRAWS[draw](index, 3), DRAWS[draw](shuffled, 3), DRAWS[draw](index, 4), strict=True):
        assert one.equals(again.sort_index())
        assert not one.equals(other)


def test_folds_are_alike_and_test_every_image_once() -> None:
    index = people(0)
    folds = DRAWS["folds"](index, 0)
    assert sorted(pd.concat([index["id"][split == "test"] for split in folds])) == sorted(index["id"])
    for split in folds:
        found = shares(index, split)
        assert [found[name, "test"] for name in FINDINGS] == pytest.approx([0.25] * 5, abs=0.035)
        assert [found[name, "valid"] for name in FINDINGS] == pytest.approx([0.75 * 0.15] * 5, abs=0.035)


def test_sorted_ids_test_the_first_patients() -> None:
    index = people(0).sample(frac=1, random_state=2)
    (split,) = DRAWS["sorted-id"](index, 0)
    tested = (split == "test").mean()
    assert 0.2 - 6 / len(index) < tested <= 0.2
    assert max(index["id"][split == "test"]) < min(index["id"][split != "test"])


def test_a_given_test_split_stays_and_validation_is_stratified() -> None:
    index = people(1)
    index["split"] = np.where(index["id"] < "0150", "test", "train")
    (split,) = strategies.as_given(index, valid=0.15, seed=0)
    assert ((split == "test") == (index["split"] == "test")).all()
    rest = index[split != "test"]
    found = shares(rest, split[rest.index])
    assert [found[name, "valid"] for name in FINDINGS] == pytest.approx([0.15] * 5, abs=0.02)


def test_each_source_is_tested_whole_and_validation_has_its_share_of_every_other() -> None:
    index = people(2, 900)
    index["source"] = np.array(["a", "b", "c10", "rare"])[index["id"].str[:4].astype(int) % 4]
    index.loc[index["source"] == "rare", "y_Edema"] = 0
    assert strategies.tested_sources(index) == ["a", "b", "c10"]
    for split, tested in zip(strategies.by_source(index, valid=0.2, seed=0), ["a", "b", "c10"], strict=True):
        assert set(index["source"][split == "test"]) == {tested}
        for _, rows in index[split != "test"].groupby("source"):
            assert (split[rows.index] == "valid").mean() == pytest.approx(0.2, abs=0.02)
            found = shares(rows, split[rows.index])
            assert found["Infiltration", "valid"] == pytest.approx(0.2, abs=0.05)


def test_sources_that_lack_a_finding_are_named() -> None:
    index = people(2, 300)
    index["source"] = np.where(index["id"] < "0200", "a", "b")
    index.loc[index["source"] == "b", ["y_Edema", "y_Nodule"]] = [0, 1]
    with pytest.raises(DataError) as caught:
        strategies.tested_sources(index)
    assert str(caught.value) == (
        "split.strategy leave-one-source-out: needs two sources or more with images that show each finding and images "
        "that do not; leave rare findings out of data.classes. There is:\n"
        "  - a: all\n"
        "  - b: none with Nodule absent, Edema present"
    )


def test_labels_are_placed_from_the_rarest_to_the_commonest() -> None:
    """Eight images show both findings and are the only ones that show the rare one: it is halved exactly."""
    labels = pd.DataFrame({"common": [True] * 40 + [False] * 40, "rare": [True] * 8 + [False] * 72})
    groups = pd.Series([f"{number:02}" for number in range(80)])
    for seed in range(20):
        split = stratification.iterative(groups, labels, (0.5, 0.5), np.random.default_rng(seed))
        assert [(split[labels[name]] == 1).sum() for name in labels] == [20, 4]
        assert (split == 1).sum() == 40


def test_groups_are_never_larger_than_what_a_split_lacks_by_more_than_one_group() -> None:
    """A greedy sharing out misses its target by less than the last group that it placed."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 30, 60)
    groups = pd.Series(np.arange(60).repeat(sizes).astype(str))
    split = stratification.iterative(groups, pd.DataFrame(index=groups.index), (0.7, 0.1, 0.2), rng)
    for number, share in enumerate((0.7, 0.1, 0.2)):
        assert abs((split == number).sum() - share * sizes.sum()) < 30


def test_no_share_moves_nothing() -> None:
    index = people(0)
    (split,) = strategies.at_random(index, test=0.2, valid=0, seed=0)
    assert set(split) == {"train", "test"}


def test_findings_that_leave_a_split_without_a_positive_or_a_negative_are_named_together() -> None:
    index = people(0)
    index["y_Edema"] = [1, 1] + [0] * (len(index) - 2)
    index["y_Nodule"] = pd.Series([0] + [1] * (len(index) - 1), dtype="Int64").where(index.index % 3 == 0, -1)
    with pytest.raises(DataError) as caught:
        DRAWS["random"](index, 0)
    assert caught.value.headline == multi_label.HEADLINE
    assert list(caught.value.problems) == [
        "Nodule absent: 1 images leave valid and test without one",
        "Edema present: 2 images leave valid and test without one",
    ]


def test_leakage_that_would_take_a_findings_last_images_is_refused() -> None:
    index = people(3, 100)
    index["split"] = np.where(index["id"] < "0030", "test", np.where(index["id"] < "0050", "valid", "train"))
    shown = (index["y_Fibrosis"] == 1).fillna(False) & (index["split"] == "train")
    index.loc[shown, "patient"] = index["patient"][index["split"] == "test"].iloc[-1]
    index.loc[index["split"] == "valid", "y_Fibrosis"] = [1, *[0] * ((index["split"] == "valid").sum() - 1)]
    with pytest.raises(DataError) as caught:
        split_of(index, strategy="given", valid_pct=None, test_pct=None, max_resolved=1.0)
    assert list(caught.value.problems) == [f"Fibrosis present: all training images ({shown.sum()})"]


def split_of(index: pd.DataFrame, **changes: object) -> assignment.Assignment:
    cfg = load(small.REPOSITORY)[0].split.model_copy(update=changes)
    return assignment.assign(index, NO_PAIRS, cfg)


def test_the_stage_writes_the_labels_of_every_finding_and_says_how_many_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = people(0, 300, unknown=0.1)
    study = small.study(tmp_path, lambda tree: several(tree, strategy="random"))
    paths = Paths(study)
    tables.write(index.assign(split=""), paths.index)
    tables.write(NO_PAIRS, paths.near_duplicates)
    stage.run(*load(study))
    summary = files.read_json(paths.split / "summary.json")
    printed = capsys.readouterr().out
    assert summary["task"] == "multi-label"
    for name in strategies.SPLITS:
        rows = tables.read(paths.split / f"{name}_data.csv")
        assert list(rows.columns) == ["id", "path", "label", "patient", "source", *targets.columns(FINDINGS)]
        values = targets.values(rows, FINDINGS)
        for column, finding in enumerate(FINDINGS):
            found = [(values[:, column] == value).sum() for value in (1, 0, -1)] + [np.isnan(values[:, column]).sum()]
            assert list(summary["splits"][name][finding].values()) == found
            assert f"{name:6} {finding:26} {found[0]:7} positive {found[1]:7} negative" in printed
        assert (summary["images"][name], summary["unused"]) == (len(rows), 0)
        assert f"{name:6} {len(rows)} images of {summary['patients'][name]} patients" in printed
    rare = summary["splits"]["valid"]["Fibrosis"]["positive"]
    (line,) = [line for line in printed.splitlines() if line.startswith("few positive valid images: ")]
    assert f"Fibrosis ({rare})" in line


def several(tree: small.Tree, **split: object) -> None:
    tree["data"].update(task="multi-label", classes=FINDINGS, positive=None)
    tree["data"]["demo"]["task"] = "multi-label"
    tree["loss"]["name"] = "bce"
    tree["evaluate"]["negative_class"] = None
    tree["split"].update(split)


@pytest.mark.parametrize("most", ["smallest", 20])
def test_a_limit_per_class_is_refused(tmp_path: Path, most: str | int) -> None:
    assert refused.problems(tmp_path, lambda tree: several(tree, max_train_per_class=most)) == [
        "split.max_train_per_class: an image with several findings is of no class: set it to all with "
        "data.task: multi-label"
    ]
