"""Every file that a stage reads, damaged in every way: the stage ends with a sentence that names the file."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from damage import DAMAGE, UNREADABLE

from xraylab import dvc_lock
from xraylab.cli import failures
from xraylab.errors import XraylabError
from xraylab.integrity import lock
from xraylab.integrity.check import require_intact
from xraylab.integrity.verify import verify
from xraylab.paths import Paths
from xraylab.pipeline import touches

pytest_plugins = ["recorded_study"]

WRITTEN = (
    "code/train.txt", "data/source.json", "data/raw/a.png", "data/raw/deep/er/c.png", "data/raw/日本.png",
    "data/index.csv", "data/split/train_data.csv", "data/cache/images.npy", "data/cache/rows.csv", "configs/base.yaml",
    "models/base/0/best.safetensors", "models/base/0/model.json", "predictions/base/0.csv",
)  # fmt: skip


@pytest.fixture(scope="module")
def study(recorded_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    """One for all of them: each damage is taken back."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(dvc_lock, "PAUSE", 0.0)
        yield Paths(Path(shutil.copytree(recorded_once, tmp_path_factory.mktemp("damaged") / "study")))


def restored(path: Path, content: bytes) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_stage_that_reads_a_damaged_file_names_it(
    name: str, study: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, path = lock.stages_of(study), study.root / name
    reading = next(stage for stage in stages if any(touches(name, dep) for dep in stage.deps))
    outs = [out.path for out in lock.read(study, stages).outputs]
    monkeypatch.setenv("DVC_STAGE", reading.name)
    content = path.read_bytes()
    for kind, injure in DAMAGE.items():
        if kind == "absent" and name in outs:
            continue  # DVC makes it anew before it runs the stage
        injure(path)
        with pytest.raises(XraylabError) as error:
            require_intact(study, reading.name.partition("@")[0])
        assert f"{name} (" in str(error.value), kind
        assert "brings it back" in str(error.value)
        restored(path, content)
        require_intact(study, reading.name.partition("@")[0])


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_damaged_description_of_the_study_is_named(
    name: str, kind: str, study: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "cache")
    path = study.root / name
    content = path.read_bytes()
    DAMAGE[kind](path)
    try:
        if (name, kind) == ("dvc.lock", "absent"):
            require_intact(study, "cache")  # as before the first run
            return
        for check in (lambda: require_intact(study, "cache"), lambda: verify(study)):
            assert name in sentence(check)
    finally:
        restored(path, content)


def sentence(stage: Callable[[], object]) -> str:
    """What the command line says of the error of a stage, which is no traceback."""
    with pytest.raises((XraylabError, OSError)) as error:
        stage()
    text = str(error.value) if isinstance(error.value, XraylabError) else failures.describe(error.value)
    assert text
    return text
