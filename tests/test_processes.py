"""A process of the command line ends when it is told to, whatever it is doing, and with the dvc that started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import small

from xraylab import processes
from xraylab.processes import Owner

SOON = 2.0  # seconds in which an orphan must be gone
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
STUBBORN = """
import time
from xraylab import processes
processes.GRACE = 1
processes.begin()
while True:
    try:
        print("ready", flush=True)
        time.sleep(60)
    except (SystemExit, KeyboardInterrupt):
        {answer}
"""
IN_A_LIBRARY = """
import ctypes
from xraylab import processes
processes.begin()
print("ready", flush=True)
while True:
    ctypes.CDLL(None).poll(0, 0, 60000)  # runs no Python for a minute, but where a signal wakes it
"""
DVC = "import subprocess, sys; subprocess.run(sys.argv[1:])"
SHELLS = {
    "none": [],
    "stays": ["/bin/sh", "-c", '"$@"; exit $?', "sh"],
    "stays twice": ["/bin/sh", "-c", '"$@"; exit $?', "sh", "/bin/sh", "-c", '"$@"; exit $?', "sh"],
    "a tool": ["/usr/bin/env", "timeout", "60"],
}


def environment(**extra: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "DVC_STAGE"} | extra


@contextmanager
def dvc(code: str, *shell: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has started a stage in a shell as dvc does, once the stage has been heard of."""
    command = [*shell, "/usr/bin/env", "DVC_STAGE=train@baseline-0", sys.executable, "-c", code]
    if shell:
        command = ["/usr/bin/env", "DVC_STAGE=train@baseline-0", *command]
    with subprocess.Popen([sys.executable, "-c", DVC, *command], stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def seconds_until_closed(process: "subprocess.Popen[bytes]") -> float:
    """How long anybody holds the pipe."""
    begin = time.monotonic()
    assert process.stdout is not None
    assert not process.stdout.read().replace(b"ready\n", b"")
    return time.monotonic() - begin


@pytest.mark.parametrize(
    ("answer", "codes"),
    [("raise", {143}), ("pass  # as a destructor does", {-signal.SIGALRM, 143})],
    ids=["orderly", "swallowed"],
)
def test_a_signal_ends_it(answer: str, codes: set[int]) -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN.format(answer=answer)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in codes


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_dvc_that_started_it(shell: str, number: signal.Signals) -> None:
    with dvc(STUBBORN.format(answer="raise"), *SHELLS[shell]) as process:
        process.send_signal(number)
        assert seconds_until_closed(process) < SOON


def test_an_orphan_that_swallows_its_exit_is_ended() -> None:
    with dvc(STUBBORN.format(answer="pass")) as process:
        process.kill()
        assert seconds_until_closed(process) < SOON


@LINUX
def test_an_orphan_in_a_library_that_runs_no_python_is_ended() -> None:
    with dvc(IN_A_LIBRARY) as process:
        process.kill()
        assert seconds_until_closed(process) < SOON


def test_started_by_hand_it_outlives_its_parent() -> None:
    starts_and_leaves = f"""
import subprocess, sys
print(subprocess.Popen([{sys.executable!r}, "-c", {STUBBORN.format(answer="raise")!r}]).pid, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", starts_and_leaves], stdout=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.stdout.readline() == b"ready\n"
        assert process.wait(timeout=60) == 0
        time.sleep(3 * processes.GLANCE)
        os.kill(child, signal.SIGTERM)  # fails where there is none


LATE = """
import os, subprocess, sys, time
if not os.fork():
    time.sleep(0.3)  # until the parent, which stands for dvc, has ended
    os.execve(sys.argv[1], [sys.argv[1], "-c", sys.argv[2]], {**os.environ, "DVC_STAGE": "split"})
"""


@LINUX
def test_a_stage_whose_dvc_ended_before_its_first_line_does_not_begin() -> None:
    if processes._runs_python(1):
        pytest.skip("the first process here is Python, as a dvc in a container would be")
    code = "from xraylab import processes; processes.begin(); print('began', flush=True); import time; time.sleep(1)"
    done = subprocess.run(
        [sys.executable, "-c", LATE, sys.executable, code],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout == ""


def test_adopters_are_told_from_a_dvc_that_is_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {40: "systemd", 41: "dvc", 42: "python", 1: "sleep"}
    monkeypatch.setattr(processes, "_name_and_parent", lambda process: (names[process], 0))
    for runs_python in (False, True):
        monkeypatch.setattr(processes, "_runs_python", lambda process, answer=runs_python: answer)
        assert [processes._adopted([each]) for each in (40, 41, 42, 1)] == [True, False, False, not runs_python]
    assert not processes._adopted([])  # an outermost process, such as one that `docker exec` starts


PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c",
    "from xraylab import processes; processes.begin(); import time; print('ready', flush=True); time.sleep(60)"],
    env={**os.environ, "XRAYLAB_LAUNCHER": str(os.getpid())})
time.sleep(60)
"""
POOL = """
import time, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from xraylab import processes
if __name__ == "__main__":
    with ProcessPoolExecutor(2, get_context(sys.argv[1]), processes.end_with_creator) as pool:
        waiting = [pool.submit(print, "ready", flush=True), *(pool.submit(time.sleep, 60) for _ in range(2))]
        time.sleep(60)
"""


def test_one_of_several_processes_ends_with_the_one_that_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert seconds_until_closed(process) < SOON


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_a_pool_end_with_the_process_that_created_them(method: str, tmp_path: Path) -> None:
    if method == "forkserver" and sys.platform == "win32":
        pytest.skip("Windows has no forks")
    (tmp_path / "pool.py").write_text(POOL)
    with subprocess.Popen([sys.executable, tmp_path / "pool.py", method], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert seconds_until_closed(process) < SOON


FORK = """
import os, signal, sys, time
from xraylab import processes
processes.GRACE = 0.5
processes.begin()
child = os.fork()
if not child:
    time.sleep(60)
time.sleep(0.1)
os.kill(child, signal.SIGTERM)
_, status = os.waitpid(child, 0)
time.sleep(1)
print(os.waitstatus_to_exitcode(status))
"""


@LINUX
def test_a_signal_to_a_fork_is_none_to_the_process(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout == f"{-signal.SIGTERM}\n"


@pytest.mark.parametrize("entry", [[str(small.REPOSITORY / "src")], ["-m", "xraylab"]])
def test_every_way_to_start_a_stage_begins_before_the_imports(entry: list[str], tmp_path: Path) -> None:
    """Where dvc has gone, which a launcher of another id stands for, nothing is imported or said."""
    trace = [sys.executable, "-X", "importtime", *entry, "split"]
    done = subprocess.run(
        trace, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment(XRAYLAB_LAUNCHER="999999999")
    )
    assert done.returncode == 1
    assert "xraylab.processes" in done.stderr
    assert "typer" not in done.stderr
    assert "no params.yaml" not in done.stderr


def test_an_owner_is_dead_once_it_has_ended_or_another_process_has_its_id() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = Owner.of(process.pid)
        assert Owner.parse(owner.tag) == owner
        assert not owner.is_dead
        assert Owner(owner.host, owner.pid, owner.started + 1).is_dead
        assert not Owner("elsewhere", owner.pid, owner.started + 1).is_dead
    assert owner.is_dead
    assert not processes.me().is_dead
    assert processes.me().pid == os.getpid()
    assert Owner.parse("raw-of-somebody-else") is None
