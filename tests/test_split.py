"""The sorted-ID split, exactly as the tb study drew it, and its validation side."""

from pathlib import Path

import pandas as pd
import pytest
import small
from conftest import load

from xraylab import files, tables
from xraylab.data import layout, split
from xraylab.errors import DataError
from xraylab.stages import fetch, index, source
from xraylab.stages import split as stage


def table(counts: dict[str, int], images_each: int = 1) -> pd.DataFrame:
    rows = [
        {"id": f"{label}/{label}{number}.png", "label": label, "patient": f"{label}{number // images_each}"}
        for label, count in counts.items()
        for number in reversed(range(count))
    ]
    return pd.DataFrame(rows).assign(path=lambda t: t["id"], pixel_hash=lambda t: t["id"])


def test_tbx11k_gives_the_published_sides() -> None:
    index_ = table({"h": 3800, "tb": 800})
    side = split.by_sorted_id(index_, test=0.2, valid=0, seed=0)
    assert side.groupby(index_["label"]).value_counts().to_dict() == {
        ("h", "test"): 760,
        ("h", "train"): 3040,
        ("tb", "test"): 160,
        ("tb", "train"): 640,
    }
    summary = split.summary(index_, side)
    assert summary["test"]["h"] == {"images": 760, "first": "h0.png", "last": "h759.png"}
    assert summary["train"]["tb"] == {"images": 640, "first": "tb160.png", "last": "tb799.png"}
    assert summary["valid"]["tb"] == {"images": 0, "first": None, "last": None}


@pytest.mark.parametrize(("fraction", "count", "expected"), [(0.29, 100, 29), (0.2, 9, 1), (0.1, 30, 3), (0.7, 10, 7)])
def test_a_share_is_rounded_down_in_decimal_arithmetic(fraction: float, count: int, expected: int) -> None:
    assert split.share(fraction, count) == expected


def test_the_test_side_is_the_first_in_natural_order_whatever_the_row_order() -> None:
    index_ = table({"h": 50, "tb": 25}).sample(frac=1, random_state=3)
    side = split.by_sorted_id(index_, test=0.2, valid=0.2, seed=0)
    tested = sorted(index_["id"][side == "test"], key=layout.natural)
    assert tested == [f"h/h{n}.png" for n in range(10)] + [f"tb/tb{n}.png" for n in range(5)]


@pytest.mark.parametrize("seed", range(5))
def test_validation_takes_whole_patients_stratified(seed: int) -> None:
    index_ = table({"h": 300, "tb": 90}, images_each=3)
    side = split.by_sorted_id(index_, test=0.2, valid=0.15, seed=seed)
    rest = index_[side != "test"]
    assert side[rest.index].groupby(rest["patient"]).nunique().max() == 1
    for label, rows in rest.groupby("label"):
        share = (side[rows.index] == "valid").mean()
        assert 0.15 - 3 / len(rows) <= share <= 0.15 + 1 / len(rows), label


def test_the_seed_moves_validation_alone() -> None:
    index_ = table({"h": 100, "tb": 50})
    first, again, other = (split.by_sorted_id(index_, test=0.2, valid=0.15, seed=seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)
    assert (first == "test").equals(other == "test")


def test_a_patient_with_two_classes_is_not_divided_between_training_and_validation() -> None:
    index_ = table({"h": 40, "tb": 40}, images_each=2)
    index_["patient"] = index_["patient"].str.extract(r"(\d+)")[0]
    side = split.by_sorted_id(index_, test=0.2, valid=0.3, seed=1)
    rest = index_[side != "test"]
    assert side[rest.index].groupby(rest["patient"]).nunique().max() == 1


def test_patients_and_identical_images_on_two_sides_are_found() -> None:
    index_ = table({"h": 10, "tb": 10})
    index_["patient"] = index_["patient"].replace({"h0": "x", "h9": "x", "tb0": ""})
    index_["pixel_hash"] = index_["pixel_hash"].replace({"tb/tb0.png": "same", "tb/tb9.png": "same"})
    side = split.by_sorted_id(index_, test=0.2, valid=0, seed=0)
    assert split.shared_patients(index_, side) == [{"patient": "x", "sides": ["train", "test"], "images": 2}]
    assert split.shared_duplicates(index_, side) == [["tb/tb9.png", "tb/tb0.png"]]


def test_classes_with_too_few_images_are_named_together() -> None:
    with pytest.raises(DataError) as caught:
        split.by_sorted_id(table({"a": 4, "b": 50, "c": 2}), test=0.2, valid=0.15, seed=0)
    assert str(caught.value) == (
        "a class has fewer images than the split needs (split.test: 0.2, split.valid: 0.15); "
        "add images or change the fractions:\n"
        "  - a: 4 images leave test without one\n"
        "  - c: 2 images leave valid and test without one"
    )


def test_the_stage_writes_three_tables_and_says_who_is_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = small.two_classes(tmp_path / "images")
    rows = [f"{path.relative_to(images).as_posix()},{path.stem}" for path in sorted(images.rglob("*.png"))]
    rows[0] = "Healthy/h0001.png,h0040"
    (images / "patients.csv").write_text("\n".join(["image,patient", *rows]) + "\n")
    study = small.study(tmp_path / "study", small.use(images, ["Healthy", "TB"], "TB"))
    for each in (source, fetch, index, stage):
        each.run(*load(study))
    sides = {name: tables.read(study / f"data/split/{name}_data.csv") for name in split.SIDES}
    assert {name: len(side) for name, side in sides.items()} == {"train": 41, "valid": 7, "test": 12}
    assert list(sides["test"].columns) == ["id", "path", "label", "patient"]
    printed = capsys.readouterr().out
    assert "test   TB                    4  tb0001.png to tb0004.png" in printed
    assert "warning: 1 patients have images on two sides, so the test is not independent: h0040 (" in printed
    summary = files.read_json(study / "data/split/summary.json")
    assert summary["sides"]["test"]["Healthy"] == {"images": 8, "first": "h0001.png", "last": "h0008.png"}
    assert [row["patient"] for row in summary["shared_patients"]] == ["h0040"]
