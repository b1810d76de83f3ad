"""Which public set images are of, and whether pretrained weights have seen it: in words, report and external test."""

import shutil
from html import unescape
from pathlib import Path

import finished_study
import pytest
import small
from conftest import Loaded

from xraylab import files, tables
from xraylab.predict import external
from xraylab.registry import datasets
from xraylab.registry import weights as registry
from xraylab.report import seen
from xraylab.stages import evaluate, report

NIH = ["Pneumonia/00001280_004.png", "No_findings/00030805_000.jpg"]
WORDS = (
    "rad-dino, from which {} started, was pretrained on MIMIC-CXR, CheXpert, NIH ChestX-ray14, PadChest, BRAX. The "
    "test images are of NIH ChestX-ray14 (by the names of {} of {} images): the network may have seen them, and then "
    "its metrics say less about new images. Of rad-dino: its authors left out"
)


def names(layouts: list[str], addresses: list[str], images: list[str]) -> dict[str, str]:
    return {each.dataset.name: each.how for each in datasets.recognise(layouts, addresses, images)}


def test_a_public_set_is_known_by_names_layout_or_address() -> None:
    assert names([], [], [*NIH, "Covid-19/1-s2.0.jpg"]) == {"nih": "by the names of 2 of 3 images"}
    assert names(["shenzhen"], [], []) == {"shenzhen": "by the layout shenzhen"}
    assert names([], ["kaggle:nih-chest-xrays/data"], []) == {"nih": "by the name nih-chest-xrays/data"}
    assert names([], ["../CheXpert-v1.0-small"], []) == {"chexpert": "by the name ../CheXpert-v1.0-small"}
    assert names(["class-folders"], ["demo", "/home/nih/films/ours", "../data"], ["a/00000001.png", "x.png"]) == {}


def test_weights_have_seen_a_set_that_took_its_images_from_theirs() -> None:
    rsna = datasets.recognise([], ["kaggle:c/rsna-pneumonia-detection-challenge"], [])
    densenet, chexpert = registry.find("txrv-densenet121-nih"), registry.find("txrv-densenet121-chex")
    assert "are of RSNA Pneumonia Detection (by the name" in (datasets.seen_warning(densenet, ["a", "b"], rsna) or "")
    assert "from which a and b started" in (datasets.seen_warning(densenet, ["a", "b"], rsna) or "")
    assert datasets.seen_warning(chexpert, ["a"], rsna) is None
    stanford = registry.find("dinov2-base-xray-224")
    assert datasets.seen_warning(stanford, ["a"], rsna) is None
    assert (datasets.unknown_warning(stanford) or "").startswith(
        "Which public sets dinov2-base-xray-224 was pretrained"
    )
    assert datasets.unknown_warning(densenet) is None


def test_weights_of_which_only_some_sets_are_known_are_warned_of_as_unknown_too() -> None:
    chexfound = registry.find("chexfound")
    padchest = datasets.recognise([], ["/data/PadChest"], [])
    assert "are of PadChest" in (datasets.seen_warning(chexfound, ["a"], padchest) or "")
    nih = datasets.recognise([], [], NIH)
    assert datasets.seen_warning(chexfound, ["a"], nih) is None
    assert (datasets.unknown_warning(chexfound) or "").startswith(
        "Which public sets chexfound was pretrained on besides MIMIC-CXR, CheXpert, PadChest, BRAX is not known here "
    )
    assert datasets.unknown_warning(registry.find("medsiglip")) is None


def test_every_set_named_is_known_and_none_comes_from_itself() -> None:
    known = datasets.read()
    for entry in registry.read().values():
        assert set(entry.seen or ()) <= set(known)
    for each in known.values():
        assert set(each.sources) <= set(known) - {each.name}


def test_the_report_warns_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = {"pretrained": "rad-dino", "img_size": 56}
    params, paths = finished_study.make(tmp_path, {"experiments": {"l2": {"model": model}}})
    index = tables.read(paths.index)
    tests = index["id"].str.contains("/test") & index["id"].str.startswith("TB")
    named = [f"TB/000{number:05}_004.png" for number in range(len(index))]
    tables.write(index.assign(path=index["path"].mask(tests, named)), paths.index)
    evaluate.run(params, paths)
    report.run(params, paths)
    expected = WORDS.format("l2", sum(tests), 16)
    page = unescape(paths.report.read_text(encoding="utf-8"))
    assert f"<strong>{seen.OPENING}</strong> {expected}" in page
    assert f"warning: {seen.OPENING} {expected}" in capsys.readouterr().out
    cards = {name: (paths.cards / f"{name}.md").read_text(encoding="utf-8") for name in ("baseline", "l2")}
    assert "may have seen" in cards["l2"]
    assert "Starts from the published weights rad-dino: " in cards["l2"]
    assert "may have seen" not in cards["baseline"]


def test_an_external_test_warns_of_them(trained: Loaded, tmp_path: Path) -> None:
    params, paths = trained
    study = shutil.copytree(paths.root, tmp_path / "study")
    here = type(paths)(study)
    cfg = files.read_yaml(here.config("baseline"))
    cfg["model"] |= {"pretrained": "rad-dino", "img_size": 56}
    files.write_yaml(cfg, here.config("baseline"))
    elsewhere = tmp_path / "elsewhere"
    small.pictures(elsewhere, ["Healthy/00000013_000.png", "Healthy/a.png", "TB/b.png", "TB/00030800_001.png"], seed=5)
    lines = list(external.run(params, here, "baseline", elsewhere, "auto", [], tmp_path / "external.json"))
    expected = WORDS.format("baseline", 2, 4)
    assert any(line.startswith(f"warning: {expected}") for line in lines)
    (said,) = files.read_json(tmp_path / "external.json")["seen"]
    assert said.startswith(expected)
