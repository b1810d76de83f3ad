"""A run's resume state on its way: from the node up to the channel after each epoch, and down to another node.

Files are named by their SHA-256 and never change. A numbered manifest, written last, says which files make a state;
what is torn, or of another content than its name says, is passed over for the manifest before it.
"""

import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from xraylab import files
from xraylab.jobs.channel import Channel

FOLDER = "runs"
SAVED = "state.json"  # the files of the last epochs; replaced at the end of each one
FILES = ("epoch-*.safetensors", "state-*.pt", "lr_find.csv")
KEPT = 2  # manifests
Manifest = dict[str, str]  # name of a file -> its SHA-256


class ResumeState:
    """The states of one run, such as baseline-0, in the folder `runs` of a clone, and on the channel."""

    def __init__(self, channel: Channel, runs: Path, name: str) -> None:
        self.channel, self.runs = channel, runs
        self.pattern = re.compile(rf"{re.escape(name)}-[0-9a-f]{{16}}")
        self.sent: dict[str, tuple[int, int]] = {}  # folder -> which state.json was sent

    def fetch(self) -> list[str]:
        """Bring down every state of this run, each by its newest manifest that is whole, and return their names.

        A state whose parameters, data, code or hardware are others is not taken up: its name is another one.
        """
        names = [name for name in self.channel.names(FOLDER) if self.pattern.fullmatch(name)]
        return [name for name in names if self._fetch(name)]

    def _fetch(self, name: str) -> bool:
        for _, manifest in reversed(self._manifests(name)):
            with suppress(OSError, ValueError), files.replacing_folder(self.runs / name) as folder:
                for file, sha256 in manifest.items():
                    self.channel.download(f"{FOLDER}/{name}/{sha256}", folder / file)
                    if files.sha256(folder / file) != sha256:
                        raise ValueError(f"{file} is damaged")
                return True
        return False

    def _manifests(self, name: str) -> list[tuple[int, Manifest]]:
        """Number and content of those that can be read, in order."""
        numbers = [file.removesuffix(".json") for file in self.channel.names(f"{FOLDER}/{name}")]
        read = {int(each): self.channel.read_json(f"{FOLDER}/{name}/{each}.json") for each in numbers if each.isdigit()}
        return sorted((number, manifest) for number, manifest in read.items() if isinstance(manifest, dict))

    def send(self) -> list[str]:
        """Send the states that have finished an epoch since they were last sent, and return their names."""
        return [folder.name for folder in self._folders() if self._send(folder)]

    def _folders(self) -> list[Path]:
        return [path.parent for path in self.runs.glob(f"*/{SAVED}") if self.pattern.fullmatch(path.parent.name)]

    def _send(self, folder: Path) -> bool:
        with suppress(FileNotFoundError):
            if self.sent.get(folder.name) == _stamp(folder / SAVED):
                return False
        with tempfile.TemporaryDirectory(dir=self.runs.parent, prefix="sending.") as temporary:
            snapshot = Path(temporary, "state")
            stamp = _snapshot(folder, snapshot)
            if stamp is None:
                return False
            self._upload(folder.name, snapshot)
        self.sent[folder.name] = stamp
        return True

    def _upload(self, name: str, snapshot: Path) -> None:
        """The files first, then the manifest; then what no kept manifest names is removed."""
        manifest = {path.name: files.sha256(path) for path in sorted(snapshot.iterdir())}
        there = set(self.channel.names(f"{FOLDER}/{name}"))
        for file, sha256 in manifest.items():
            if sha256 not in there:
                self.channel.upload(snapshot / file, f"{FOLDER}/{name}/{sha256}")
        manifests = self._manifests(name)
        number = max((number for number, _ in manifests), default=0) + 1
        self.channel.write(json.dumps(manifest), f"{FOLDER}/{name}/{number}.json")
        kept = [*manifests, (number, manifest)][-KEPT:]
        needed = {f"{number}.json" for number, _ in kept}.union(*(each.values() for _, each in kept))
        self.channel.remove(f"{FOLDER}/{name}/{each}" for each in there - needed)

    def remove(self) -> None:
        """Remove from the channel what this clone has sent: the run is finished."""
        self.channel.remove(f"{FOLDER}/{name}" for name in self.sent)


def _snapshot(folder: Path, target: Path) -> tuple[int, int] | None:
    """Link the files as they stand after one and the same epoch, and say which; None where there is none yet.

    The trainer replaces state.json after it has written an epoch's files, and before it removes those of others.
    """
    for _ in range(3):
        try:
            before = _stamp(folder / SAVED)
        except FileNotFoundError:
            return None
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for path in [folder / SAVED, *(path for pattern in FILES for path in folder.glob(pattern))]:
            with suppress(FileNotFoundError):
                files.link(path, target / path.name)
        with suppress(FileNotFoundError):
            if before == _stamp(folder / SAVED):
                return before
    return None


def _stamp(path: Path) -> tuple[int, int]:
    stat = os.stat(path)
    return stat.st_ino, stat.st_mtime_ns
