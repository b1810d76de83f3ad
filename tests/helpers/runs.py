"""What runs wrote, and runs that are stopped on their way."""

import pytest
from conftest import Loaded

from xraylab import files
from xraylab.train import callbacks


def outcome(loaded: Loaded, experiment: str = "baseline", repeat: int = 0) -> dict[str, bytes]:
    """The bytes of what a run wrote, but for its time and place."""
    folder = loaded[1].model(experiment, repeat)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.json"}


def model_json(loaded: Loaded, experiment: str = "baseline") -> dict[str, object]:
    return files.read_json(loaded[1].model(experiment, 0) / "model.json")


class Killed(BaseException):
    """Stands for a process that ends at once."""


def kill_after(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the next run in the middle of the epoch after `epoch`."""
    before_train = callbacks.Reproducible.before_train

    def stop(self: callbacks.Reproducible) -> None:
        before_train(self)
        if self.dls.train.epoch == epoch + 1:
            raise Killed

    monkeypatch.setattr(callbacks.Reproducible, "before_train", stop)
