"""The splits: sorted-ID exactly as the tb study drew it, and what holds for every other strategy."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small
from conftest import load

from xraylab import files, tables
from xraylab.data.names import natural
from xraylab.data.split import strategies
from xraylab.errors import DataError
from xraylab.paths import Paths
from xraylab.stages import fetch, index, source
from xraylab.stages import split as stage

Draw = Callable[[pd.DataFrame, int], list[pd.Series]]
DRAWS: dict[str, Draw] = {
    "random": lambda index, seed: strategies.at_random(index, test=0.2, valid=0.15, seed=seed),
    "hash": lambda index, seed: strategies.by_hash(index, test=0.2, valid=0.15, seed=seed),
    "folds": lambda index, seed: strategies.by_folds(index, folds=4, valid=0.15, seed=seed),
}


def table(counts: dict[str, int], images_each: int = 1) -> pd.DataFrame:
    rows = [
        {
            "id": f"{label}/{label}{number}.png",
            "label": label,
            "patient": f"{label}{number // images_each}",
            "source": "",
        }
        for label, count in counts.items()
        for number in reversed(range(count))
    ]
    return pd.DataFrame(rows).assign(path=lambda t: t["id"], pixel_hash=lambda t: t["id"])


def test_tbx11k_gives_the_published_splits() -> None:
    index_ = table({"h": 3800, "tb": 800})
    (split,) = strategies.by_sorted_id(index_, test=0.2, valid=0, seed=0)
    assert split.groupby(index_["label"]).value_counts().to_dict() == {
        ("h", "test"): 760,
        ("h", "train"): 3040,
        ("tb", "test"): 160,
        ("tb", "train"): 640,
    }
    summary = strategies.summarize(index_, split)["splits"]
    assert summary["test"]["h"] == {"images": 760, "first": "h0.png", "last": "h759.png"}
    assert summary["train"]["tb"] == {"images": 640, "first": "tb160.png", "last": "tb799.png"}
    assert summary["valid"]["tb"] == {"images": 0, "first": None, "last": None}


@pytest.mark.parametrize(("fraction", "count", "expected"), [(0.29, 100, 29), (0.2, 9, 1), (0.1, 30, 3), (0.7, 10, 7)])
def test_a_share_is_rounded_down_in_decimal_arithmetic(fraction: float, count: int, expected: int) -> None:
    assert strategies.share(fraction, count) == expected


def test_the_test_split_is_the_first_in_natural_order_whatever_the_row_order() -> None:
    index_ = table({"h": 50, "tb": 25}).sample(frac=1, random_state=3)
    (split,) = strategies.by_sorted_id(index_, test=0.2, valid=0.2, seed=0)
    tested = sorted(index_["id"][split == "test"], key=natural)
    assert tested == [f"h/h{n}.png" for n in range(10)] + [f"tb/tb{n}.png" for n in range(5)]


@pytest.mark.parametrize("seed", range(5))
def test_validation_takes_whole_patients_stratified(seed: int) -> None:
    index_ = table({"h": 300, "tb": 90}, images_each=3)
    (split,) = strategies.by_sorted_id(index_, test=0.2, valid=0.15, seed=seed)
    rest = index_[split != "test"]
    assert split[rest.index].groupby(rest["patient"]).nunique().max() == 1
    for label, rows in rest.groupby("label"):
        share = (split[rows.index] == "valid").mean()
        assert 0.15 - 3 / len(rows) <= share <= 0.15 + 1 / len(rows), label


def test_the_seed_moves_validation_alone() -> None:
    index_ = table({"h": 100, "tb": 50})
    first, again, other = (strategies.by_sorted_id(index_, test=0.2, valid=0.15, seed=seed)[0] for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)
    assert (first == "test").equals(other == "test")


def test_a_patient_with_two_classes_is_not_divided_between_training_and_validation() -> None:
    index_ = table({"h": 40, "tb": 40}, images_each=2)
    index_["patient"] = index_["patient"].str.extract(r"(\d+)")[0]
    (split,) = strategies.by_sorted_id(index_, test=0.2, valid=0.3, seed=1)
    rest = index_[split != "test"]
    assert split[rest.index].groupby(rest["patient"]).nunique().max() == 1


def test_classes_with_too_few_images_are_named_together() -> None:
    with pytest.raises(DataError) as caught:
        strategies.by_sorted_id(table({"a": 4, "b": 50, "c": 2}), test=0.2, valid=0.15, seed=0)
    assert str(caught.value) == (
        "a class has fewer images than the split needs (split.test_pct: 0.2, split.valid_pct: 0.15); "
        "add images or change the fractions:\n"
        "  - a: 4 images leave test without one\n"
        "  - c: 2 images leave valid and test without one"
    )


def people(seed: int) -> pd.DataFrame:
    """Patients of 1 to 6 images in one, two or three unequal classes, some unknown."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(250):
        known = f"p{patient}" if patient % 5 else ""
        own = rng.choice(["a", "b", "c"], size=rng.integers(1, 4), p=[0.6, 0.3, 0.1])
        rows += [
            {"id": f"{label}/{patient}-{number}.png", "label": label, "patient": known, "source": ""}
            for number, label in enumerate(rng.choice(own, size=rng.integers(1, 7)))
        ]
    return pd.DataFrame(rows).assign(path=lambda t: t["id"], pixel_hash=lambda t: t["id"])


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("seed", range(5))
def test_a_patient_is_never_on_two_splits(draw: str, seed: int) -> None:
    index_ = people(seed)
    for split in DRAWS[draw](index_, seed):
        known = index_["patient"] != ""
        assert set(split) == {"train", "valid", "test"}
        assert split[known].groupby(index_["patient"][known]).nunique().max() == 1


@pytest.mark.parametrize("draw", DRAWS)
def test_the_seed_decides_and_the_order_of_the_rows_does_not(draw: str) -> None:
    index_ = people(0)
    shuffled = index_.sample(frac=1, random_state=1)
    for one, again, other in zip(DRAWS[draw](index_, 3), DRAWS[draw](shuffled, 3), DRAWS[draw](index_, 4), strict=True):
        assert one.equals(again.sort_index())
        assert not one.equals(other)


@pytest.mark.parametrize("seed", range(5))
def test_random_splits_have_their_share_of_every_class(seed: int) -> None:
    index_ = people(seed)
    (split,) = DRAWS["random"](index_, seed)
    assert (split == "test").mean() == pytest.approx(0.2, abs=0.01)
    assert (split == "valid").mean() == pytest.approx(0.8 * 0.15, abs=0.01)
    for label, rows in index_.groupby("label"):
        assert (split[rows.index] == "test").mean() == pytest.approx(0.2, abs=0.08), label


def test_many_small_strata_are_tested_too() -> None:
    """Every patient has a set of classes of its own; a share of each, rounded down, would be nobody."""
    rows = [
        {"id": f"{label}/{number}-{label}.png", "label": label, "patient": f"p{number}"}
        for number in range(1, 64)
        for bit, label in enumerate("abcdef")
        if number >> bit & 1
    ]
    (split,) = DRAWS["random"](pd.DataFrame(rows), 0)
    assert (split == "test").mean() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_every_image_is_tested_in_one_fold_and_the_folds_are_alike(seed: int) -> None:
    index_ = people(seed)
    drawn = DRAWS["folds"](index_, seed)
    tested = pd.concat([index_["id"][split == "test"] for split in drawn])
    assert sorted(tested) == sorted(index_["id"])
    for split in drawn:
        assert (split == "valid").sum() / (split != "test").sum() == pytest.approx(0.15, abs=0.01)
        for label, rows in index_.groupby("label"):
            assert (split[rows.index] == "test").mean() == pytest.approx(1 / 4, abs=0.03), label


@pytest.mark.parametrize("seed", range(3))
def test_nobody_moves_under_hash_when_images_are_added_or_removed(seed: int) -> None:
    index_ = people(seed)
    fewer = index_.sample(frac=0.6, random_state=seed)
    (split,) = DRAWS["hash"](index_, seed)
    (before,) = DRAWS["hash"](fewer, seed)
    assert before.equals(split[fewer.index])


def test_hash_gives_shares_of_patients_on_average() -> None:
    index_ = table({"h": 4000})
    (split,) = strategies.by_hash(index_, test=0.2, valid=0.15, seed=0)
    assert (split == "test").mean() == pytest.approx(0.2, abs=0.02)
    assert (split == "valid").mean() == pytest.approx(0.8 * 0.15, abs=0.02)


def test_a_class_of_too_few_patients_for_the_folds_is_named() -> None:
    index_ = table({"a": 30, "b": 9, "c": 2}, images_each=3)
    with pytest.raises(DataError) as caught:
        strategies.by_folds(index_, folds=4, valid=0.2, seed=0)
    assert str(caught.value) == (
        "a class has fewer patients than split.folds; an image without a known patient counts as one "
        "(split.folds: 4); add images or lower split.folds:\n"
        "  - b: 3 patients cannot fill 4 folds\n"
        "  - c: 1 patients cannot fill 4 folds"
    )


def test_every_fold_that_leaves_a_split_empty_is_named() -> None:
    with pytest.raises(DataError) as caught:
        strategies.by_folds(table({"a": 40, "b": 3}), folds=3, valid=0.1, seed=0)
    assert str(caught.value) == (
        "a class has fewer images than the split needs (split.folds: 3, split.valid_pct: 0.1); "
        "add images or lower split.folds:\n"
        "  - fold 0, b: 3 images leave valid without one\n"
        "  - fold 1, b: 3 images leave valid without one\n"
        "  - fold 2, b: 3 images leave valid without one"
    )


@pytest.mark.parametrize("draw", ["random", "hash"])
def test_drawing_names_the_classes_that_leave_a_split_empty(draw: str) -> None:
    with pytest.raises(DataError) as caught:
        DRAWS[draw](table({"a": 400, "b": 1}), 0)
    assert str(caught.value) == (
        "a class has fewer images than the split needs (split.test_pct: 0.2, split.valid_pct: 0.15); "
        "add images or change the fractions:\n"
        "  - b: 1 images leave valid and test without one"
    )


@pytest.mark.parametrize(
    ("per_class", "left"), [("all", (96, 48)), ("smallest", (48, 48)), (60, (60, 48)), (7, (7, 7))]
)
def test_training_images_are_limited_and_no_others(per_class: int | str, left: tuple[int, int]) -> None:
    index_ = table({"h": 120, "tb": 60})
    (whole,) = strategies.by_sorted_id(index_, test=0.2, valid=0, seed=0)
    split = strategies.limit_training(index_, whole, per_class, seed=0)
    training = index_["label"][split == "train"].value_counts()
    assert (training["h"], training["tb"]) == left
    assert split[whole != "train"].equals(whole[whole != "train"])
    assert strategies.summarize(index_, split)["unused"] == {"h": 96 - left[0], "tb": 48 - left[1]}


def test_which_training_images_are_left_out_depends_on_the_seed_alone() -> None:
    index_ = table({"h": 120, "tb": 60})
    (whole,) = strategies.by_sorted_id(index_, test=0.2, valid=0.1, seed=0)
    one, other = (strategies.limit_training(index_, whole, "smallest", seed=seed) for seed in (0, 1))
    shuffled = index_.sample(frac=1, random_state=1)
    assert one.equals(strategies.limit_training(shuffled, whole[shuffled.index], "smallest", seed=0).sort_index())
    assert not one.equals(other)


def leaky_study(folder: Path, **changes: Any) -> Path:
    """Patient h0040 is tested and trained on, and so is one picture."""
    images = small.two_classes(folder / "images")
    rows = [f"{path.relative_to(images).as_posix()},{path.stem}" for path in sorted(images.rglob("*.png"))]
    rows[0] = "Healthy/h0001.png,h0040"
    (images / "patients.csv").write_text("\n".join(["image,patient", *rows]) + "\n")
    (images / "TB/tb0020.png").write_bytes((images / "TB/tb0001.png").read_bytes())
    study = small.study(folder / "study", small.use(images, ["Healthy", "TB"], "TB"))
    small.edit(study, lambda tree: tree["split"].update(changes))
    for each in (source, fetch, index):
        each.run(*load(study))
    return study


def test_leakage_stops_the_study_and_is_named(tmp_path: Path) -> None:
    study = leaky_study(tmp_path, on_leakage="stop")
    with pytest.raises(DataError) as caught:
        stage.run(*load(study))
    patient, picture = caught.value.problems
    assert caught.value.headline == (
        "the splits leak into one another, so the test would not be independent. Take out what is named here; or set "
        "split.on_leakage to resolve, which leaves copies out of training and validation, or to accept, which the "
        "report will say:"
    )
    assert re.fullmatch(r"1 patient has images in two splits: h0040 \((train|valid)\+test\)", patient)
    assert re.fullmatch(
        r"1 picture lies in two splits, pixel for pixel the same: "
        r"TB/tb0001.png = TB/tb0020.png \((train|valid)\+test\)",
        picture,
    )
    assert not (study / "data/split").exists()


def test_the_stage_writes_three_tables_and_says_who_is_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = leaky_study(tmp_path, on_leakage="accept")
    stage.run(*load(study))
    drawn = {name: tables.read(study / f"data/split/{name}_data.csv") for name in strategies.SPLITS}
    assert {name: len(split) for name, split in drawn.items()} == {"train": 41, "valid": 7, "test": 12}
    assert list(drawn["test"].columns) == ["id", "path", "label", "patient", "source"]
    printed = capsys.readouterr().out
    assert "test   TB                    4  tb0001.png to tb0004.png" in printed
    assert "accepted: 1 patient has images in two splits: h0040 (" in printed
    summary = files.read_json(study / "data/split/summary.json")
    assert summary["splits"]["test"]["Healthy"] == {"images": 8, "first": "h0001.png", "last": "h0008.png"}
    leaks = files.read_json(study / "data/split/audit.json")
    assert [(leak["kind"], leak["severity"], leak["fold"]) for leak in leaks] == [
        ("patients_across_splits", "accepted", None),
        ("duplicates_across_splits", "accepted", None),
    ]


def drawn_study(folder: Path, index_: pd.DataFrame, **changes: Any) -> Paths:
    """A study whose index is `index_`, after the stage `split`."""
    study = small.study(folder, lambda tree: tree["split"].update(changes))
    paths = Paths(study)
    tables.write(index_.assign(split=""), paths.index)
    tables.write(pd.DataFrame(columns=["id", "other", "change", "bits"]), paths.near_duplicates)
    stage.run(*load(study))
    return paths


def test_each_fold_has_its_tables_and_a_repeat_finds_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index_ = people(0)
    paths = drawn_study(tmp_path / "study", index_, strategy="folds", folds=3, test_pct=None, max_train_per_class=20)
    assert sorted(path.name for path in paths.split.iterdir()) == [
        "audit.json",
        "fold-0",
        "fold-1",
        "fold-2",
        "removed.csv",
        "summary.json",
    ]
    assert (paths.folds, paths.split_of(4)) == (3, paths.split / "fold-1")
    expected = strategies.by_folds(index_, folds=3, valid=0.15, seed=0)
    tested = [list(tables.read(paths.split_of(repeat) / "test_data.csv")["id"]) for repeat in (0, 1, 2, 3)]
    assert tested == [list(index_["id"][split == "test"]) for split in (*expected, expected[0])]
    summary = files.read_json(paths.split / "summary.json")
    assert (summary["strategy"], summary["folds"], len(summary["each_fold"])) == ("folds", 3, 3)
    assert {key: summary[key] for key in ("splits", "unused")} == {
        key: summary["each_fold"][0][key] for key in ("splits", "unused")
    }
    for part, split in zip(summary["each_fold"], expected, strict=True):
        training = index_["label"][split == "train"].value_counts()
        assert part["unused"] == {label: training[label] - 20 for label in part["unused"]}
    printed = capsys.readouterr().out
    assert f"fold 2\ntrain  {index_['label'].iloc[0]:16}     20" in printed
    assert f"unused a                {summary['unused']['a']:6}\n" in printed


def test_a_split_without_folds_is_every_repeats(tmp_path: Path) -> None:
    paths = drawn_study(tmp_path / "study", people(0), strategy="random")
    assert (paths.folds, paths.split_of(7)) == (None, paths.split)
    summary = files.read_json(paths.split / "summary.json")
    assert (summary["folds"], summary["each_fold"], summary["unused"]) == (None, [], {"a": 0, "b": 0, "c": 0})
