"""A study of a few bytes with the stages' names and paths, run by the real dvc: its dvc.lock, cache and outputs.

A module that names this as a plugin has it as the fixture `recorded`, a copy that may be damaged.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dvc.repo import Repo

from xraylab import dvc_lock
from xraylab.paths import Paths

PARAMS = """\
data: {classes: [A, B], source: demo}
split: {seed: 0}
experiments: {base: {}, l2: {}}
study: {repeats: [0]}
"""
DVC_YAML = """\
stages:
  code:
    cmd: mkdir -p code && for stage in fetch split cache train; do echo fingerprint > code/$stage.txt; done
    deps: [made.txt]
    outs: [code]
  source:
    cmd: mkdir -p data && echo '[]' > data/source.json
    deps: [code]
    outs:
      - data/source.json: {cache: false, persist: true}
  fetch:
    cmd: cp -r images data/raw
    deps: [code/fetch.txt, data/source.json]
    outs: [data/raw]
  index:
    cmd: ls data/raw > data/index.csv
    deps: [data/raw]
    params: [data.classes]
    outs: [data/index.csv]
  split:
    cmd: mkdir -p data/split && printf 'id\\na\\nb\\n' > data/split/train_data.csv && printf 'id\\nc\\n' > data/split/test_data.csv
    deps: [code/split.txt, data/index.csv]
    params: [split]
    outs: [data/split]
  cache:
    cmd: mkdir -p data/cache && head -c 300000 /dev/zero > data/cache/images.npy && echo id > data/cache/rows.csv
    deps: [code/cache.txt, data/raw, data/index.csv]
    outs: [data/cache]
  configure:
    cmd: mkdir -p configs && for name in base l2; do echo lr=1 > configs/$name.yaml; done
    deps: [data/index.csv]
    params: [experiments]
    outs: [configs]
  train:
    matrix:
      experiment: ${experiments}
      repeat: ${study.repeats}
    cmd: mkdir -p models/${item.experiment}/${item.repeat} && echo ${item.experiment} weights > models/${item.experiment}/${item.repeat}/best.safetensors && echo '{}' > models/${item.experiment}/${item.repeat}/model.json
    deps: [code/train.txt, data/cache, data/split, "configs/${item.experiment}.yaml"]
    outs: ["models/${item.experiment}/${item.repeat}"]
  predict:
    matrix:
      experiment: ${experiments}
      repeat: ${study.repeats}
    cmd: mkdir -p predictions/${item.experiment} && echo ${item.experiment} p > predictions/${item.experiment}/${item.repeat}.csv
    deps: [data/cache, data/split, "models/${item.experiment}/${item.repeat}"]
    outs: ["predictions/${item.experiment}/${item.repeat}.csv"]
  evaluate:
    cmd: mkdir -p reports && cat predictions/*/*.csv > reports/comparison.csv
    deps: [data/split, models, predictions]
    outs: [reports/comparison.csv]
"""  # noqa: E501
NAMES = [
    "a.png",
    "b.png",
    "ä ö.png",
    "日本.png",
    "deep/er/c.png",
    "deep/d.png",
    "z.pyc",
    ".odd_cache/e.png",
    "skip/f.png",
]
"""Of `images`; DVC does not see the last three."""
IGNORED = "*.pyc\n.*_cache\n# a comment\nskip/\n"


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def make(folder: Path) -> Path:
    """Make the study and run all of it."""
    for number, name in enumerate(NAMES):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * (number + 1))
    (folder / "made.txt").write_text("1")
    (folder / "src/xraylab").mkdir(parents=True)  # its code is its own, and not the installed package's
    (folder / ".dvcignore").write_text(IGNORED)
    (folder / "params.yaml").write_text(PARAMS)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    with working_in(folder):
        Repo.init(no_scm=True).close()
        with Repo() as repo:
            repo.reproduce()
    return folder


def flip(path: Path) -> None:
    """Flip one bit, and keep the time, the size and the permissions."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(stat.st_mode)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture(scope="session")
def recorded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("recorded") / "study")


@pytest.fixture
def recorded(recorded_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(dvc_lock, "PAUSE", 0.06)  # only the tests themselves write dvc.lock, and at once
    return Paths(Path(shutil.copytree(recorded_once, tmp_path / "study")))
