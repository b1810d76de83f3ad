"""Small studies for the tests, prepared once where several tests only read them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import small

from xraylab import files, params
from xraylab.model import weights
from xraylab.params import Params, read_plan
from xraylab.paths import Paths
from xraylab.predict import kept
from xraylab.stages import cache, fetch, index, plan, source, split, train

Loaded = tuple[Params, Paths]


@pytest.fixture(autouse=True)
def _no_dvc_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may themselves run under dvc."""
    monkeypatch.delenv("DVC_ROOT", raising=False)


def load(folder: Path) -> Loaded:
    return params.read(folder / "params.yaml"), Paths(folder)


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[[Callable[[small.Tree], None]], Loaded]:
    """Makes a study of noise images whose stages up to `plan` have run."""

    def prepare(change: Callable[[small.Tree], None] = lambda tree: None) -> Loaded:
        images = small.two_classes(tmp_path / "images")
        study = small.study(tmp_path / "study", small.use(images, ["Healthy", "TB"], "TB"))
        small.edit(study, change)
        loaded = load(study)
        for stage in (source, fetch, index, split, cache, plan):
            stage.run(*loaded)
        return loaded

    return prepare


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A study of 30 pictures with a run of random weights."""
    root = tmp_path_factory.mktemp("external")
    small.pictures(root / "images", [f"Healthy/h{n:02}.png" for n in range(20)], seed=1)
    small.pictures(root / "images", [f"TB/t{n:02}.png" for n in range(10)], seed=2)
    study = small.study(root / "study", small.use(root / "images", ["Healthy", "TB"], "TB"))
    loaded = load(study)
    for stage in (source, fetch, index, split, cache, plan):
        stage.run(*loaded)
    given, paths = loaded
    model = {
        **train._described(read_plan(paths.plan("baseline")), given),
        "experiment": "baseline", "repeat": 0, "best_epoch": 1, "last_epoch": 1, "kept_epochs": [1],
        "hardware": {"precision": "float32"},
    }  # fmt: skip
    folder = paths.model("baseline", 0)
    files.write_json(model, folder / "model.json")
    weights.save(kept.untrained(model, 0), folder / "best.safetensors")
    return loaded


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("XRAYLAB_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("XRAYLAB_REAL_DATA names no folder of real X-rays")
    return Path(folder)
