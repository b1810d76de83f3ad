"""Damage to the saved state of a run is noticed, and costs an epoch or begins anew: it never gives other weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Loaded
from runs import Killed, kill_after, outcome

from xraylab import files
from xraylab.errors import DataError
from xraylab.stages import train
from xraylab.train import generations
from xraylab.train.generations import MANIFEST

Damage = Callable[[Path], object]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Damage] = {
    "is damaged": flip,
    "is damaged: truncated": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "is damaged: empty": lambda path: path.write_bytes(b""),
    "is absent": lambda path: path.unlink(),
    "is absent: a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three finished epochs; epoch 0 is the best."""
    folder = tmp_path / "baseline-0-0123"
    folder.mkdir()
    for epoch in range(3):
        for name in (f"state-{epoch:03d}.pt", f"epoch-{epoch:03d}.safetensors"):
            (folder / name).write_bytes(name.encode() * 9)
        kept = sorted({0, epoch})
        generations.commit(
            folder, epoch, [f"state-{epoch:03d}.pt", *(f"epoch-{each:03d}.safetensors" for each in kept)]
        )
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_that_never_began_has_lost_nothing(tmp_path: Path) -> None:
    assert generations.discard_damaged(tmp_path / "baseline-0-0123") is None


def test_two_generations_are_kept_and_no_other_file(run: Path) -> None:
    assert names(run) == {
        MANIFEST, "state-001.pt", "state-002.pt", "epoch-000.safetensors", "epoch-001.safetensors",
        "epoch-002.safetensors",
    }  # fmt: skip
    (run / ".state-003.pt.x").write_bytes(b"left over")
    (run / "epoch-003.safetensors").write_bytes(b"of an epoch that was not finished")
    (run / "devices.json").write_text("{}")
    assert generations.discard_damaged(run) is None
    assert len(names(run)) == 7
    newest = generations.newest(run)
    assert newest is not None
    assert newest.epoch == 2
    assert newest.files == {name: files.sha256(run / name) for name in newest.files}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["state-002.pt", "epoch-002.safetensors"])
def test_a_damaged_file_of_the_newest_epoch_costs_this_epoch(run: Path, name: str, how: str) -> None:
    DAMAGES[how](run / name)
    assert generations.discard_damaged(run) == (
        f"{name} {how.split(':', maxsplit=1)[0]} in .xraylab/runs/baseline-0-0123: the run goes on after epoch 2"
    )
    newest = generations.newest(run)
    assert newest is not None
    assert newest.epoch == 1
    assert not any("002" in name for name in names(run))
    assert generations.discard_damaged(run) is None


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", [MANIFEST, "epoch-000.safetensors"])
def test_damage_to_what_every_epoch_needs_begins_anew(run: Path, name: str, how: str) -> None:
    DAMAGES[how](run / name)
    problem = generations.discard_damaged(run)
    assert problem is not None
    assert problem.startswith(f"{name} is ")
    assert problem.endswith(": the run begins anew")
    assert names(run) == set()
    assert generations.newest(run) is None


@pytest.mark.parametrize(
    "text", ["3", "[[]]", '{"generations": []}', '{"generations": [{"epoch": 1}], "sha256": ""}', "\xff"]
)
def test_a_manifest_that_is_none_is_damage(run: Path, text: str) -> None:
    (run / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=MANIFEST):
        generations.newest(run)
    assert "begins anew" in str(generations.discard_damaged(run))


@pytest.mark.parametrize(("damaged", "line"), [(["002"], "goes on after epoch 2"), (["001", "002"], "begins anew")])
def test_a_run_whose_state_was_damaged_ends_with_the_same_bits(
    damaged: list[str],
    line: str,
    prepared: Callable[..., Loaded],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    loaded = prepared(lambda tree: tree["train"].update(epochs=4))
    train.run(*loaded, "baseline", 0)
    whole = outcome(loaded)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(2, patched)
        train.run(*loaded, "baseline", 0)
    (folder,) = (path for path in (loaded[1].state / "runs").iterdir() if path.is_dir())
    for epoch in damaged:
        flip(folder / f"state-{epoch}.pt")
    capsys.readouterr()
    train.run(*loaded, "baseline", 0)
    assert line in capsys.readouterr().err
    assert outcome(loaded) == whole
