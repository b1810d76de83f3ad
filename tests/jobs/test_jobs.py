"""Experiments side by side: order, shares, the screen, and a tiny study under the real dvc."""

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import under_dvc
from rich.console import Console
from ruamel.yaml import YAML
from under_dvc import processes_in, wait_for

from xraylab.errors import DataError
from xraylab.jobs import dvc, pool, repro
from xraylab.jobs.dvc import Dvc
from xraylab.jobs.engines.engine import Resources
from xraylab.jobs.job import Job
from xraylab.jobs.pool import Screen

DVC_YAML = """
stages:
  data:
    cmd: python -I -S step.py data all
    deps: [params.yaml]
    outs: [data]
  train:
    matrix: {experiment: "${experiments}", repeat: "${repeats}"}
    cmd: python -I -S step.py train ${item.experiment}-${item.repeat}
    deps: [data]
    outs: ["models/${item.experiment}-${item.repeat}"]
  predict:
    matrix: {experiment: "${experiments}", repeat: "${repeats}"}
    cmd: python -I -S step.py predict ${item.experiment}-${item.repeat}
    deps: ["models/${item.experiment}-${item.repeat}"]
    outs: ["predictions/${item.experiment}-${item.repeat}"]
  evaluate:
    cmd: python -I -S step.py evaluate all
    deps: [predictions]
    outs: [metrics]
"""

# what each stage does: note when and how it ran, sleep, write; files below `switches` make it slow, stubborn or fail
STEP = """
import json, os, pathlib, signal, sys, time
kind, name = sys.argv[1:]
switched = lambda what: pathlib.Path("switches", what).exists()
if switched("stubborn"):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
begin = time.time()
print(f"{name} {kind} begins", flush=True)
if kind == "train":
    time.sleep(60 if switched("slow") else 1.5 if switched("measured") else 0)
if switched(f"broken-{kind}-{name}"):
    sys.exit(f"{name} is broken")
target = {"data": "data", "train": f"models/{name}", "predict": f"predictions/{name}", "evaluate": "metrics"}[kind]
pathlib.Path(target).parent.mkdir(exist_ok=True)
pathlib.Path(target).write_text(f"{kind} {name}")
note = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
pathlib.Path("notes").mkdir(exist_ok=True)
with open(f"notes/{kind}-{name}", "a") as file:
    print(json.dumps({"begin": begin, "end": time.time(), **note}), file=file)
"""


def environment(**extra: str) -> dict[str, str]:
    """As other tests have it, without GPU and with all cores."""
    clean = {name: value for name, value in under_dvc.environment().items() if not name.startswith(("OMP_", "CUDA_"))}
    return clean | {"CUDA_VISIBLE_DEVICES": ""} | extra


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "step.py").write_text(STEP)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], cwd=folder, check=True)
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n")
    return folder


@pytest.fixture
def tiny(fresh: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a study whose stages take no time, with the experiments and switches that are named."""

    def make(*experiments: str, switches: tuple[str, ...] = ()) -> Path:
        study = tmp_path / "study"
        shutil.copytree(fresh, study)
        YAML().dump({"experiments": {name: {} for name in experiments}, "repeats": [0]}, study / "params.yaml")
        (study / "switches").mkdir()
        for name in switches:
            (study / "switches" / name).touch()
        return study

    return make


COMMAND = [sys.executable, "-m", "xraylab", "repro"]


def run(study: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=study, env=environment(**extra), capture_output=True, text=True, check=False
    )


def dvc_repro(study: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *(arguments or ["repro"])],
        cwd=study, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def notes(study: Path, kind: str) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for file in sorted((study / "notes").glob(f"{kind}-*"))
        for line in file.read_text().splitlines()
    ]


def locked_stages(study: Path) -> set[str]:
    return set(YAML(typ="safe").load(study / "dvc.lock")["stages"])


@pytest.fixture
def running(tiny: Callable[..., Path]) -> Iterator[Callable[..., tuple[Path, "subprocess.Popen[str]"]]]:
    """Starts `xraylab repro --jobs 2` on a slow study, and waits until both jobs train."""
    started: list[subprocess.Popen[str]] = []

    def start(*switches: str) -> tuple[Path, "subprocess.Popen[str]"]:
        study = tiny("a", "b", "c", switches=("slow", *switches))
        process = subprocess.Popen(
            [*COMMAND, "--jobs", "2"], cwd=study, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            text=True, preexec_fn=_heed,  # noqa: PLW1509 - no thread runs
        )  # fmt: skip
        started.append(process)
        logs = study / ".xraylab/logs"
        wait_for(lambda: all(_holds(logs / f"train@{name}-0.log", "train begins") for name in "ab"))
        return study, process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _heed() -> None:
    """The tests may themselves run where SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _holds(file: Path, text: str) -> bool:
    return file.exists() and text in file.read_text()


GRAPH = """strict digraph {
"source";
"configure";
"other";
"train@a-0";
"train@b-0";
"predict@a-0";
"predict@b-0";
"evaluate";
"explain@a";
"source" -> "configure";
"source" -> "other";
"configure" -> "train@a-0";
"configure" -> "train@b-0";
"train@a-0" -> "predict@a-0";
"train@b-0" -> "predict@b-0";
"predict@a-0" -> "evaluate";
"predict@b-0" -> "evaluate";
"evaluate" -> "explain@a";
}
"""


def test_a_job_is_the_chain_of_one_experiment_and_what_waits_for_all_of_them_is_none() -> None:
    found = [job.stages for job in repro.experiment_jobs(repro.parse_dag(GRAPH))]
    assert found == [("train@a-0", "predict@a-0"), ("train@b-0", "predict@b-0")]


def test_before_the_jobs_comes_what_they_need_and_nothing_else() -> None:
    graph = repro.parse_dag(GRAPH)
    assert repro.prerequisites(graph, repro.experiment_jobs(graph)) == ["source", "configure"]


def test_experiments_that_need_one_another_are_one_job() -> None:
    graph = repro.parse_dag('"train@a";\n"train@b";\n"ensemble@ab";\n"train@a" -> "ensemble@ab";\n') | {}
    graph["ensemble@ab"].add("train@b")
    assert repro.experiment_jobs(graph) == [Job(("train@a", "train@b", "ensemble@ab"))]


def test_gpus_are_named_by_identifiers_and_slices_come_before_whole_ones() -> None:
    whole = "GPU 0: NVIDIA H100 (UUID: GPU-1a)\nGPU 1: NVIDIA H100 (UUID: GPU-2b)\n"
    assert pool.devices(whole) == ["GPU-1a", "GPU-2b"]
    sliced = "GPU 0: NVIDIA H100 (UUID: GPU-1a)\n  MIG 1g.10gb Device 0: (UUID: MIG-3c)\n"
    assert pool.devices(sliced) == ["MIG-3c"]


def test_jobs_share_the_gpus_in_turn_and_the_cores_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(pool, "cores", lambda: 8)
    assert pool.shares(3, ["GPU-1a", "GPU-2b"], Resources()) == [
        {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "GPU-1a"},
        {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "GPU-2b"},
        {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "GPU-1a"},
    ]
    assert pool.shares(16, [], Resources()) == [{"OMP_NUM_THREADS": "1"}] * 16
    assert pool.shares(1, [], Resources()) == [{}]


def test_a_job_here_gets_the_cores_and_gpus_that_one_on_a_cluster_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setattr(pool, "cores", lambda: 8)
    two = ["GPU-1a", "GPU-2b"]

    def gpus(jobs: int | None, resources: Resources) -> list[str]:
        return [share["CUDA_VISIBLE_DEVICES"] for share in pool.shares(jobs, two, resources)]

    assert pool.shares(2, [], Resources(cpus=3)) == [Resources(cpus=3).threads] * 2 == [{"OMP_NUM_THREADS": "3"}] * 2
    assert pool.shares(1, [], Resources(cpus=3)) == [{"OMP_NUM_THREADS": "3"}]
    assert gpus(None, Resources()) == ["GPU-1a", "GPU-2b"]
    assert gpus(None, Resources(jobs_per_gpu=2)) == ["GPU-1a", "GPU-2b", "GPU-1a", "GPU-2b"]
    assert gpus(None, Resources(gpus=2)) == ["GPU-1a,GPU-2b"]
    assert gpus(4, Resources(gpus=1)) == ["GPU-1a", "GPU-2b", "GPU-1a", "GPU-2b"]


@pytest.mark.parametrize(
    ("jobs", "resources", "message"),
    [
        (None, Resources(gpus=3), "--gpus-per-job 3, --jobs-per-gpu 1: this machine has 2 GPUs that may be used"),
        (2, Resources(jobs_per_gpu=2), "--jobs-per-gpu says how many jobs run at once here: leave out --jobs"),
        (None, Resources(gpus=2, jobs_per_gpu=2), "--jobs-per-gpu shares one GPU between jobs: give --gpus-per-job 1"),
    ],
)
def test_what_this_machine_cannot_give_a_job_is_refused(jobs: int | None, resources: Resources, message: str) -> None:
    with pytest.raises(DataError) as refused:
        pool.shares(jobs, ["GPU-1a", "GPU-2b"], resources)
    assert str(refused.value) == message
    with pytest.raises(DataError, match="this machine has 0 GPUs"):
        pool.shares(None, [], Resources(jobs_per_gpu=2))


def test_the_users_own_choice_of_threads_and_gpus_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert pool.shares(2, [], Resources()) == [{}, {}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-2b")
    assert pool.gpus() == ["2", "GPU-2b"]
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert pool.gpus() == []


def test_gpus_are_asked_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pool.gpus() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "GPU 0: NVIDIA T4 (UUID: GPU-7)"\n')
    tool.chmod(0o755)
    assert pool.gpus() == ["GPU-7"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert pool.gpus() == []


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, color_system=None, width=40)


def shown(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_terminal_shows_a_line_per_job() -> None:
    times = iter([0.0, 0.0, 5.0, 65.0, 10.0, 3700.0])
    screen = Screen(2, console(terminal=True), lambda: next(times))
    screen.started("a", "train@a-0")
    screen.started("b", "train@b-0")
    screen.line("a", "predict@a-0", "a line that is much longer than fits")
    screen.ended("b", "done: train@b-0, predict@b-0", success=True)
    screen.console.print(screen.picture())
    assert shown(screen.console) == [
        "1/2 done: train@b-0, predict@b-0 (1:00)",
        "predict@a-0  0:10  a line that is much …",
        "1/2 done, 1:01:40",
    ]


def test_where_there_is_no_terminal_every_line_is_printed_with_its_stage() -> None:
    screen = Screen(1, console(terminal=False))
    screen.started("a", "train@a-0")
    screen.line("a", "train@a-0", "a-0 epoch 1/2  train_loss 0.5000  train_accuracy 0.5 [x]")
    screen.ended("a", "failed: train@a-0", success=False)
    assert shown(screen.console) == [
        "[train@a-0] a-0 epoch 1/2  train_loss 0.5000  train_accuracy 0.5 [x]",
        "0/1 failed: train@a-0 (0:00)",
    ]


def test_a_line_ends_at_a_newline_or_a_carriage_return_and_letters_stay_whole() -> None:
    async def read(*chunks: bytes) -> list[str]:
        stream = asyncio.StreamReader()
        found = asyncio.ensure_future(collect(stream))
        for chunk in chunks:
            stream.feed_data(chunk)
            await asyncio.sleep(0)
        stream.feed_eof()
        return await found

    async def collect(stream: asyncio.StreamReader) -> list[str]:
        return [line async for line in dvc.lines(stream)]

    assert asyncio.run(read(b"10%\r20%\r\n\n", b"  caf\xc3", b"\xa9 \nend")) == ["10%", "20%", "  café", "end"]


@pytest.mark.slow
def test_experiments_run_at_the_same_time_with_their_share_of_the_cores(tiny: Callable[..., Path]) -> None:
    study = tiny("a", "b", "c", switches=("measured",))
    done = run(study, "--jobs", "3")
    assert done.returncode == 0, done.stderr
    trained = notes(study, "train")
    assert len(trained) == 3
    assert max(note["begin"] for note in trained) < min(note["end"] for note in trained)  # type: ignore[type-var]
    assert {note["OMP_NUM_THREADS"] for note in trained} == {str(max(1, pool.cores() // 3))}
    assert dvc_repro(study, "status") == "Data and pipelines are up to date.\n"
    assert "[train@a-0] a-0 train begins\n" in done.stderr
    assert "a-0 predict begins" in (study / ".xraylab/logs/predict@a-0.log").read_text()
    before = {kind: notes(study, kind) for kind in ("data", "train", "predict", "evaluate")}
    again = run(study, "--jobs", "3")
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    assert {kind: notes(study, kind) for kind in before} == before


@pytest.mark.slow
def test_no_entry_of_dvc_lock_is_lost_and_only_what_is_stale_starts(tiny: Callable[..., Path]) -> None:
    names = [f"x{number}" for number in range(5)]
    study = tiny(*names)
    done = run(study, "--jobs", "3")
    assert done.returncode == 0, done.stderr
    assert locked_stages(study) == {"data", "evaluate"} | {
        f"{s}@{name}-0" for s in ("train", "predict") for name in names
    }
    (study / "models/x4-0").unlink()
    (study / "predictions/x2-0").write_text("changed by hand")
    done = run(study, "--jobs", "9")
    assert done.returncode == 0, done.stderr
    assert "2/2 done: " in done.stderr
    assert "x4-0" in done.stderr
    assert "x0-0" not in done.stderr
    assert dvc_repro(study, "status") == "Data and pipelines are up to date.\n"


def test_one_job_has_all_cores_as_under_dvc_repro(tiny: Callable[..., Path]) -> None:
    study = tiny("a")
    assert run(study).returncode == 0
    assert [note["OMP_NUM_THREADS"] for note in notes(study, "train")] == [None]


def test_after_a_failure_the_running_jobs_end_and_no_further_one_starts(tiny: Callable[..., Path]) -> None:
    study = tiny("a", "b", "c", switches=("measured", "broken-train-a-0"))
    (study / "step.py").write_text(STEP.replace("1.5 if", "(1.5 + 4 * (name == 'b-0')) if"))
    done = run(study, "--jobs", "2")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    error = done.stderr[done.stderr.index("error: ") :]
    assert error == (
        "error: 1 of 3 jobs failed, and no further one was started; finished ones are kept\n"
        "  - train@a-0, whose log .xraylab/logs/train@a-0.log ends with\n"
        "      Running stage 'train@a-0':\n"
        "      > python -I -S step.py train a-0\n"
        "      a-0 train begins\n"
        "      a-0 is broken\n"
        "      ERROR: failed to reproduce 'train@a-0': failed to run: python -I -S step.py train a-0, exited with 1\n"
    )
    assert locked_stages(study) == {"data", "train@b-0", "predict@b-0"}


def test_a_failure_before_the_experiments_starts_none(tiny: Callable[..., Path]) -> None:
    study = tiny("a", switches=("broken-data-all",))
    done = run(study)
    assert done.returncode == 1
    assert done.stderr.endswith("error: `dvc repro data` failed; what it printed above says why\n")
    assert not (study / ".xraylab").exists()


def test_an_unusable_dvc_yaml_is_said_in_dvcs_own_words(tiny: Callable[..., Path]) -> None:
    study = tiny("a")
    (study / "dvc.yaml").write_text("stages:\n  train:\n    comand: x\n")
    done = run(study)
    assert done.returncode == 1
    assert done.stderr.startswith("error: `dvc dag --dot` failed\n  - './dvc.yaml' validation failed: 2 errors.\n")
    assert "comand" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_dvc_goes_on_from_there(
    running: Callable[..., tuple[Path, "subprocess.Popen[str]"]], number: signal.Signals
) -> None:
    study, process = running()
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert processes_in(study) == []
    assert error.endswith("stopped; `xraylab repro` and `dvc repro` go on from here\n")
    assert json.loads((study / ".dvc/tmp/rwlock").read_text()) == {}
    assert notes(study, "train") == []
    (study / "switches/slow").unlink()
    dvc_repro(study)
    assert dvc_repro(study, "status") == "Data and pipelines are up to date.\n"


@pytest.mark.slow
def test_nothing_outlives_a_killed_command_and_the_next_one_completes(
    running: Callable[..., tuple[Path, "subprocess.Popen[str]"]],
) -> None:
    study, process = running()
    process.kill()
    process.wait()
    wait_for(lambda: not processes_in(study), seconds=10)
    (study / "switches/slow").unlink()
    done = run(study, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert dvc_repro(study, "status") == "Data and pipelines are up to date.\n"


@pytest.mark.slow
def test_a_second_signal_ends_at_once_what_does_not_heed_the_first(
    running: Callable[..., tuple[Path, "subprocess.Popen[str]"]],
) -> None:
    study, process = running("stubborn")
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert processes_in(study)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == 130
    wait_for(lambda: not processes_in(study), seconds=1)
    for switch in ("slow", "stubborn"):
        (study / "switches" / switch).unlink()
    dvc_repro(study)


def test_a_job_that_meets_anothers_lock_is_tried_again(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc, "PAUSE", 0.1)
    study = tiny("a")
    dvc_repro(study, "repro", "data")
    blocker = {"pid": os.getpid(), "cmd": "another dvc"}
    locks = study / ".dvc/tmp/rwlock"
    locks.write_text(json.dumps({"read": {}, "write": {str(study / "models/a-0"): blocker}}))
    log = tmp_path / "logs/train@a-0.log"
    screen = Screen(1, console(terminal=False))

    def release() -> None:
        wait_for(lambda: _holds(log, "another dvc"))
        locks.unlink()

    threading.Thread(target=release).start()
    job = Job(("train@a-0", "predict@a-0"))
    failed = asyncio.run(pool.run(Dvc(study), [job], [{}], screen, tmp_path / "logs"))
    assert failed == []
    assert any("is busy, it is being blocked by" in line for line in shown(screen.console))
    assert locked_stages(study) == {"data", "train@a-0", "predict@a-0"}
