"""Every documented network exported to ONNX and torch.export at random weights, and how far the probabilities are.

`python bench/exports.py [network ...]`: each at a small size, in a process of its own, which
gives its memory back. A network that cannot be exported is a row that says why; networks that are not named keep
the rows that they have.
"""

import json
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from measure import Gate

from xraylab.errors import XraylabError
from xraylab.export import metadata, onnx_file, parity, pt2_file
from xraylab.export.graph import ClassifierGraph
from xraylab.inference.classifier import Classifier
from xraylab.inference.thresholds import Thresholds
from xraylab.model import create
from xraylab.params import config

IMAGES, SATURATED = 8, 3.0
FORMATS = {"ONNX": onnx_file, "torch.export": pt2_file}
Row = dict[str, Any]


@dataclass(frozen=True)
class Network:
    """A network as a study may train it, on images of `size` pixels."""

    arch: str
    size: int = 64
    channels: int = 3
    head: str = "linear"
    findings: bool = False

    @property
    def name(self) -> str:
        return f"{self.arch}-{self.head}"


NETWORKS = [
    *(Network(f"resnet{depth}", channels=channels) for depth, channels in [(18, 1), (34, 3), (50, 3)]),
    *(Network(f"resnet{depth}") for depth in (101, 152)),
    *(Network("resnet18", head=head, findings=findings) for head, findings in [("concat", True), ("dense", False)]),
    *(Network("densenet121", head=head, findings=True) for head in ("linear", "concat")),
    Network("inception_v3", size=96),
    Network("inception_v3", size=96, head="concat"),
    Network("resnetv2_50", head="dense"),
    Network("convnext_tiny"),
    Network("convnext_tiny", head="concat"),
    Network("vit_b_16"),
    Network("vit_b_16", head="dense", findings=True),
    *(Network(f"coatnet_{number}") for number in range(5)),
    Network("coatnet_0", head="concat"),
]
"""The networks of docs/models.md and of the presets, with their heads."""


def classifier(network: Network) -> Classifier:
    """A classifier at random weights, whose batch norms have statistics of images, as after training."""
    torch.manual_seed(0)
    params = config.read(measure.REPOSITORY / "params.yaml")
    cfg = params.experiment("baseline").model.model_copy(
        update={"arch": network.arch, "img_size": network.size, "channels": network.channels, "head": network.head}
        | {"head_hidden": 128, "head_batch_norm": True}  # which the baseline's linear head has no use for
    )
    classes = ["a", "b", "c"] if network.findings else ["Healthy", "TB"]
    model = create.create_model(cfg, len(classes))
    settle(model, network)
    record = {
        "classes": classes, "positive": None if network.findings else "TB", "arch": network.arch,
        "task": "multi-label" if network.findings else "single-label",
        "channels": network.channels, "img_size": network.size, "multiply_adds": 1,
        "normalise": {"mean": [0.5] * network.channels, "std": [0.25] * network.channels},
        "images": params.images.model_dump() | {"size": network.size}, "hardware": {"precision": "float32"},
    }  # fmt: skip
    return Classifier.create(f"{network.arch}/0", record, Thresholds(temperature=1.7), model, "float32")


def settle(model: torch.nn.Module, network: Network) -> None:
    """Pass images through the network in training mode, since initial statistics make deep networks overflow.

    Logits that would leave every probability at 0 or 1, where no difference shows, are scaled down by the last layer.
    """
    levels = torch.from_numpy(films(network.size, 16, seed=1)).float()[:, None]
    batch = ((levels / 255 - 0.5) / 0.25).expand(-1, network.channels, -1, -1).contiguous()
    with torch.no_grad():
        model.train()(batch)
        spread = float(model.eval()(batch).std())
        if spread > SATURATED:
            last = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
            last.weight /= spread
            if last.bias is not None:
                last.bias /= spread


def films(size: int, n: int, seed: int = 0) -> np.ndarray:
    """Smooth noise uint8 (n, size, size), each film of another brightness."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((n, 1, 8, 8)))
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")[:, 0].clamp(0, 1).numpy()
    return (smooth * rng.uniform(80, 255, (n, 1, 1))).astype(np.uint8)


def exported(network: Network) -> Row:
    """The largest difference of a probability in each format, and seconds and MB of writing; or why there is none."""
    warnings.simplefilter("ignore")
    one, images = classifier(network), films(network.size, IMAGES)
    row = identity(network) | {"spread": float(np.ptp(one.predict_proba(images)))}
    for name, form in FORMATS.items():
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "file"
            try:
                form.write(ClassifierGraph(one).eval(), network.size, metadata.of(one), target)
                difference = parity.measure(form.runner(target), one, images)
            except XraylabError as error:
                row[name] = str(error)
                continue
            row[name] = difference.probabilities
            row[f"{name}, MB"] = target.stat().st_size / 1e6
        row[f"{name}, s"] = time.perf_counter() - started
    return row


def main() -> None:
    chosen = [each for each in NETWORKS if not sys.argv[1:] or each.name in sys.argv[1:] or each.arch in sys.argv[1:]]
    done, whole = earlier() if sys.argv[1:] else {}, True
    for network in chosen:
        done[network] = measure.alone(exported, network)
        measure.say(f"{network.name}: {done[network]}")
        rows = [done[each] for each in NETWORKS if each in done]
        whole = measure.write("exports", {"Exports": rows}, gates(rows), ["float32"])
    sys.exit(0 if whole else 1)


def earlier() -> dict[Network, Row]:
    """The networks that have been measured before, and their rows."""
    path = measure.RESULTS / "exports.json"
    rows = json.loads(path.read_text())["tables"]["Exports"] if path.is_file() else []
    return {network: row for network in NETWORKS for row in rows if row.items() >= identity(network).items()}


def identity(network: Network) -> Row:
    labels = "findings" if network.findings else "classes"
    return {
        "network": network.arch, "head": network.head, "labels": labels,
        "channels": network.channels, "px": network.size,
    }  # fmt: skip


def gates(rows: list[Row]) -> dict[str, Gate]:
    """Every export is within the tolerance of `xraylab export`, in millionths; one that failed is far outside."""
    most = parity.TOLERANCE * 1e6
    return {
        f"{row['network']}, {row['head']}, {name}: largest difference, in millionths": Gate(
            row[name] * 1e6 if isinstance(row[name], float) else 1e6, most=most
        )
        for row in rows
        for name in FORMATS
    }


if __name__ == "__main__":
    main()
