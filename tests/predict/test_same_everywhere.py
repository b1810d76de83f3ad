"""A film has the same probabilities by every way, whatever its format."""

from pathlib import Path

import dicom_files
import numpy as np
import pandas as pd
import pytest
from conftest import Loaded
from PIL import Image

import xraylab
from xraylab import tables
from xraylab.data import cache
from xraylab.data.cache import Decoding
from xraylab.data.prepare import Preparation
from xraylab.predict import cards, checkpoints, classifiers, classify
from xraylab.predict.classify import Output
from xraylab.study import Study

WITHIN = 1e-4
EXIF_ORIENTATION, ROTATED = 0x0112, 6


def films(folder: Path) -> Path:
    """One film, or nearly, in five formats."""
    folder.mkdir()
    ramp = np.linspace(0, 1, 96)[:, None] * np.linspace(0.2, 1, 128) + np.random.default_rng(3).random((96, 128)) / 8
    levels = (ramp / ramp.max() * 4095).astype(np.uint16)
    eight = (levels >> 4).astype(np.uint8)
    Image.fromarray(eight).save(folder / "8.png")
    Image.fromarray(levels * 16).save(folder / "16.png")
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = ROTATED
    Image.fromarray(np.rot90(eight)).save(folder / "exif.jpg", quality=95, exif=exif)
    for name, stored, photometric in (("m1", 4095 - levels, "MONOCHROME1"), ("m2", levels, "MONOCHROME2")):
        made = dicom_files.dataset(stored, PhotometricInterpretation=photometric, SOPInstanceUID=f"1.2.{len(name)}")
        made.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return folder


def by_the_cache(loaded: Loaded, folder: Path, names: list[str]) -> np.ndarray:
    """As the stages cache and predict."""
    run = checkpoints.load_run(loaded[1], "baseline")
    images, settings = pd.DataFrame({"id": names, "path": names}), run.record["images"]
    target = folder.parent / "cache"
    target.mkdir()
    preparation = Preparation.recorded(settings)
    cache.write(target, Decoding(folder, images, settings["size"], settings["resize_method"], preparation))
    (table,), _ = run.predict_cached([run.epoch()], images[["id"]], target, 0)
    return table[[f"p_{name}" for name in run.classes]].to_numpy(float)


def by_the_command(loaded: Loaded, source: str, folder: Path, names: list[str]) -> np.ndarray:
    target = folder.parent / "t.csv"
    classify.run(loaded, [source], [str(folder)], Output(str(target)))
    rows = tables.read(target).set_index("id").loc[names]
    return rows[["p_Healthy", "p_TB"]].to_numpy()


def test_a_film_has_the_same_probabilities_everywhere(finished: Loaded, tmp_path: Path) -> None:
    folder = films(tmp_path / "films")
    names = sorted(path.name for path in folder.iterdir())
    paths = [folder / name for name in names]
    expected = by_the_cache(finished, folder, names)
    list(cards.bundle(finished[1], "baseline/0", tmp_path / "tb.zip"))
    model, bundle = Study(finished[1].root).model("baseline"), xraylab.load(tmp_path / "tb.zip")
    ways = {
        "predict-images": by_the_command(finished, "baseline/0", folder, names),
        "predict-images with a bundle": by_the_command(finished, str(tmp_path / "tb.zip"), folder, names),
        "Classifier": [list(p.values()) for p in classifiers.of_run(finished[1], "baseline").predict(paths)],
        "Study.model": [list(model.predict(path).values()) for path in paths],
        "bundle": [list(p.values()) for p in bundle.predict(paths)],
    }
    for way, p in ways.items():
        assert np.asarray(p) == pytest.approx(expected, abs=WITHIN), way
    by_name = dict(zip(names, expected, strict=True))
    for name in names:  # all five are one film, but for what JPEG loses and eight bits leave out
        assert by_name[name] == pytest.approx(by_name["16.png"], abs=0.02)
