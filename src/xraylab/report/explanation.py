"""What `explain` found, with its pictures as the page needs them."""

import base64
from pathlib import Path
from typing import Any

METHODS = {"grad-cam": "Grad-CAM", "occlusion": "Occlusion"}
NETWORKS = {"trained": "this network", "random": "random weights"}

Record = dict[str, Any]


def section(summary: Record, folder: Path) -> Record:
    """reports/explain/summary.json with a data URI in the place of each picture's name below `folder`."""
    maps = summary["feature_maps"]
    return summary | {
        "experiments": [_experiment(each, folder) for each in summary["experiments"]],
        "feature_maps": maps and maps | {"layers": [_shown(each, folder) for each in maps["layers"]]},
        "measured": [row for each in summary["experiments"] for row in _measured(each)],
    }


def data_uri(path: Path) -> str:
    """A PNG file as it is."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _experiment(record: Record, folder: Path) -> Record:
    cells = [cell | {"images": _all_shown(cell["images"], folder)} for cell in record["cells"]]
    return record | {"cells": cells, "top_losses": _all_shown(record["top_losses"], folder)}


def _all_shown(images: list[Record], folder: Path) -> list[Record]:
    return [
        image | {"pictures": {name: data_uri(folder / path) for name, path in image["pictures"].items()}}
        for image in images
    ]


def _shown(layer: Record, folder: Path) -> Record:
    return layer | {"picture": data_uri(folder / layer["picture"])}


def _measured(record: Record) -> list[Record]:
    """One row per method and network that were measured against the masks of findings."""
    if record["localisation"] is None:
        return []
    return [
        {"experiment": record["experiment"], "method": METHODS[method], "network": NETWORKS[kind], **figures}
        for method, networks in record["localisation"]["methods"].items()
        for kind, figures in networks.items()
    ]
