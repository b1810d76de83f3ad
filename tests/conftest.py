"""Small studies for the tests, prepared once where several tests only read them."""

import os
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import findings
import pytest
import small
from cluster_study import (  # noqa: F401 - fixtures of the tests in cluster/
    cluster,
    ray_head,
    s3,
    slurm,
    study_with_remotes,
    two_experiments,
)
from huggingface_hub import constants

from xraylab import files, template
from xraylab.model import weights
from xraylab.params import config
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.predict.checkpoints import TrainedModel
from xraylab.stages import configure, predict, train
from xraylab.train import outputs
from xraylab.train.run import TrainingRun

Loaded = tuple[Params, Paths]


@pytest.fixture(autouse=True)
def _no_dvc_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may themselves run under dvc."""
    monkeypatch.delenv("DVC_ROOT", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """What is written need not outlast the machine."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


def load(folder: Path) -> Loaded:
    return config.read(folder / "params.yaml"), Paths(folder)


STAGES = [import_module(f"xraylab.stages.{name}") for name in template.stages() if name != "code"]  # as in dvc.yaml
BEFORE_CONFIGURE = STAGES[: STAGES.index(configure)]
BEFORE_TRAIN, AFTER_PREDICT = STAGES[: STAGES.index(train)], STAGES[STAGES.index(predict) + 1 :]


def run(loaded: Loaded, *stages: ModuleType) -> Loaded:
    for stage in stages:
        stage.run(*loaded)
    return loaded


def to_the_report(study: Path) -> Loaded:
    """Run every stage, as `dvc repro` would, in this process."""
    given, paths = loaded = run(load(study), *BEFORE_TRAIN)
    for experiment in given.experiments:
        for repeat in given.study.repeats:
            train.run(given, paths, experiment, repeat)
            predict.run(given, paths, experiment, repeat)
    return run(loaded, *AFTER_PREDICT)


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of noise images whose stages before `configure` have run: the original that `prepared` copies."""
    folder = tmp_path_factory.mktemp("noise")
    images = small.two_classes(folder / "images")
    study = small.study(folder / "study", small.use(images, ["Healthy", "TB"], "TB"))
    run(load(study), *BEFORE_CONFIGURE)
    return study


@pytest.fixture
def prepared(noise: Path, tmp_path: Path) -> Callable[..., Loaded]:
    """Makes a study of noise images whose stages up to `configure` have run."""

    def prepare(change: small.Change = lambda tree: None) -> Loaded:
        study = shutil.copytree(noise, tmp_path / "study")
        small.edit(study, change)
        original, loaded = load(noise), load(study)
        same = all(getattr(original[0], part) == getattr(loaded[0], part) for part in ("data", "split", "images"))
        return run(loaded, *(() if same else BEFORE_CONFIGURE), configure)

    return prepare


@pytest.fixture(scope="session")
def several_findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-label study of noise images whose stages before `configure` have run; copy it to change it."""
    folder = tmp_path_factory.mktemp("findings")
    study = small.study(folder / "study", findings.use(findings.images(folder / "images")))
    run(load(study), *BEFORE_CONFIGURE)
    return study


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A study of 30 pictures with a run of random weights."""
    root = tmp_path_factory.mktemp("external")
    small.pictures(root / "images", [f"Healthy/h{n:02}.png" for n in range(20)], seed=1)
    small.pictures(root / "images", [f"TB/t{n:02}.png" for n in range(10)], seed=2)
    study = small.study(root / "study", small.use(root / "images", ["Healthy", "TB"], "TB"))
    return with_random_weights(run(load(study), *BEFORE_CONFIGURE, configure))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A study of drawn radiographs that was run to the report: baseline alone, for one epoch."""

    def change(tree: small.Tree) -> None:
        tree["experiments"] = {"baseline": tree["experiments"]["baseline"]}
        tree["train"]["epochs"] = 1
        tree["explain"]["experiments"] = []

    return to_the_report(small.study(tmp_path_factory.mktemp("finished") / "study", change))


@pytest.fixture(scope="session")
def trained_findings(several_findings: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The multi-label study with a run of random weights."""
    study = shutil.copytree(several_findings, tmp_path_factory.mktemp("trained_findings") / "study")
    return with_random_weights(run(load(study), configure))


def with_random_weights(loaded: Loaded) -> Loaded:
    """The study with a run baseline/0 that learned nothing."""
    given, paths = loaded
    model = {
        **outputs.describe(TrainingRun.load(given, paths, "baseline", 0)),
        "best_epoch": 1, "last_epoch": 1, "kept_epochs": [1], "hardware": {"precision": "float32"},
    }  # fmt: skip
    folder = paths.model("baseline", 0)
    files.write_json(model, folder / "model.json")
    weights.save(TrainedModel(folder, model).untrained(0), folder / "best.safetensors")
    return loaded


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for named weights, and a hub that nobody listens at."""
    monkeypatch.setenv("XRAYLAB_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    nobody = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nobody)
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.fixture
def figures() -> Iterator[Callable[[], list[Any]]]:
    """Returns a function for the axes that hold an image, in all figures drawn by then, without a screen."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - few tests draw

    plt.switch_backend("agg")
    yield lambda: [axes for number in plt.get_fignums() for axes in plt.figure(number).axes if axes.images]
    plt.close("all")


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("XRAYLAB_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("XRAYLAB_REAL_DATA names no folder of real X-rays")
    return Path(folder)
