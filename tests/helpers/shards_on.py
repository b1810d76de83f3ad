"""The shards of an index made by the nodes of an engine, and what they come to."""

import sys
from pathlib import Path

import pytest
import small
from conftest import load, run

from xraylab import cli, shards
from xraylab.stages import fetch, index, source


def two_nodes(
    engine: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Make them by `xraylab shards`: they are the whole index, and the stage makes none anew."""
    images = small.two_classes(tmp_path / "images")
    study = small.study(tmp_path / "study", small.use(images, ["Healthy", "TB"], "TB"))
    code, size = study / "src/xraylab/shards.py", f"SHARD = {shards.SHARD}\n"
    assert size in code.read_text()
    code.write_text(code.read_text().replace(size, "SHARD = 40\n"))  # of 60 images: two shards, also for the jobs
    monkeypatch.setattr(shards, "SHARD", 40)
    loaded = _, paths = run(load(study), source, fetch)
    monkeypatch.chdir(study)
    command = ["xraylab", "shards", "index", "--on", engine, "--parts", "2", *options]
    monkeypatch.setattr(sys, "argv", command)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert {line.partition(" on ")[0] for line in capsys.readouterr().out.splitlines()} == {
        "index-1-of-2: done", "index-2-of-2: done", "all shards are finished: `dvc repro index` puts them together",
    }  # fmt: skip
    made = [path.stat().st_mtime_ns for path in sorted((paths.shards / "index").iterdir())]
    assert len(made) == 4
    run(loaded, index)
    assert [path.stat().st_mtime_ns for path in sorted((paths.shards / "index").iterdir())] == made
    joined = paths.index.read_bytes()
    monkeypatch.setattr(shards, "SHARD", 10_000)
    run(loaded, index)
    assert paths.index.read_bytes() == joined
