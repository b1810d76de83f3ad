"""An engine without machines: its jobs stand as the test says, and answer over a real channel."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from xraylab.errors import XraylabError
from xraylab.jobs import node
from xraylab.jobs.channel import Channel
from xraylab.jobs.engines.engine import Command, Resources, State, Status

LINE = "baseline-0 epoch {}/9  train_loss 0.5000  valid_f1 0.{}"


def study(folder: Path) -> Path:
    """A folder with no more of a study than a remote of DVC, beside it."""
    (folder / "study/.dvc").mkdir(parents=True)
    config = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {folder / 'store'}\n"
    (folder / "study/.dvc/config").write_text(config)
    return folder / "study"


class Machines:
    """An engine on which a job is at the next of its states, and has said more, whenever it is asked for.

    A state is the engine's, with the last epoch that the job has finished by then; CANCELLED once it is told so.
    """

    def __init__(self, channel: Channel, *states: tuple[State, int]) -> None:
        self.channel, self.states = channel, list(states)
        self.submitted: list[Command] = []
        self.cancelled: list[str] = []
        self.deaf = 0  # so many questions find no answer

    def check(self, resources: Resources) -> None: ...

    def submit(self, commands: Sequence[Command], resources: Resources, folder: Path) -> list[str]:
        self.submitted += commands
        return [f"{command.name}/{len(self.submitted)}" for command in commands]

    def status(self, ids: Sequence[str]) -> dict[str, Status]:
        if self.deaf:
            self.deaf -= 1
            raise XraylabError("`squeue` failed")
        return {id_: self._stand(id_) for id_ in ids}

    def _stand(self, id_: str) -> Status:
        if id_ in self.cancelled:
            return Status(State.CANCELLED)
        state, epoch = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        name = id_.partition("/")[0]
        self.channel.write("\n".join(LINE.format(each, each) for each in range(1, epoch + 1)), node.log_name(name))
        ends = {State.DONE: "done", State.FAILED: "failed"}
        report = node.Report("n1", ends.get(state, "train@baseline-0"), epoch=epoch, epochs=9)
        self.channel.write(json.dumps(asdict(report)), node.report_name(name))
        return Status(state, "n1")

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids

    def log(self, id_: str, folder: Path) -> str:
        return ""
