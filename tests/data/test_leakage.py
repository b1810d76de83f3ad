"""Patients and copies across splits: drawn as one unit, or resolved without touching the test split."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from conftest import load
from test_split import DRAWS, leaky_study, people

from xraylab import files, tables
from xraylab.data.audit import findings
from xraylab.data.split import leakage, strategies
from xraylab.errors import DataError
from xraylab.stages import split as stage

NO_PAIRS = pd.DataFrame(columns=["id", "other", "change", "bits"])


def copies(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The people of `test_split`, a tenth of whose images are copies of others, and pairs of near duplicates."""
    rng, index = np.random.default_rng(seed), people(seed)
    index["pixel_hash"] = np.where(rng.random(len(index)) < 0.1, rng.permutation(index["id"]), index["id"])
    one, other = (rng.choice(index["id"], 40) for _ in range(2))
    return index, pd.DataFrame({"id": one, "other": other, "change": "encoded", "bits": 7})[one != other]


def test_a_unit_is_a_patient_with_every_copy_of_its_pictures() -> None:
    index = pd.DataFrame(
        [("a", "p", "1"), ("b", "p", "2"), ("c", "q", "2"), ("d", "", "4"), ("e", "", "5"), ("f", "", "6")],
        columns=["id", "patient", "pixel_hash"],
    )
    near = pd.DataFrame({"id": ["c"], "other": ["d"], "change": "encoded", "bits": [3]})
    assert list(leakage.units(index, near)) == ["image d"] * 4 + ["image e", "image f"]
    assert list(leakage.units(index.iloc[::-1], near)) == ["image f", "image e"] + ["image d"] * 4


def test_without_copies_a_unit_is_what_was_drawn_before() -> None:
    index = people(0)
    assert leakage.units(index, NO_PAIRS).equals(strategies.groups(index))


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("seed", range(3))
def test_units_that_are_drawn_together_leak_nothing(draw: str, seed: int) -> None:
    index, near = copies(seed)
    whole = index.assign(patient=leakage.units(index, near))
    for split in DRAWS[draw](whole, seed):
        assert findings.across_splits(index, near, split) == []
    assert any(findings.across_splits(index, near, split) for split in DRAWS[draw](index, seed))  # as it would be


@pytest.mark.parametrize("seed", range(5))
def test_resolving_takes_out_all_that_leaks_and_nothing_of_the_test_split(seed: int) -> None:
    index, near = copies(seed)
    split = pd.Series(np.random.default_rng(seed).choice(["train", "valid", "test", "unused"], len(index)))
    unit = leakage.units(index, near)
    kept, removed = leakage.resolve(index, near, split, unit, most=1.0)
    assert findings.across_splits(index, near, kept) == []
    assert (kept == "test").equals(split == "test")
    assert set(removed["id"]) == set(index["id"][kept != split])
    assert dict(zip(removed["id"], removed["split"], strict=True)) == {
        name: before for name, before, after in zip(index["id"], split, kept, strict=True) if before != after
    }
    stayed = kept.set_axis(index["id"])[removed["copy_of"]]
    order = [leakage.PRIORITY.index(name) for name in stayed]
    assert all(at < leakage.PRIORITY.index(was) for at, was in zip(order, removed["split"], strict=True))
    for name in index["id"][kept.isin(["train", "valid"])]:  # nothing that could have stayed has left
        rest = split[(unit == unit[index["id"] == name].iloc[0]) & (split != "unused")]
        assert leakage.PRIORITY.index(kept[index["id"] == name].iloc[0]) == min(map(leakage.PRIORITY.index, rest))


def test_each_image_that_leaves_has_its_reason() -> None:
    index = pd.DataFrame(
        [
            ("t1", "p", "1"), ("t2", "", "2"), ("t3", "", "3"), ("v1", "q", "4"),
            ("patient", "p", "5"), ("same", "", "2"), ("near", "", "6"), ("further", "", "7"),
            ("of-v", "q", "8"), ("stays", "", "9"),
        ],
        columns=["id", "patient", "pixel_hash"],
    ).assign(label="A")  # fmt: skip
    split = pd.Series(["test"] * 3 + ["valid"] + ["train"] * 6)
    near = pd.DataFrame({"id": ["t3", "near"], "other": ["near", "further"], "change": "encoded", "bits": [5, 5]})
    _, removed = leakage.resolve(index, near, split, leakage.units(index, near), most=1.0)
    assert [tuple(row) for row in removed[["id", "reason", "copy_of"]].itertuples(index=False)] == [
        ("patient", "patient", "t1"),
        ("same", "duplicate", "t2"),
        ("near", "near-duplicate", "t3"),
        ("further", "linked", "t3"),
        ("of-v", "patient", "v1"),
    ]
    assert list(leakage.sentences(removed)) == [
        "2 training images show patients of another split",
        "1 training image is pixel for pixel the same as one of another split",
        "1 training image is a near duplicate of another split",
        "1 training image is linked through other copies to one of another split",
    ]


def test_the_stage_resolves_names_what_left_and_leaves_the_test_split_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = leaky_study(tmp_path, max_resolved=0.2)
    stage.run(*load(study))
    removed = tables.read(study / "data/split/removed.csv")
    assert set(removed["reason"]) == {"patient", "duplicate"}
    assert len(tables.read(study / "data/split/test_data.csv")) == 12
    assert sum(len(tables.read(study / f"data/split/{name}_data.csv")) for name in ("train", "valid")) == 46
    assert files.read_json(study / "data/split/audit.json") == []
    said = files.read_json(study / "data/split/summary.json")["removed"]
    printed = capsys.readouterr().out
    assert all(f"left out: {sentence}\n" in printed for sentence in said)
    assert "    TB/tb0020.png (" in printed
    assert ", duplicate of TB/tb0001.png)" in printed


def test_too_much_to_resolve_stops_the_study(tmp_path: Path) -> None:
    study = leaky_study(tmp_path, max_resolved=0.04)
    with pytest.raises(DataError) as caught:
        stage.run(*load(study))
    assert str(caught.value).startswith(
        "split.max_resolved: 2 images, 4.2 % of training and validation, repeat a picture or a patient of another "
        "split, and more than 4 % may not leave. Take split.strategy: random,"
    )
    assert not (study / "data/split").exists()


def test_a_class_that_would_lose_all_its_images_stops_the_study() -> None:
    index = pd.DataFrame(
        [("t", "p", "A"), ("u", "q", "B"), ("a", "p", "A"), ("b", "r", "B"), ("v", "s", "A"), ("w", "t", "B")],
        columns=["id", "patient", "label"],
    ).assign(pixel_hash=lambda table: table["id"])
    split = pd.Series(["test", "test", "train", "train", "valid", "valid"])
    with pytest.raises(DataError) as caught:
        leakage.resolve(index, NO_PAIRS, split, leakage.units(index, NO_PAIRS), most=1.0)
    assert caught.value.problems == ("A: all training images (1)",)


def test_sorted_id_that_cuts_through_patients_keeps_its_test_split(tmp_path: Path) -> None:
    study = leaky_study(tmp_path, on_leakage="resolve", max_resolved=0.5, valid_pct=0.3)
    small.edit(study, lambda tree: tree["split"].update(max_train_per_class=10))
    stage.run(*load(study))
    training = tables.read(study / "data/split/train_data.csv")
    assert training["label"].value_counts().to_dict() == {"Healthy": 10, "TB": 10}
    assert not set(training["id"]) & set(tables.read(study / "data/split/removed.csv")["id"])
