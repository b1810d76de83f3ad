"""Signs of life where there is no terminal, by a clock that the tests turn."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from xraylab import cli, progress, terminal
from xraylab.cli import stages
from xraylab.search import experiment
from xraylab.train import history as module

NAME = "x" * 66  # the longest that an experiment and its repeat make


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float, items: Iterable[int]) -> list[int]:
        """The items, each of which takes so long."""
        taken = []
        for item in items:
            self.now += seconds
            taken.append(item)
        return taken


def test_a_line_every_half_minute_says_how_far_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    assert clock.after(10, progress.bar(range(10), 10, "decoding images", clock)) == list(range(10))
    assert capsys.readouterr().err.splitlines() == [
        "decoding images  3/10  1:10 left",
        "decoding images  6/10  0:40 left",
        "decoding images  9/10  0:10 left",
    ]
    assert clock.after(1, progress.bar(range(10), 10, "decoding images", clock)) == list(range(10))
    assert capsys.readouterr().err == ""


def test_work_without_a_known_end_is_a_line_in_a_pipe_and_moves_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.working("exporting"):
        assert capsys.readouterr().err == "exporting\n"
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(terminal.Console, "is_terminal", True)
    monkeypatch.setenv("TERM", "xterm")
    with progress.working("exporting"):
        pass
    assert re.search(r"exporting \S*0:00:00", capsys.readouterr().err)


def test_what_threads_do_comes_in_order_and_counts_once_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(progress, "tick", lambda pace, text: told.append(pace.total))
    results = progress.thread_map(lambda item: item * item, range(600), "squaring")
    assert next(results) == 0
    assert told == []  # hundreds are under way, and the first is not yet taken
    assert list(results) == [item * item for item in range(1, 600)]
    assert told == [600] * 600


def bar(clock: Clock, rows: int) -> module.EpochBar:
    """Of six epochs of ten batches of 32 images, so many of which are done."""

    class Batches(list[int]):
        bs = 32

    history = SimpleNamespace(rows=[{}] * rows)
    made = module.EpochBar("baseline-0", 6, history, "valid_f1", clock)  # type: ignore[arg-type]
    made.learn = SimpleNamespace(dls=SimpleNamespace(train=Batches(range(10))), training=True, n_iter=10)
    made.start(rows)
    return made


def test_a_long_epoch_is_heard_of_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    shown = bar(clock, rows=1)
    for number in range(10):
        clock.now += 4
        shown.learn.iter = number
        shown.after_batch()
    shown.learn.training = False
    for number in range(10):
        clock.now += 3
        shown.learn.iter = number
        shown.after_batch()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "baseline-0 epoch 2/6, 80 %  8 images/s  2:48 left",
        "baseline-0 epoch 2/6, 80 % scored  5 images/s  4:16 left",
    ]
    assert [experiment.parse_epoch(line) for line in lines] == [None, None]  # a search looks for whole epochs


METRICS = {"loss": 0.34561, "accuracy": 0.87124, "f1": 0.78125}
ROW = {
    "epoch": 11, "phase": "one_cycle", "lr": 1e-3, "train_loss": 0.321, "train_accuracy": 0.88125,
    **{f"{split}_{name}": metric for split in ("valid", "test") for name, metric in METRICS.items()},
}  # fmt: skip


def test_an_epochs_line_fits_a_hundred_columns() -> None:
    assert module.epoch_line("l2-0", 30, ROW, "valid_f1") == (
        "l2-0 epoch 12/30  train_loss 0.3210  valid_loss 0.3456  valid_accuracy 0.8712  valid_f1 0.7812"
    )
    assert module.epoch_line("resnet18-scratch-0", 30, ROW, "test_loss") == (
        "resnet18-scratch-0 epoch 12/30  train_loss 0.3210  test_loss 0.3456  test_f1 0.7812"
    )


@pytest.mark.parametrize("select", ["valid_f1", "valid_accuracy", "valid_loss", "test_f1", "test_accuracy"])
@pytest.mark.parametrize("name", ["a-0", "sharpness-10", NAME])
def test_the_metric_that_chooses_is_on_every_line(select: str, name: str) -> None:
    line = module.epoch_line(name, 100, ROW, select)
    assert len(line) <= 100
    epoch, epochs, metrics = experiment.parse_epoch(line) or pytest.fail("not understood")
    assert (epoch, epochs, metrics[select]) == (12, 100, pytest.approx(ROW[select], abs=1e-4))


def test_what_a_stage_prints_is_not_held_back(monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    monkeypatch.setattr(cli, "app", lambda prog_name: None)
    assert not sys.stdout.line_buffering  # type: ignore[attr-defined]
    cli.main()
    assert sys.stdout.line_buffering  # type: ignore[attr-defined]


def test_a_stage_is_announced_before_its_libraries_are_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    events: list[object] = []
    study = (
        "params",
        SimpleNamespace(has_code=True, code=Path("no/code"), running=tmp_path, root=tmp_path, home=tmp_path),
    )

    def imported(name: str) -> SimpleNamespace:
        events.append((name, capsys.readouterr().err))
        return SimpleNamespace(run=lambda *arguments: events.append(arguments))

    monkeypatch.setattr(stages, "import_module", imported)
    monkeypatch.setattr(stages, "read_study", lambda: study)
    cli.app(["train", "baseline", "2"], standalone_mode=False)
    cli.app(["index"], standalone_mode=False)
    assert events == [
        ("xraylab.stages.train", "train baseline-2: starting\n"),
        (*study, "baseline", 2),
        ("xraylab.stages.index", "index: starting\n"),
        study,
    ]
