"""The shipped section `model` of params.yaml with some keys changed."""

from typing import Any

import small

from xraylab import files
from xraylab.params.model import Model


def model_config(freeze: dict[str, Any] | None = None, **keys: Any) -> Model:
    """Images are small ones, of 32 pixels."""
    tree = files.read_yaml(small.REPOSITORY / "params.yaml")["model"]
    return Model.model_validate({**tree, "img_size": 32, **keys, "freeze": {**tree["freeze"], **(freeze or {})}})
