"""Statistics of a run's training images: computed once, kept, and what they warn of."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small
from conftest import BEFORE_CONFIGURE, Loaded, load, run, with_random_weights
from PIL import Image

from xraylab import files, tables
from xraylab.data import pixels
from xraylab.data.pixels import Picture
from xraylab.errors import DataError
from xraylab.inference.classifier import Classifier
from xraylab.inference.reference import Reference
from xraylab.inference.warnings import ImageFacts
from xraylab.predict import classifiers, references
from xraylab.stages import configure


def demo(tree: small.Tree) -> None:
    tree["data"]["demo"].update(n_healthy=66, n_tb=33, size=64)
    tree["split"].update(valid_pct=0.66, test_pct=0.15)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A study of 99 films of the demo with a run of random weights."""
    study = small.study(tmp_path_factory.mktemp("films"), demo)
    return with_random_weights(run(load(study), *BEFORE_CONFIGURE, configure))


@pytest.fixture(scope="module")
def classifier(films: Loaded) -> Classifier:
    return classifiers.of_run(films[1], "baseline", reference=True)


def paths_of(loaded: Loaded, split: str) -> list[Path]:
    paths = loaded[1]
    table = tables.read(paths.split_of(0) / f"{split}_data.csv")
    return [paths.raw / name for name in tables.read(paths.index).set_index("id").loc[table["id"], "path"]]


def codes(classifier: Classifier, pictures: list[Picture]) -> list[set[str]]:
    assert classifier.reference is not None
    images = np.stack([classifier.prepare(picture) for picture in pictures])
    facts = [ImageFacts.of(picture) for picture in pictures]
    warned = classifier.reference.check(images, classifier.score(images).features, facts)
    return [{each.code for each in several} for several in warned]


def test_features_are_what_the_last_layer_sees(films: Loaded, classifier: Classifier) -> None:
    images = np.stack([classifier.read(path) for path in paths_of(films, "test")])
    scores = classifier.score(images)
    last = classifier.network.get_submodule("fc.1")
    logits = scores.features @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert scores.p == pytest.approx(p, abs=1e-5)
    assert np.array_equal(classifier.predict_proba(images), scores.p)


def test_films_like_those_of_training_pass_and_others_do_not(films: Loaded, classifier: Classifier) -> None:
    pictures = [pixels.decode(path) for path in paths_of(films, "test")]
    plain = codes(classifier, pictures)
    assert sum(bool(each) for each in plain) <= 2
    negatives = codes(classifier, [replace(each, levels=255 - pixels.gray(each.levels)) for each in pictures])
    assert np.mean(["inverted" in each for each in negatives]) > 0.6
    aside = codes(classifier, [replace(each, levels=np.rot90(each.levels).copy()) for each in pictures])
    assert np.mean(["far_from_training" in each for each in aside]) > 0.8
    rng = np.random.default_rng(0)
    noise = [Picture(rng.integers(0, 256, (64, 64), dtype=np.uint8), "L", "PNG") for _ in range(4)]
    assert all({"no_radiograph", "far_from_training"} <= each for each in codes(classifier, noise))


def test_no_more_validation_images_are_far_than_the_limit_leaves_out(films: Loaded, classifier: Classifier) -> None:
    pictures = [pixels.decode(path) for path in paths_of(films, "valid")]
    warned = codes(classifier, pictures)
    assert len(warned) == classifier.reference.appearance.n_valid >= 50
    assert [each - {"copy_of_training"} for each in warned] == [set()] * len(warned)


def test_copies_of_training_and_validation_images_are_told_apart(films: Loaded, classifier: Classifier) -> None:
    train, valid = (Image.open(paths_of(films, split)[0]).convert("L") for split in ("train", "valid"))
    jpeg = io.BytesIO()
    train.save(jpeg, "JPEG", quality=60)
    pictures = [
        Picture(np.asarray(each), "L", "PNG") for each in (train, train.resize((48, 48)), Image.open(jpeg), valid)
    ]
    images = np.stack([classifier.prepare(picture) for picture in pictures])
    facts = [ImageFacts.of(picture) for picture in pictures]
    features = classifier.score(images).features
    texts = [
        next(each.text for each in several if each.code == "copy_of_training")
        for several in classifier.reference.check(images, features, facts)
    ]
    assert texts[0] == "has the picture of a training image: 0 of 256 bits of their hashes differ"
    assert all(text.startswith("has the picture of a training image: ") for text in texts[1:3])
    assert texts[3].startswith("has the picture of a validation image")
    without = classifier.reference.without_hashes().check(images, features, facts)
    assert all(each.code != "copy_of_training" for several in without for each in several)


def test_dicom_comes_first_and_certain(films: Loaded, classifier: Classifier) -> None:
    picture = pixels.decode(paths_of(films, "test")[0])
    image = 255 - classifier.prepare(picture)[None]
    facts = ImageFacts.of(replace(picture, facts={"modality": "CT", "view": "LL", "body_part": "HAND"}))
    (warned,) = classifier.reference.check(image, classifier.score(image).features, [facts])
    assert [each.code for each in warned][:3] == ["no_radiograph", "lateral", "other_body_part"]
    assert warned[0].text == "DICOM says modality CT: no radiograph"


def test_a_reference_is_computed_once_and_the_same_again(films: Loaded, classifier: Classifier) -> None:
    _, paths = films
    (kept,) = (paths.state / "reference").iterdir()
    before, stamp = kept.read_bytes(), kept.stat().st_mtime_ns
    references.of_run(paths, "baseline/0", classifier)
    assert kept.stat().st_mtime_ns == stamp
    kept.unlink()
    references.of_run(paths, "baseline/0", classifier)
    assert kept.read_bytes() == before
    assert len(before) < 1_000_000
    tensors, record = references.read(kept).to_tensors()
    again, same = Reference.from_tensors(tensors, record).to_tensors()
    assert same == record
    assert all(np.array_equal(again[name], tensors[name]) for name in tensors)


def test_a_reference_of_another_version_is_refused(classifier: Classifier) -> None:
    tensors, record = classifier.reference.to_tensors()
    with pytest.raises(DataError, match="of another version of xraylab"):
        Reference.from_tensors(tensors, record | {"version": 0})
    with pytest.raises(ValueError, match="components of another width"):
        Reference.from_tensors(tensors | {"layout.mean": np.zeros(3, np.float32)}, record)


def test_without_the_images_there_is_none(films: Loaded, classifier: Classifier, tmp_path: Path) -> None:
    assert references.of_run(type(films[1])(tmp_path), "baseline", classifier) is None


def test_other_lists_give_another_reference(films: Loaded, classifier: Classifier, tmp_path: Path) -> None:
    _, paths = films
    lists = paths.split_of(0) / "train_data.csv"
    before = lists.read_text()
    try:
        files.write_text("\n".join(before.splitlines()[:-5]) + "\n", lists)
        shorter = references.of_run(paths, "baseline", classifier)
    finally:
        files.write_text(before, lists)
    assert shorter.hashes.n_train == classifier.reference.hashes.n_train - 5
