"""split.strategy leave-one-source-out: each repeat tests the images of one source."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import finished_study
import numpy as np
import pandas as pd
import pytest
import small
from conftest import load, run
from sklearn import metrics
from statistics_samples import config, drawn
from test_several_sources import made, write

from xraylab import files, tables
from xraylab.data.dataloaders import XrayDataLoaders
from xraylab.data.sampling import EpochSampler
from xraylab.data.split import strategies
from xraylab.errors import DataError, TrainingError
from xraylab.evaluate.intervals import metrics_with_intervals
from xraylab.evaluate.metrics import Key
from xraylab.evaluate.resampling import Jackknife, variance
from xraylab.evaluate.samples import concatenate
from xraylab.paths import Paths
from xraylab.stages import cache, configure, evaluate, fetch, index, report, source
from xraylab.stages import split as stage
from xraylab.train.learner import dataloaders
from xraylab.train.run import TrainingRun

STRATEGY = {"strategy": "leave-one-source-out", "test_pct": None}


def table(counts: dict[tuple[str, str], int], images_each: int = 1) -> pd.DataFrame:
    """Images of (source, label), `images_each` of one patient."""
    rows = [
        {
            "id": f"{name}/{label}/{n}.png",
            "label": label,
            "source": name,
            "patient": f"{name}/{label}{n // images_each}",
        }
        for (name, label), count in counts.items()
        for n in range(count)
    ]
    return pd.DataFrame(rows).assign(path=lambda t: t["id"], pixel_hash=lambda t: t["id"])


THREE = {(name, label): count for name, count in (("c10", 20), ("b", 40), ("c9", 60)) for label in ("h", "tb")}


@pytest.mark.parametrize("seed", range(3))
def test_each_fold_tests_one_source_whole_and_validates_on_the_others(seed: int) -> None:
    index_ = table(THREE | {("only-h", "h"): 30}, images_each=2)
    drawn = strategies.by_source(index_, valid=0.2, seed=seed)
    for split, tested in zip(drawn, ["b", "c9", "c10"], strict=True):  # natural order
        assert set(index_["id"][split == "test"]) == set(index_["id"][index_["source"] == tested])
        rest = index_[split != "test"]
        assert split[rest.index].groupby(rest["patient"]).nunique().max() == 1
        for _, rows in rest.groupby(["source", "label"]):
            assert (split[rows.index] == "valid").mean() == pytest.approx(0.2, abs=2 / len(rows))
        assert set(split[index_["source"] == "only-h"]) == {"train", "valid"}


def test_the_seed_moves_validation_alone() -> None:
    index_ = table(THREE)
    first, again, other = (strategies.by_source(index_, valid=0.2, seed=seed) for seed in (0, 0, 1))
    for one, same, moved in zip(first, again, other, strict=True):
        assert one.equals(same)
        assert not one.equals(moved)
        assert (one == "test").equals(moved == "test")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {("a", "h"): 9, ("a", "tb"): 9, ("b", "h"): 9},
            "split.strategy leave-one-source-out: needs two sources or more with images of every class (h, tb); "
            "there is\n  - a: h, tb\n  - b: h",
        ),
        (
            {("a", "h"): 9, ("a", "tb"): 9, ("", "tb"): 2},
            "split.strategy leave-one-source-out: 2 of 20 images have no source, such as /tb/0.png, /tb/1.png: write "
            "data.source as a list, or give their source in a table",
        ),
        (
            {("a", "h"): 9, ("a", "tb"): 1, ("b", "h"): 9, ("b", "tb"): 9},
            "a class has fewer images than split.valid_pct: 0.2 needs; add images, or lower it:\n"
            "  - fold 1, tb: 10 images leave valid without one",
        ),
    ],
)
def test_sources_that_cannot_be_left_out_are_named(counts: dict[tuple[str, str], int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        strategies.by_source(table(counts), valid=0.2, seed=0)
    assert str(caught.value) == message


def three_sources(root: Path) -> list[dict[str, Any]]:
    """Two sources with both classes, that share a picture, and one of a single class."""
    write(root / "one", {"Healthy": 20, "TB": 20}, seed=1)
    write(root / "two", {"Healthy": 12, "TB": 12}, seed=2)
    write(root / "well", {"Healthy": 10}, seed=3)
    (root / "two/TB/5.png").write_bytes((root / "one/TB/7.png").read_bytes())
    return [{"name": name, "path": str(root / name)} for name in ("two", "one", "well")]


def test_a_copy_of_a_tested_picture_leaves_the_fold_that_tests_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = three_sources(tmp_path)
    paths = made(tmp_path, sources, fetch, index, stage, split=STRATEGY | {"max_resolved": 0.1})
    assert paths.folds == 2
    listed = {
        (fold, split): set(tables.read(paths.split / f"fold-{fold}/{split}_data.csv")["path"])
        for fold in (0, 1)
        for split in ("train", "valid", "test")
    }
    for fold, tested, left in ((0, "one", "two/TB/5.png"), (1, "two", "one/TB/7.png")):
        assert {path.split("/")[0] for path in listed[fold, "test"]} == {tested}
        others = listed[fold, "train"] | listed[fold, "valid"]
        assert left not in others
        assert len(others) + len(listed[fold, "test"]) == 40 + 24 + 10 - 1
    removed = tables.read(paths.split / "removed.csv")
    assert list(removed["fold"]) == [0, 1]
    summary = files.read_json(paths.split / "summary.json")
    assert (summary["folds"], summary["test_sources"]) == (2, ["one", "two"])
    assert [text.partition(" (")[2] for text in summary["removed"]] == [
        "fold 0, which tests one)",
        "fold 1, which tests two)",
    ]
    assert "fold 1, which tests two\n" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["stop", "accept"])
def test_a_picture_of_two_sources_is_leakage(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = three_sources(tmp_path)
    given = STRATEGY | {"on_leakage": action}
    if action == "accept":
        made(tmp_path, sources, fetch, index, stage, split=given)
        assert "accepted: fold 1: 1 picture lies in two splits" in capsys.readouterr().out
    else:
        with pytest.raises(DataError, match="the splits leak into one another"):
            made(tmp_path, sources, fetch, index, stage, split=given)


def test_a_column_of_sources_will_do(tmp_path: Path) -> None:
    images = write(tmp_path / "films", {"Healthy": 16, "TB": 16}, seed=1)
    names = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))]
    sites = [("St. Anna", "Mercy")[number % 2] for number in range(len(names))]
    tables.write(pd.DataFrame({"image": names, "hospital": sites}), images / "list.csv")
    paths = made(tmp_path, str(images), fetch, index, stage, split=STRATEGY)
    site_of = dict(zip(names, sites, strict=True))
    for fold, name in ((0, "Mercy"), (1, "St. Anna")):
        tested = tables.read(paths.split / f"fold-{fold}/test_data.csv")
        assert {site_of[path] for path in tested["path"]} == {name}


def training(root: Path, sources: Any, repeat: int, **split: Any) -> XrayDataLoaders:
    """The images of a run, with sampling source_balanced."""

    def change(tree: small.Tree) -> None:
        tree["data"]["source"] = sources
        tree["split"].update(split)
        tree["sampling"]["strategy"] = "source_balanced"

    given, paths = run(load(small.study(root / "study", change)), source, fetch, index, stage, cache, configure)
    return dataloaders(TrainingRun.load(given, paths, "baseline", repeat))


@pytest.mark.parametrize(("repeat", "tested"), [(0, "one"), (1, "two")])
def test_balanced_sources_are_those_that_train(repeat: int, tested: str, tmp_path: Path) -> None:
    read = training(tmp_path, three_sources(tmp_path), repeat, **STRATEGY | {"max_resolved": 0.1}).train_ds
    assert read.sources == sorted({"one", "two", "well"} - {tested})
    names = [name.split("/")[0] for name in read.items["id"]]
    assert [read.sources[group // 2] for group in read.groups] == names
    assert (read.groups % 2 == read.labels).all()
    order = EpochSampler("source_balanced", read.groups, 0)
    counts = sum(np.bincount(read.groups[epoch(order, number)], minlength=4) for number in range(200))
    shares = counts / counts.sum()
    np.testing.assert_allclose(shares[np.unique(read.groups)], 1 / len(np.unique(read.groups)), atol=0.02)


def epoch(order: EpochSampler, number: int) -> Any:
    order.start(number)
    return order.of(range(len(order))).copy()


def test_one_source_alone_cannot_be_balanced(tmp_path: Path) -> None:
    images = write(tmp_path / "one", {"Healthy": 10, "TB": 10}, seed=1)
    sources = [{"name": "alone", "path": str(images)}]
    with pytest.raises(TrainingError) as caught:
        training(tmp_path, sources, 0, strategy="random")
    assert str(caught.value) == (
        "sampling.strategy: source_balanced needs training images of two sources or more, and all are of alone: take "
        "weighted, which balances classes alone, or give the sources in data.source, or in a table"
    )


def finished(root: Path, repeats: list[int]) -> tuple[Any, Paths]:
    return finished_study.make(root, {"split": STRATEGY, "study": {"repeats": repeats}})


def predicted(paths: Paths, experiment: str, repeat: int) -> pd.DataFrame:
    """The test predictions of a best epoch."""
    read = tables.read(paths.prediction(experiment, repeat))
    return read[(read["checkpoint"] == "best") & (read["split"] == "test")]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Paths]:
    """A finished study of three sources of which each repeat tests one, evaluated and reported."""
    loaded = finished(tmp_path_factory.mktemp("sources"), [0, 1, 2])
    return run(loaded, evaluate, report)


def test_metrics_are_means_over_sources_and_no_auroc_is_pooled(evaluated: tuple[Any, Paths]) -> None:
    _, paths = evaluated
    summary = files.read_json(paths.evaluation / "summary.json")
    assert summary["test_sources"] == finished_study.SOURCES
    runs = [predicted(paths, "l2", repeat) for repeat in range(3)]
    areas = [metrics.roc_auc_score(rows["label"] == "TB", rows["p_TB"]) for rows in runs]
    right = [((rows["p_TB"] > 0.5) == (rows["label"] == "TB")).mean() for rows in runs]
    (row,) = (each for each in summary["pooled"] if (each["experiment"], each["checkpoint"]) == ("l2", "best"))
    assert row["auroc"] == pytest.approx(np.mean(areas))
    assert row["accuracy"] == pytest.approx(np.mean(right))
    assert row["n"] == 48
    table = tables.read(paths.evaluation / "metrics.csv")
    own = table[(table["experiment"] == "l2") & (table["checkpoint"] == "best") & (table["split"] == "test")]
    for kind in ("round", "mean"):
        shown = own[(own["kind"] == kind) & (own["metric"] == "auroc")].iloc[0]
        assert float(shown["value"]) == pytest.approx(np.mean(areas))
        assert float(shown["ci_low"]) < float(shown["value"]) <= float(shown["ci_high"])
        assert shown["ci_method"] == "Newcombe, variance of DeLong within each source"
    each = own[(own["kind"] == "repeat") & (own["metric"] == "auroc")].sort_values("number")
    np.testing.assert_allclose(each["value"].astype(float), areas)
    assert files.read_json(paths.test_metrics)["l2"]["test"]["auroc"] == pytest.approx(np.mean(areas), abs=1e-6)


def test_experiments_differ_by_the_mean_over_sources(evaluated: tuple[Any, Paths]) -> None:
    _, paths = evaluated
    rows = {row["metric"]: row for row in files.read_json(paths.evaluation / "summary.json")["comparisons"]}
    differences = [
        [
            metrics.roc_auc_score(own["label"] == "TB", own["p_TB"])
            for own in (predicted(paths, name, repeat) for name in ("l2", "baseline"))
        ]
        for repeat in range(3)
    ]
    assert rows["auroc"]["difference"] == pytest.approx(np.mean([ours - theirs for ours, theirs in differences]))
    assert {row["test"] for row in rows.values()} == {"corrected t over folds (Nadeau and Bengio)"}
    assert rows["auroc"]["ci_low"] < rows["auroc"]["difference"] < rows["auroc"]["ci_high"]


def test_the_report_says_which_source_each_repeat_tested(evaluated: tuple[Any, Paths]) -> None:
    html = evaluated[1].report.read_text(encoding="utf-8")
    for repeat, name in enumerate(finished_study.SOURCES):
        assert f">repeat {repeat}, tests {name}</th>" in html
    assert "(mean over 3 sources, Anna, Mercy and South, each tested by networks trained without it)" in html
    assert "AUROCs are not pooled, because probabilities of different networks are not on the same scale" in html
    assert "The table and the chart show the first of 3 folds, which tests Anna." in html
    assert "each source that has every class is the test set of one repeat" in html


def test_one_repeat_alone_tests_one_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, paths = run(finished(tmp_path, [1]), evaluate, report)
    assert "note: round 0 of the repeats tests source Mercy of 3 alone" in capsys.readouterr().out
    assert "(mean over Mercy alone, each" not in (html := paths.report.read_text(encoding="utf-8"))
    assert "(tested on Mercy alone, by networks trained without it)" in html


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_a_mean_over_sources_is_as_wide_as_independent_sources_make_it(seed: int) -> None:
    """Its variance is that of the sum of independent AUROCs, over their number squared."""
    parts = [drawn(seed * 10 + at, 2, 150) for at in range(3)]
    whole = concatenate([replace(part, sources=np.full(150, f"s{at}")) for at, part in enumerate(parts)])
    cfg = config(2)
    rows = {(row.class_, row.metric): row for row in metrics_with_intervals(whole, cfg)}
    row = rows["B", "auroc"]
    each = [metrics.roc_auc_score(part.actual == 1, part.probabilities[:, 1]) for part in parts]
    assert row.value == pytest.approx(np.mean(each))
    influences = [Jackknife(sample, cfg).influence(Key("B", "auroc")) for sample in [*parts, whole]]
    variances = [variance(each) for each in influences if each is not None]
    assert variances[3] == pytest.approx(sum(variances[:3]) / 9)
    assert row.ci_high - row.ci_low == pytest.approx(2 * 1.96 * np.sqrt(variances[3]), rel=0.25)
    assert rows["overall", "accuracy"].ci_method == "jackknife of images within each source, logit t"
