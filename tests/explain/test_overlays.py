"""Overlays of any image are those of the stage explain."""

import io

import cv2
import numpy as np
import pytest
import torch
from conftest import Loaded
from PIL import Image

from xraylab.data.image_cache import Normalise, network_input
from xraylab.explain import overlays, pictures, saliency
from xraylab.inference.classifier import Classifier
from xraylab.predict import classifiers

N = 3


def images(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, size, size), np.uint8)


def expected(classifier: Classifier, gray: np.ndarray, label: str) -> np.ndarray:
    """As the stage: the method of saliency.methods, on the input that explain's Target makes."""
    record = classifier.record
    method = saliency.methods(
        ["grad-cam"], record["img_size"], 0.1, 0.1, classifier.hardware, record["task"] == "multi-label"
    )["grad-cam"]
    batch = network_input(gray, np.arange(N), Normalise.recorded(record["normalise"]), record["img_size"], "cpu")
    return method(classifier.network, batch, torch.full((N,), classifier.classes.index(label))).numpy()


def test_heat_maps_are_those_of_the_stage_explain(trained: Loaded, trained_findings: Loaded) -> None:
    for (_, paths), label in ((trained, "TB"), (trained_findings, "Edema")):
        classifier = classifiers.of_run(paths, "baseline")
        gray = images(classifier.size)
        maps = overlays.heatmaps(classifier, gray, [label] * N)
        assert maps.shape == gray.shape
        assert np.array_equal(maps, expected(classifier, gray, label))
        assert maps.max() > 0


def test_heat_maps_are_as_large_as_the_images(trained: Loaded) -> None:
    """Where the network takes smaller images than the cache has."""
    classifier = classifiers.of_run(trained[1], "baseline")
    gray = images(2 * classifier.size)
    small = expected(classifier, gray, "TB")
    enlarged = [cv2.resize(each, gray.shape[1:], interpolation=cv2.INTER_LINEAR) for each in small]
    assert np.array_equal(overlays.heatmaps(classifier, gray, ["TB"] * N), enlarged)
    assert not any(parameter.grad is not None for parameter in classifier.network.parameters())


def test_a_class_that_the_network_does_not_know_is_an_error(trained: Loaded) -> None:
    classifier = classifiers.of_run(trained[1], "baseline")
    with pytest.raises(ValueError, match="Mass"):
        overlays.heatmaps(classifier, images(classifier.size), ["Mass"] * N)


def test_pictures_are_png_of_the_images_size() -> None:
    gray = images(24)[0]
    heat = np.zeros((24, 24), np.float32)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(overlays.blend(gray, heat))))[..., 0], gray)
    assert not np.asarray(Image.open(io.BytesIO(overlays.heat_layer(heat))))[..., 3].any()
    heat[5:10, 5:10] = np.linspace(0.1, 3, 5)
    blended = np.asarray(Image.open(io.BytesIO(overlays.blend(gray, heat))))
    assert np.array_equal(blended, pictures.overlay(gray, heat, None))
    layer = Image.open(io.BytesIO(overlays.heat_layer(heat)))
    assert (layer.format, layer.mode, layer.size) == ("PNG", "RGBA", (24, 24))
    alpha = np.asarray(layer)[..., 3]
    assert np.array_equal(alpha > 0, heat > 0)
    assert (alpha[5, 9], alpha[5, 5]) == (255, round(255 * 0.1 / 3))
