"""Faults injected into a small study: kills, full disks, flipped bits, two callers, and what became of it.

`python bench/faults.py [KIND ...] [--kills 200] [--disks 20] [--flips 100] [--seed 0]`, kinds: kills, disks, flips,
others. Each fault is followed by the command that a user would type; the study must end with the bits of one that
nobody disturbed. By estimate 2 hours for all on two quiet cores; disks need root. Writes bench/results/faults_KIND.json
for each kind, which may run at different times, or at once.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
from measure import Gate

sys.path.append(str(measure.REPOSITORY / "tests/helpers"))

import injuries
from injuries import Attempt

LONGEST = 14.0  # seconds from the start of a command, or the latest kill, to the next
IMPORTS = 3.0  # seconds after the start of a stage, in which it imports
MOST_ATTEMPTS = 60  # to finish one study; more, and it is stuck
FILES = {
    "raw image": "data/raw/*/*", "index": "data/index.csv", "audit": "data/audit.json", "split": "data/split/*.csv",
    "image cache": "data/cache/*", "configuration": "configs/*.yaml", "weights": "models/*/*/*.safetensors",
    "record of a run": "models/*/*/model.json", "history": "models/*/*/history.csv",
    "predictions": "predictions/*/*.csv", "metrics": "reports/metrics.json", "evaluation": "reports/evaluation/*",
    "report": "reports/index.html", "DVC's object": ".dvc/cache/files/md5/*/*",
}  # fmt: skip


class Study:
    """A study that nobody has run yet, its undisturbed outcome, and copies of both."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.begun = injuries.study(scratch / "begun", "baseline", "dropout")
        self.finished = injuries.copy(self.begun, scratch / "finished")
        started = time.monotonic()
        done = injuries.run(self.finished, "dvc", "repro")
        if done.returncode:
            raise RuntimeError(done.stdout[-2000:])
        self.seconds = time.monotonic() - started
        self.outcome = injuries.outcome(self.finished)
        measure.say(f"undisturbed: {self.seconds:.0f} s, {len(self.outcome)} files")

    def fresh(self, name: str, *, finished: bool = False) -> Path:
        """A copy to be disturbed, in the place of an earlier one of the name."""
        target = self.scratch / name
        shutil.rmtree(target, ignore_errors=True)
        return injuries.copy(self.finished if finished else self.begun, target)

    def different(self, other: Path) -> list[str]:
        """Results that are absent or not the undisturbed ones."""
        now = injuries.outcome(other)
        return sorted(name for name in self.outcome.keys() | now.keys() if self.outcome.get(name) != now.get(name))


class Ledger:
    """Counts by what was injected, and what went wrong in words."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.problems: list[str] = []

    def note(self, what: str, **counts: int) -> None:
        self.counts[what].update(counts)

    def problem(self, what: str, kind: str, text: str) -> None:
        self.note(what, **{kind: 1})
        self.problems.append(f"{what}: {kind}: {text}")
        measure.say(f"{what}: {kind}: {text}")

    def total(self, kind: str) -> int:
        return sum(each[kind] for each in self.counts.values())

    def table(self) -> list[dict[str, Any]]:
        kinds = ("injected", "survived", "mended by doctor", "lost", "stuck", "orphans", "unnoticed", "left behind")
        return [{"fault": what} | {kind: each[kind] for kind in kinds} for what, each in sorted(self.counts.items())]


def kills(study: Study, number: int, draw: random.Random, ledger: Ledger) -> None:
    """Kill callers and stages at random moments, again and again, until every study has come to its end."""
    injected, done = 0, 0
    while injected < number:
        folder, attempts = study.fresh(f"kills-{done}"), 0
        while True:
            attempts += 1
            caller, target = draw.choice(list(injuries.CALLERS)), draw.choice(["caller", "stage", "group"])
            name, importing = draw.choice(list(injuries.SIGNALS)), draw.random() < 1 / 3
            seconds = draw.uniform(0, IMPORTS if importing else LONGEST) if injected < number else study.seconds * 20
            result = injuries.attempt(
                folder, caller, target, name, seconds,
                importing=importing, patience=injuries.PATIENCE + 3 * study.seconds,
            )  # fmt: skip
            injected += result.killed
            what = f"{name} to {'all' if target == 'group' else target} of `{caller}`"
            if result.killed:
                ledger.note(what, injected=1, survived=int(not result.orphans and result.returncode is not None))
                measure.say(f"{injected} of {number}: {what}, {result.stage or 'between stages'}: {result.returncode}")
            _judge(result, what, folder, ledger)
            if result.returncode == 0 and not result.killed:
                break
            if attempts > MOST_ATTEMPTS:
                ledger.problem(what, "stuck", f"not finished after {attempts} starts: {result.output}")
                break
        done += 1
        for name in study.different(folder):
            ledger.problem("a study after kills", "lost", name)
        for name in injuries.left_behind(folder):
            ledger.problem("a study after kills", "left behind", name)
        shutil.rmtree(folder)
    measure.say(f"{done} studies came to their end after {injected} kills")


def _judge(result: Attempt, what: str, folder: Path, ledger: Ledger) -> None:
    """Orphans, an end that does not come, and a start that fails by itself: `xraylab doctor` may mend the last."""
    for each in result.orphans:
        ledger.problem(what, "orphans", each)
    if result.returncode is None:
        ledger.problem(what, "stuck", f"does not end: {result.output}")
    if result.killed or not result.returncode:
        return
    injuries.run(folder, "xraylab", "doctor")
    again = injuries.run(folder, "dvc", "status")
    if again.returncode:
        ledger.problem("a start after a kill", "stuck", result.output)
    else:
        ledger.note("a start after a kill", **{"mended by doctor": 1})
        measure.say(f"mended by doctor: {result.output[-300:]}")


def disks(study: Study, number: int, draw: random.Random, ledger: Ledger) -> None:
    """The study on disks that are too small, and again once there is room."""
    needed = sum(path.stat().st_size for path in study.finished.rglob("*") if path.is_file())
    begun = sum(path.stat().st_size for path in study.begun.rglob("*") if path.is_file())
    for level in range(number):
        size = int(begun * 1.3 + (needed - begun) * level / number)
        what = "a full disk"
        with injuries.disk(study.scratch / "disk", size) as mounted:
            try:
                folder = injuries.copy(study.begun, mounted / "study")
            except shutil.Error as error:
                raise RuntimeError("the disk does not hold the study's own files") from error
            first = injuries.run(folder, "dvc", "repro")
            injuries.enlarge(mounted, needed * 3)
            second = injuries.run(folder, "dvc", "repro")
            lost = study.different(folder) if second.returncode == 0 else []
        measure.say(f"disk of {size / 1e6:.0f} MB: {first.returncode}, then {second.returncode}")
        ledger.note(what, injected=1, survived=int(second.returncode == 0 and not lost))
        if "Traceback" in first.stdout:
            ledger.problem(what, "unnoticed", f"{size}: a traceback: {first.stdout[-800:]}")
        if second.returncode:
            ledger.problem(what, "stuck", f"{size}: {second.stdout[-800:]}")
        for name in lost:
            ledger.problem(what, "lost", f"{size}: {name}")


def flips(study: Study, number: int, draw: random.Random, ledger: Ledger) -> None:
    """Flip a bit of a file of the finished study, its times kept: it must be noticed, and what DVC keeps restore it."""
    folder = study.fresh("flips", finished=True)
    for index in range(number):
        kind = list(FILES)[index % len(FILES)]
        path = draw.choice(
            [each for each in sorted(folder.glob(FILES[kind])) if each.is_file() and each.stat().st_size]
        )
        good, what = path.read_bytes(), f"a flipped bit: {kind}"
        injuries.flip_bit(path, draw)
        is_object = kind == "DVC's object"  # which the doctor mends or moves: no error where it can
        look = ["doctor", "--deep"] if is_object else ["verify", "--json"]  # whose names no table folds
        noticed = injuries.run(folder, "xraylab", *look)
        ledger.note(what, injected=1)
        if path.name not in noticed.stdout or (noticed.returncode != 1 and not is_object):
            ledger.problem(what, "unnoticed", f"{path.relative_to(folder)}: {noticed.returncode}: {noticed.stdout}")
        elif is_object:
            ledger.note(what, survived=1)
        else:
            path.unlink()
            injuries.run(folder, "dvc", "checkout")
            restored = path.is_file() and path.read_bytes() == good
            ledger.note(what, survived=int(restored))
            if not restored:
                ledger.problem(what, "lost", f"{path.relative_to(folder)} is not restored")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(good)
        measure.say(f"{index + 1} of {number}: {what}")


def others(study: Study, number: int, draw: random.Random, ledger: Ledger) -> None:
    """Two callers, a removed and a read-only folder, a clock that jumps, and a dead worker; `number` times each."""
    disturbances: dict[str, Callable[[Path], str]] = {
        "two callers": _two_callers, "models/ removed in a training": _removed, "a read-only models/": _read_only,
        "files of the future": _future, "a dead worker": _dead_worker,
    }  # fmt: skip
    for what, disturb in disturbances.items():
        for _ in range(number):
            folder = study.fresh("others")
            text = disturb(folder)
            done = injuries.run(folder, "dvc", "repro")
            lost = study.different(folder) if done.returncode == 0 else []
            measure.say(f"{what}: {text}; then {done.returncode}")
            ledger.note(what, injected=1, survived=int(done.returncode == 0 and not lost))
            if "Traceback" in text:
                ledger.problem(what, "unnoticed", text)
            if done.returncode:
                ledger.problem(what, "stuck", done.stdout[-800:])
            for name in lost:
                ledger.problem(what, "lost", name)


def _two_callers(folder: Path) -> str:
    how: dict[str, Any] = {"cwd": folder, "env": injuries.environment(), "text": True, "stdout": subprocess.PIPE}
    command = [sys.executable, "-m", "dvc", "repro"]
    with (
        subprocess.Popen(command, stderr=subprocess.STDOUT, **how) as one,
        subprocess.Popen(command, stderr=subprocess.STDOUT, **how) as other,
    ):
        outputs = [each.communicate()[0] for each in (one, other)]
    return f"{sorted((one.returncode, other.returncode))}: {outputs[0][-200:]} {outputs[1][-200:]}"


def _while_training(folder: Path, injure: Callable[[], object]) -> str:
    """Do it once a training has begun its first epoch; what the study printed then."""
    how: dict[str, Any] = {"cwd": folder, "env": injuries.environment(), "text": True, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro"], stderr=subprocess.STDOUT, **how) as process:
        while process.poll() is None and not any((folder / ".xraylab/runs").glob("*/state.json")):
            time.sleep(0.02)
        injure()
        output = process.communicate()[0]
    return f"{process.returncode}: {output[-400:]}"


def _removed(folder: Path) -> str:
    return _while_training(folder, lambda: shutil.rmtree(folder / "models", ignore_errors=True))


def _read_only(folder: Path) -> str:
    """A mount, since root may write whatever the permissions are."""
    models = folder / "models"
    models.mkdir()
    for options in (["--bind"], ["-o", "remount,ro,bind"]):
        subprocess.run(["mount", *options, str(models), str(models)], check=True)
    try:
        done = injuries.run(folder, "dvc", "repro")
    finally:
        subprocess.run(["umount", str(models)], check=True)
    return f"{done.returncode}: {done.stdout[-400:]}"


def _future(folder: Path) -> str:
    """The clock was wrong by a year while the study was made."""
    ahead = time.time() + 365 * 24 * 3600
    for path in folder.rglob("*"):
        os.utime(path, (ahead, ahead), follow_symlinks=False)
    return "every file is of the future"


def _dead_worker(folder: Path) -> str:
    def kill() -> None:
        for process, _ in injuries.stages_in(folder)[-1:]:
            for child in process.children(recursive=True)[:1]:
                child.kill()

    return _while_training(folder, kill)


KINDS = {"kills": kills, "disks": disks, "flips": flips, "others": others}


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="all of them by default")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--disks", type=int, default=20)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--others", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        study = Study(Path(scratch))
        results = [inject(kind, study, options) for kind in options.kinds or KINDS]
    return all(results)


def inject(kind: str, study: Study, options: argparse.Namespace) -> bool:
    """Inject the faults of one kind, and write what became of them; whether nothing is lost, stuck or unnoticed."""
    ledger = Ledger()
    KINDS[kind](study, getattr(options, kind), random.Random(options.seed), ledger)
    gates = {what: Gate(float(ledger.total(what)), most=0) for what in ("lost", "stuck", "orphans", "unnoticed")}
    problems = [{"problem": each} for each in ledger.problems]
    tables = {"Faults": ledger.table()} | ({"Problems": problems} if problems else {})
    return measure.write(f"faults_{kind}", tables, gates, ["float32"])


if __name__ == "__main__":
    sys.exit(not main())
