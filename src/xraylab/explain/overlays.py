"""Grad-CAM of any images by a classifier, and its overlays as PNG."""

import copy
import io
from collections.abc import Sequence

import cv2
import matplotlib as mpl
import numpy as np
import torch
from PIL import Image

from xraylab.explain import pictures, saliency
from xraylab.explain.pictures import Gray
from xraylab.explain.saliency import Saliency
from xraylab.inference.classifier import Classifier


def heatmaps(classifier: Classifier, images: Gray, classes: Sequence[str]) -> Saliency:
    """Grad-CAM of the evidence for each image's class, as the stage `explain` computes it: float32 (n, size, size).

    `images`: uint8 (n, size, size), as `Classifier.prepare` makes them; n >= 1. Maps are >= 0 and not scaled. One call
    at a time per classifier, since it listens to the network's layers. Errors: ParamsError where no layer of the
    network is laid out in space.
    """
    batch = classifier.to_input(images)
    numbers = torch.tensor([classifier.classes.index(name) for name in classes], device=batch.device)
    network = classifier.network
    if batch.device.type != "cpu":
        network = copy.deepcopy(network).to(batch.device)  # the classifier's own stays on the CPU
    evidence = saliency.logit if classifier.multi_label else saliency.log_odds
    maps = saliency.grad_cam(network, batch, numbers, evidence).numpy()
    if maps.shape[1:] == images.shape[1:]:
        return maps
    size = images.shape[1:][::-1]
    return np.stack([cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in maps])


def blend(image: Gray, heatmap: Saliency) -> bytes:
    """A PNG of one image (size, size) under its heat map, as the report shows it: from nothing to the map's maximum."""
    return _png(Image.fromarray(pictures.overlay(image, heatmap, None)))


def heat_layer(heatmap: Saliency) -> bytes:
    """A PNG of one heat map (size, size) alone, transparent where there is no evidence, to lay over its image."""
    strength = heatmap.clip(min=0) / (heatmap.max() if heatmap.max() > 0 else 1.0)
    colour = mpl.colormaps["inferno"](strength, bytes=True)
    colour[..., 3] = np.round(255 * strength)
    return _png(Image.fromarray(colour))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
