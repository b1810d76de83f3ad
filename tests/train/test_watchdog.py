"""A training process ends when it is told to, whatever it is doing, and with the dvc that started it."""

import os
import signal
import subprocess
import sys
import time

import pytest

STUBBORN = """
import time
from xraylab.train import watchdog
watchdog.GRACE = 1
watchdog.end_with_dvc()
while True:
    try:
        print("ready", flush=True)
        time.sleep(60)
    except SystemExit:
        {answer}
"""
DVC = f"""
import subprocess, sys
subprocess.run([*sys.argv[1:], {sys.executable!r}, "-c", {STUBBORN.format(answer="raise")!r}])
"""
SHELLS = {
    "none": [],
    "stays": ["/bin/sh", "-c", '"$@"; exit $?', "sh"],
    "stays twice": ["/bin/sh", "-c", '"$@"; exit $?', "sh", "/bin/sh", "-c", '"$@"; exit $?', "sh"],
}


@pytest.mark.parametrize(
    ("answer", "code"),
    [("raise", 128 + signal.SIGTERM), ("pass  # as a destructor does", -signal.SIGALRM)],
    ids=["orderly", "swallowed"],
)
def test_a_signal_ends_it(answer: str, code: int) -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN.format(answer=answer)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == code


def started(shell: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A process that has started another in a shell, and has been heard of."""
    process = subprocess.Popen(
        [sys.executable, "-c", DVC, *SHELLS[shell]], stdout=subprocess.PIPE, env=os.environ | environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("shell", SHELLS)
def test_it_ends_with_the_dvc_that_started_it(shell: str) -> None:
    with started(shell, {"DVC_STAGE": "train@baseline-0"}) as process:
        assert process.stdout is not None
        process.kill()
        assert process.stdout.read() == b""  # ends when nobody holds the pipe any more


def test_started_by_hand_it_outlives_its_parent() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    starts_and_leaves = f"""
import subprocess, sys
print(subprocess.Popen([{sys.executable!r}, "-c", {STUBBORN.format(answer="raise")!r}]).pid, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", starts_and_leaves], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.stdout.readline() == b"ready\n"
        assert process.wait(timeout=60) == 0
        time.sleep(1.5)
        os.kill(child, signal.SIGTERM)  # fails where there is none


PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c",
    "import sys, time; from xraylab.train import watchdog; watchdog.end_with(int(sys.argv[1]));"
    "print('ready', flush=True); time.sleep(60)", str(os.getpid())])
time.sleep(60)
"""


def test_one_of_several_processes_ends_with_the_one_that_started_it() -> None:
    """The pipe is closed once no process holds it."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        killed = time.monotonic()
        assert process.stdout.read() == b""
        assert time.monotonic() - killed < 30
