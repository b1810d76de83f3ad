"""The device and the precision that a training would take."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from xraylab.doctor.finding import Finding, Subject

NAME = "devices"
SECONDS = 2.5  # to import torch: the other checks take less
ASK = "from xraylab.model import hardware; print(*hardware.first_lines('auto', hardware.choose('auto')), sep='\\n')"


def check(subject: Subject) -> Iterator[Finding]:
    """What `train.precision: auto` is here, as far as torch says so in a few seconds."""
    yield from ask(SECONDS)


def check_deep(subject: Subject) -> Iterator[Finding]:
    """The same, however long torch takes."""
    yield from ask(120)


def ask(seconds: float) -> Iterator[Finding]:
    """Ask torch in a process of its own, which a broken driver can end or stop."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(  # noqa: S603 - a fixed line of code
            [sys.executable, "-W", "ignore", "-c", ASK],
            env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        yield Finding(NAME, "ok", f"torch did not answer within {seconds:g} s", "xraylab doctor --deep waits for it")
        return
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield Finding(NAME, "error", f"torch fails: {reason}", "install torch anew: https://pytorch.org/get-started")
        return
    hardware, *warnings = done.stdout.splitlines()
    yield Finding(NAME, "ok", f"a training takes {hardware.removeprefix('auto: ')}")
    for line in warnings:
        yield Finding(NAME, "warning", line.removeprefix("warning: "), "install a torch and a driver that fit the GPU")
