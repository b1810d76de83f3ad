"""The gallery's page and files: that it holds every test image and exact probabilities, and nothing that could run."""

import base64
import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import finished_findings
import finished_study
import numpy as np
import pytest
from conftest import Loaded
from PIL import Image

from xraylab import files, tables, targets
from xraylab.report.gallery import contents, page, thumbnails
from xraylab.report.pictures import Radiographs
from xraylab.stages import evaluate, report

HOSTILE = "</script><script>document.title=1</script><!--"


def _blocks(html: str) -> dict[str, Any]:
    """Id -> what the page's data blocks hold."""
    found = re.findall(r'<script type="application/json" id="([^"]*)">(.*?)</script>', html, re.DOTALL)
    return {name: json.loads(text) for name, text in found}


def _doubles(text: str, columns: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f8").reshape(columns, -1)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    given, paths = finished_study.make(tmp_path_factory.mktemp("gallery"), {"study": {"repeats": [0, 1]}})
    evaluate.run(given, paths)
    _write_maps(paths.explanation, "baseline", ["TB/test2.png", "Healthy/test0.png"])
    page.write(report.read(given, paths), paths.gallery)
    return given, paths


def _write_maps(folder: Path, experiment: str, ids: list[str]) -> None:
    """What `explain` leaves of one experiment, as far as the gallery reads it; the last map has no evidence."""
    name = f"{experiment}/maps"
    (folder / experiment).mkdir(parents=True)
    maps = np.random.default_rng(0).integers(0, 256, (len(ids), 32, 32), np.uint8)
    maps[-1] = 0
    np.save(folder / f"{name}.npy", maps)
    (folder / f"{name}.csv").write_text("id,evidence\n" + "".join(f"{each},TB\n" for each in ids))
    record = {"experiment": experiment, "maps": {"name": name, "images": len(ids)}}
    files.write_json(finished_study.NOT_EXPLAINED | {"experiments": [record]}, folder / "gallery.json")


@pytest.fixture(scope="module")
def blocks(loaded: Loaded) -> dict[str, Any]:
    return _blocks((loaded[1].gallery / "index.html").read_text(encoding="utf-8"))


def test_every_test_image_has_the_exact_probability_of_each_run(loaded: Loaded, blocks: dict[str, Any]) -> None:
    given, paths = loaded
    facts = blocks["facts"]
    assert facts["names"] == list(tables.read(paths.split / "test_data.csv")["id"])
    assert len(blocks["thumbnails"]) == len(facts["names"]) == 16
    for experiment in given.experiments:
        for repeat in given.study.repeats:
            table = tables.read(paths.prediction(experiment, repeat))
            table = table[(table["split"] == "test") & (table["checkpoint"] == "best")].set_index("id")
            p = _doubles(blocks[f"run-{experiment}-{repeat}"], 1)[0]
            assert p.tolist() == table.loc[facts["names"], "p_TB"].tolist()
    truth = np.frombuffer(base64.b64decode(facts["truth"]), np.int8)
    assert truth.tolist() == [int(name.startswith("TB")) for name in facts["names"]]


def test_the_operating_points_are_those_of_the_evaluation(loaded: Loaded, blocks: dict[str, Any]) -> None:
    table = tables.read(loaded[1].evaluation / "operating_points.csv", ("experiment", "point", "class"))
    rows = table[(table["experiment"] == "l2") & (table["repeat"].astype(int) == 1) & (table["threshold"] != "")]
    expected = [(row["point"], float(row["threshold"])) for _, row in rows.iterrows()]
    assert len(expected) > 2
    assert [(each["point"], each["threshold"]) for each in blocks["facts"]["points"]["l2-1"][0]] == expected


def test_a_thumbnail_is_the_image_of_the_cache(loaded: Loaded, blocks: dict[str, Any]) -> None:
    radiographs = Radiographs(loaded[1].cache)
    for number, name in enumerate(blocks["facts"]["names"]):
        picture = Image.open(io.BytesIO(base64.b64decode(blocks["thumbnails"][number]))).convert("L")
        difference = np.asarray(picture, float) - radiographs.of([name])[0]
        assert abs(difference).mean() < 40  # noise, compressed; another image of noise differs by 85


def test_the_policy_lets_a_single_file_load_nothing(loaded: Loaded) -> None:
    html = unescape((loaded[1].gallery / "index.html").read_text(encoding="utf-8"))
    assert [path.name for path in loaded[1].gallery.iterdir()] == ["index.html"]
    assert "img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" in html
    assert "'self'" not in html
    assert not re.search(r"<[^>]*\son\w+=", html)


def test_many_images_are_files_beside_the_page(loaded: Loaded, tmp_path: Path) -> None:
    given, paths = loaded
    data = report.read(given, paths)
    explained = files.read_json(paths.explanation / "gallery.json")
    data = replace(data, explained=explained)
    page.write(data, tmp_path, one_file=15)
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    facts = _blocks(html).pop("facts")
    assert set(_blocks(html)) == {"facts"}
    assert "img-src data: 'self'" in unescape(html)
    assert len(list((tmp_path / "images").glob("*.webp"))) == 16
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {f"{run.name}.js" for run in data.summary.runs}
    numbers = [facts["names"].index(name) for name in ("TB/test2.png", "Healthy/test0.png")]
    assert facts["evidence"]["baseline"] == [[numbers[0], "TB", True], [numbers[1], "TB", False]]
    assert {path.stem for path in (tmp_path / "overlays/baseline").iterdir()} == set(map(str, numbers))


def test_overlays_hide_nothing_where_there_is_no_saliency() -> None:
    saliency = np.zeros((32, 32), np.uint8)
    saliency[:16] = 255
    layer = np.asarray(Image.open(io.BytesIO(thumbnails.layer(saliency))).convert("RGBA"))
    assert layer[20:, :, 3].max() <= 8
    assert layer[:12, :, 3].min() == pytest.approx(255 * thumbnails.STRONGEST, abs=8)


@pytest.mark.parametrize("budget", [400_000, 60_000, 9_000])
def test_thumbnails_are_as_large_as_the_budget_allows(budget: int, tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["id", *names]) + "\n")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 64, (40, 256, 256), np.uint8))
    radiographs = Radiographs(tmp_path)
    sizes = {side: sum(map(len, thumbnails.encoded(radiographs, names, side))) for side in thumbnails.SIDES}
    best = next((side for side in thumbnails.SIDES if sizes[side] <= budget), thumbnails.SIDES[-1])
    pictures = thumbnails.fitting(radiographs, names, budget)
    assert Image.open(io.BytesIO(pictures[0])).size == (best, best)


def test_no_name_ends_the_script(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path, {"study": {"title": HOSTILE}})
    evaluate.run(given, paths)
    for path in [
        *paths.predictions.rglob("*.csv"),
        paths.index,
        paths.cache / "rows.csv",
        *paths.evaluation.rglob("*.csv"),
    ]:
        path.write_text(path.read_text().replace("/test", f"/{HOSTILE}"))
    data = report.read(given, paths)
    page.write(data, tmp_path / "one")
    html = (tmp_path / "one/index.html").read_text(encoding="utf-8")
    assert _blocks(html)["facts"]["names"][0] == f"Healthy/{HOSTILE}0.png"
    assert html.count("<script") == html.count("</script>") == len(_blocks(html)) + 1
    assert "<!--" not in html


def test_hidden_names_are_nowhere(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path, {"report": {"hide_names": True}})
    evaluate.run(given, paths)
    page.write(report.read(given, paths), paths.gallery)
    html = (paths.gallery / "index.html").read_text(encoding="utf-8")
    assert ".png" not in html
    row = list(tables.read(paths.index)["id"]).index("Healthy/test0.png") + 1
    assert _blocks(html)["facts"]["names"][0] == f"image {row}"


def test_of_folds_a_run_has_no_probability_of_what_it_does_not_test(tmp_path: Path) -> None:
    changes = {"split": {"strategy": "folds", "folds": 3}, "study": {"repeats": [0, 1]}}
    given, paths = finished_study.make(tmp_path, changes)
    evaluate.run(given, paths)
    shown = contents.read(report.read(given, paths))
    for repeat in (0, 1):
        tested = set(tables.read(paths.split_of(repeat) / "test_data.csv")["id"])
        has = ~np.isnan(shown.runs[f"baseline-{repeat}"][0])
        assert set(shown.images["id"][has]) == tested
        assert 0 < has.sum() < len(has)


def test_of_findings_unknown_labels_count_nowhere(tmp_path: Path) -> None:
    given, paths = finished_findings.make(tmp_path)
    evaluate.run(given, paths)
    shown = contents.read(report.read(given, paths))
    labels = targets.values(shown.images, given.data.classes)
    assert shown.columns == given.data.classes
    assert ((shown.truth == contents.UNKNOWN) == ~targets.known(labels).T).all()
    assert (shown.truth == contents.UNKNOWN).any(axis=1).all()
