"""A training process ends when it is told to, whatever it is doing."""

import signal
import subprocess
import sys

import pytest

STUBBORN = """
import time
from xraylab.train import lifetime
lifetime.GRACE = 1
lifetime.end_with_parent()
print("ready", flush=True)
while True:
    try:
        time.sleep(60)
    except SystemExit:
        {answer}
"""


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


def test_it_ends_with_the_process_that_started_it() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STUBBORN.format(answer='raise')!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.stdout.read() == b""  # ends when nobody holds the pipe any more
