"""The pictures of `dvc plots`: every experiment is in each, axes are named, and nothing is loaded or run."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import finished_study
import pytest
from dvc_render import ImageRenderer

from xraylab import files
from xraylab.paths import Paths
from xraylab.report import dvc_plots
from xraylab.report.records import Summary
from xraylab.stages import evaluate

KINDS = {"calibration", "confusion", "loss", "precision_recall", "roc"}
HOSTILE = "</script><b>&\"'"


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
    auroc = files.read_json(tmp_path / "reports/metrics.json")["l2"]["test"]["auroc"]
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
    assert files.read_yaml(Path(__file__).parents[2] / "dvc.yaml")["plots"] == ["reports/plots"]


def test_pictures_are_the_same_bytes_each_time(pictures: dict[str, str], tmp_path: Path) -> None:
    assert drawn(tmp_path) == pictures
