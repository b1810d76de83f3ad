"""The pictures and tables of `dvc plots`: every experiment is in each, axes are named, nothing is loaded or run."""

import dataclasses
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import finished_study
import numpy as np
import pandas as pd
import pytest
import small
from dvc_render import ImageRenderer, VegaRenderer

from xraylab import files, tables
from xraylab.paths import Paths
from xraylab.report import dvc_plots, plot_tables
from xraylab.report.records import Summary
from xraylab.stages import evaluate

KINDS = {"calibration", "confusion", "loss", "precision_recall", "roc"}
DEFINITIONS = files.read_yaml(small.REPOSITORY / "dvc.yaml")["plots"]
TABLES = {Path(path).stem: properties for each in DEFINITIONS[1:] for path, properties in each.items()}
HOSTILE = "</script><b>&\"'"


@pytest.fixture(scope="module", autouse=True)
def _all_kinds() -> Iterator[None]:
    """`write` draws those too that a paper alone shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dvc_plots, "SHOWN", KINDS)
        yield


def drawn(root: Path, changes: dict[str, Any] | None = None, **more: Any) -> dict[str, str]:
    """Kind -> the texts of its picture."""
    given, paths = finished_study.make(root, changes, **more)
    evaluate.run(given, paths)
    shares = dict.fromkeys(given.data.classes, 1 / len(given.data.classes))
    paths.plots.mkdir(parents=True)
    dvc_plots.write(paths.plots, paths.evaluation, summary(paths), shares)
    return {path.stem: path.read_text(encoding="utf-8") for path in paths.plots.iterdir()}


def summary(paths: Paths) -> Summary:
    return Summary.of(files.read_json(paths.evaluation / "summary.json"))


def texts(picture: str) -> list[str]:
    return ["".join(each.itertext()) for each in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return drawn(tmp_path_factory.mktemp("study"))


def test_each_kind_is_one_picture_that_names_every_experiment(pictures: dict[str, str]) -> None:
    assert set(pictures) == KINDS
    for kind, picture in pictures.items():
        assert {text.split(":")[0] for text in texts(picture)} >= {"baseline", "l2"}, kind


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("loss", {"epoch", "training loss", "validation loss", "selected epoch"}),
        ("roc", {"false-positive rate (1 − specificity)", "true-positive rate (sensitivity)", "chance", "TB"}),
        ("precision_recall", {"recall (sensitivity)", "precision (PPV)", "chance: share of the class"}),
        ("calibration", {"predicted probability", "observed share", "perfect calibration"}),
        ("confusion", {"predicted", "actual", "Healthy", "TB"}),
    ],
)
def test_axes_and_lines_of_reference_are_named(kind: str, named: set[str], pictures: dict[str, str]) -> None:
    assert named <= set(texts(pictures[kind]))


def test_the_key_tells_the_auroc_that_was_evaluated(tmp_path: Path) -> None:
    picture = drawn(tmp_path)["roc"]
    auroc = files.read_json(tmp_path / "reports/evaluation/test_metrics.json")["l2"]["test"]["auroc"]
    assert f"l2: AUROC {auroc:.3f}" in texts(picture)


def test_what_a_class_is_called_is_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    drawn(tmp_path)
    paths = Paths(tmp_path)
    matrices = files.read_json(paths.evaluation / "confusion_matrices.json")
    hostile = [row | {"classes": ["Healthy", HOSTILE]} for row in matrices]
    files.write_json(hostile, paths.evaluation / "confusion_matrices.json")
    dvc_plots.write(paths.plots, paths.evaluation, summary(paths), {"Healthy": 0.5, "TB": 0.5})
    for path in paths.plots.iterdir():
        elements = list(ET.parse(path).iter())
        assert not {each.tag.rpartition("}")[2] for each in elements} & {"script", "foreignObject", "a"}
        links = [value for each in elements for name, value in each.items() if name.endswith("href")]
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert HOSTILE in texts((paths.plots / "confusion.svg").read_text(encoding="utf-8"))


def test_dvc_takes_them_for_images_and_needs_no_template(tmp_path: Path) -> None:
    drawn(tmp_path)
    assert {path.suffix for path in Paths(tmp_path).plots.iterdir()} <= ImageRenderer.EXTENSIONS
    assert DEFINITIONS[0] == "reports/plots"


def test_pictures_are_the_same_bytes_each_time(pictures: dict[str, str], tmp_path: Path) -> None:
    assert drawn(tmp_path) == pictures


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A study of two experiments with two repeats, and its tables."""
    given, paths = finished_study.make(tmp_path_factory.mktemp("tables"), {"study": {"repeats": [0, 1]}}, skill=1.0)
    evaluate.run(given, paths)
    plot_tables.write(paths.plots, paths.evaluation, summary(paths))
    return paths


def test_every_table_that_dvc_draws_is_written(evaluated: Paths) -> None:
    assert {path.stem for path in evaluated.plots.glob("*.csv")} == set(TABLES)


def test_tables_hold_what_was_evaluated(evaluated: Paths) -> None:
    shown, auroc = tables.read(evaluated.plots / "roc.csv"), tables.read(evaluated.comparison)
    assert list(dict.fromkeys(shown["panel"])) == ["baseline", "l2"]
    for experiment, repeat in (("baseline", 0), ("l2", 1)):
        curve = shown[shown["run"] == f"{experiment}-{repeat}"]
        keys = {"experiment": experiment, "repeat": repeat, "checkpoint": "best", "split": "test"}
        row = auroc.loc[np.logical_and.reduce([auroc[name] == value for name, value in keys.items()])].iloc[0]
        assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(row["auroc"])
    losses, history = tables.read(evaluated.plots / "loss.csv"), tables.read(evaluated.model("l2", 1) / "history.csv")
    of_run = losses[losses["run"] == "l2-1"]
    for images, column in (("training", "train_loss"), ("validation", "valid_loss")):
        assert list(of_run[of_run["images"] == images]["loss"]) == pytest.approx(list(history[column]))
    (best,) = (run.best_epoch for run in summary(evaluated).runs if run.name == "l2-1")
    assert list(of_run[of_run["selected"] == "yes"]["epoch"]) == [best]
    calibration = tables.read(evaluated.plots / "calibration.csv")
    assert calibration[calibration["run"] == "l2-1"]["n"].sum() == 16


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_area() -> None:
    steps = np.sort(np.random.default_rng(0).random((2, 5000)), axis=1)
    curve = pd.DataFrame({"fpr": [0, *steps[0], 1], "tpr": [0, *np.sqrt(steps[1]), 1]})
    thin = plot_tables._thinned(curve)
    assert len(thin) <= plot_tables.POINTS
    assert thin.iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
    areas = [np.trapezoid(each["tpr"], each["fpr"]) for each in (curve, thin)]
    assert areas[0] == pytest.approx(areas[1], abs=1e-3)


def test_a_class_that_would_end_dvcs_script_is_coded(evaluated: Paths, tmp_path: Path) -> None:
    hostile = dataclasses.replace(summary(evaluated), positive=None, classes=["TB", "a</b><!--".replace("/", "")])
    for run in hostile.runs:
        source = evaluated.evaluation / f"roc/{run.name}/TB.csv"
        for label in hostile.classes:
            files.write_text(source.read_text(), tmp_path / f"roc/{run.name}/{label}.csv")
    (parts,) = [list(plot_tables._roc(tmp_path, hostile))]
    panels = list(dict.fromkeys(pd.concat(parts)["panel"]))
    assert panels == ["TB, baseline", "TB, l2", "a‹b›‹!--, baseline", "a‹b›‹!--, l2"]


@pytest.mark.parametrize("name", TABLES)
def test_dvc_fills_every_template_with_two_versions(name: str, evaluated: Paths) -> None:
    rows = tables.read(evaluated.plots / f"{name}.csv").astype(str).to_dict("records")
    points = [{**row, "rev": version} for version in ("main", "workspace") for row in rows]
    properties = {**TABLES[name], "template_dir": str(small.REPOSITORY / ".dvc/plots"), "anchors_y_definitions": []}
    spec = VegaRenderer(points, name, **properties).get_filled_template()
    assert "<DVC_METRIC" not in json.dumps(spec)
    assert spec["data"]["values"] == points
    assert fields(spec) - {"x", "y"} <= set(points[0])
    assert {TABLES[name]["x"], TABLES[name]["y"], "rev", "panel", "run"} <= fields(spec)


def fields(spec: Any) -> set[str]:
    """The columns that any encoding of a template names."""
    if isinstance(spec, list):
        return set().union(*map(fields, spec))
    if not isinstance(spec, dict):
        return set()
    own = {spec["field"]} if isinstance(spec.get("field"), str) else set()
    return own.union(*(fields(value) for key, value in spec.items() if key != "values"))
