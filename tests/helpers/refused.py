"""What is wrong with a params.yaml."""

from pathlib import Path

import pytest
import small

from xraylab.errors import ParamsError
from xraylab.params import config


def problems(tmp_path: Path, change: small.Change) -> list[str]:
    study = small.study(tmp_path, change)
    with pytest.raises(ParamsError) as caught:
        config.read(study / "params.yaml")
    assert caught.value.headline == "params.yaml cannot be used:"
    return list(caught.value.problems)
