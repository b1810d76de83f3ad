"""Facts of a card that a MONAI bundle has too, under MONAI's names: configs/metadata.json and configs/inference.json.

The keys are those of MONAI's bundle specification. Its models/model.pt, a pickle, is not written.
"""

import json
from typing import Any

from xraylab.inference.card import RESEARCH_ONLY, ModelCard

METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"
FILES = (METADATA, INFERENCE)
MONAI = "1.6.1"  # the version that inference.json was tried with
CHANNELS = {1: ["gray"], 3: ["gray", "gray", "gray"]}


def files(card: ModelCard, bundle: str) -> dict[str, bytes]:
    """Both files by name; `bundle` is the name of the zip that they are in."""
    trees = {METADATA: metadata(card), INFERENCE: inference(bundle)}
    return {name: (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode() for name, tree in trees.items()}


def metadata(card: ModelCard) -> dict[str, Any]:
    """configs/metadata.json: the specification's mandatory keys, and of the others those that are known."""
    aim = "detects" if card.multi_label else "distinguishes"
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "X-ray",
        **_tensor(CHANNELS[card.network.channels], [card.network.img_size] * 2, []),
    }
    return {
        "version": "1.0.0",
        "monai_version": MONAI,
        "pytorch_version": card.versions["torch"],
        "numpy_version": card.versions["numpy"],
        "optional_packages_version": {name: card.versions[name] for name in ("timm", "torchvision", "xraylab")},
        "name": card.name,
        "task": f"{card.task} classification of radiographs",
        "description": f"{card.network.arch} that {aim} {', '.join(card.classes)}",
        "authors": "not known",
        "copyright": "not known",
        "intended_use": f"{card.intended_use} {RESEARCH_ONLY}",
        "data_source": card.data.source,
        "image_classes": f"prepared as card.json says: {card.preprocessing.description}",
        "pred_classes": ", ".join(card.classes),
        "eval_metrics": {
            f"{row.class_} {row.metric}": row.estimate.value for row in card.metrics if row.estimate.value is not None
        },
        "network_data_format": {
            "inputs": {"image": image},
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    **_tensor(list(card.classes), [1, len(card.classes)], [0, 1]),
                }
            },
        },
    }


def inference(bundle: str) -> dict[str, Any]:
    """configs/inference.json: `python -m monai.bundle run --config_file inference.json --images '[...]'`."""
    return {
        "imports": ["$import xraylab"],
        "bundle": bundle,
        "images": [],
        "classifier": {"_target_": "xraylab.load", "path": "@bundle"},
        "predictions": "$@classifier.predict(@images)",
        "run": ["$print(@predictions)"],
    }


def _tensor(channels: list[str], shape: list[int], value_range: list[int]) -> dict[str, Any]:
    return {
        "num_channels": len(channels),
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": value_range,
        "is_patch_data": False,
        "channel_def": {str(number): name for number, name in enumerate(channels)},
    }
