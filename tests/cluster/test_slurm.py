"""Studies and searches on a real SLURM: what happens when nodes, callers and experiments fail, and the results."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shards_on
import small
import under_dvc
from cluster_study import call, finish, results, with_remotes
from slurm_cluster import SlurmCluster, slurm_of

from xraylab import files, tables
from xraylab.jobs.engines import ENGINES
from xraylab.jobs.engines.engine import FINAL, Command, Engine, Resources, State, Status
from xraylab.jobs.experiments import rows
from xraylab.jobs.session import Session

pytestmark = pytest.mark.cluster
EPOCHS = 12  # long enough to be killed within
ENDLESS = 10_000  # more than anybody waits for


def long_study(two_experiments: Path, folder: Path, epochs: int) -> Path:
    """A copy of the study whose trainings last longer, with remotes. Its configs are left to the caller."""
    study = shutil.copytree(two_experiments, folder / "study")
    small.edit(study, lambda tree: tree["train"].update(epochs=epochs))
    return with_remotes(study)


def _session(study: Path) -> dict[str, Any]:
    """The newest session; its jobs are empty before there is one."""
    files = sorted(study.glob(".xraylab/jobs/*/session.json"))
    return json.loads(files[-1].read_text()) if files else {"jobs": {}}


def _has_sent_a_state(study: Path) -> list[str]:
    """The jobs of which a resume state is on the remote."""
    sent = [path.parent.name for path in (study.parent / "store/xraylab").rglob("runs/*/*.json")]
    return [name for name in _session(study)["jobs"] if any(each.startswith(f"{name}-") for each in sent)]


def _local(study: Path, folder: Path) -> dict[str, str]:
    """What the same study comes to on this machine alone."""
    copy = shutil.copytree(study, folder / "local")
    under_dvc.succeed(copy, "repro", "predict", OMP_NUM_THREADS="1")
    return results(copy)


def test_a_killed_node_a_killed_caller_and_preemption_cost_no_finished_epoch(
    slurm: SlurmCluster, two_experiments: Path, tmp_path: Path
) -> None:
    study = long_study(two_experiments, tmp_path, EPOCHS)
    caller = call(slurm, study)
    under_dvc.wait_for(lambda: caller.poll() is not None or len(_has_sent_a_state(study)) == 2)
    assert caller.poll() is None, caller.communicate()[0]
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    nodes = {name: _node(slurm, job["id"]) for name, job in _session(study)["jobs"].items()}
    (_, dead), (preempted, node) = sorted(nodes.items())
    assert dead != node
    slurm.kill_node(dead)
    slurm.call("sbatch", "--partition=urgent", f"--nodelist={node}", "--output=/dev/null", "--wrap=sleep 1")
    under_dvc.wait_for(lambda: _node(slurm, _session(study)["jobs"][preempted]["id"]) != node)
    try:
        local = _local(study, tmp_path)
        output = finish(call(slurm, study, "--attach"))
    finally:
        slurm.start_node(dead)
    assert results(study) == local
    assert len(local) == 8
    assert under_dvc.ran(output) == ["evaluate", "explain", "report"]
    for log in study.glob(".xraylab/jobs/*/logs/*.log"):
        resumed = log.read_text().partition("where its last finished epoch ended")[2]
        assert f" epoch {EPOCHS}/{EPOCHS}" in resumed
        assert f" epoch 1/{EPOCHS}" not in resumed
    # nothing stays behind but results: no ref on the git remote, no session on the channel, no clone on a node
    assert not subprocess.check_output(["git", "ls-remote", study.parent / "origin.git"])
    assert not [path for path in (study.parent / "store/xraylab").rglob("*") if path.is_file()]


def _node(slurm: SlurmCluster, id_: str) -> str:
    """Where a job runs, or nothing while it waits."""
    return slurm.call("squeue", "--noheader", "--format=%N", f"--jobs={id_.rpartition('.')[0]}").strip()


def test_a_failed_experiment_is_named_with_its_log_and_holds_no_other_back(slurm: SlurmCluster, study: Path) -> None:
    small.edit(study, lambda tree: tree["experiments"]["l2"].update(train={"lr": 1e9, "optimizer": "adamw"}))
    small.commit(study)
    output = finish(call(slurm, study), 1)
    assert "1 of 2 jobs did not come to their end; what the others made is here" in output
    assert "l2-0: failed on n" in output
    assert "Traceback" not in output
    assert (study / "predictions/baseline/0.csv").is_file()
    assert not (study / "predictions/l2/0.csv").exists()


def test_an_interrupted_caller_leaves_its_jobs_and_cancel_ends_them(
    slurm: SlurmCluster, two_experiments: Path, tmp_path: Path
) -> None:
    study = long_study(two_experiments, tmp_path, ENDLESS)
    caller = call(slurm, study)
    under_dvc.wait_for(lambda: caller.poll() is not None or _has_sent_a_state(study))
    refused = finish(call(slurm, study), 1)
    assert "another `xraylab repro --on` or `search --on` looks after this study: process " in refused
    assert "; end it, or add --wait" in refused
    caller.send_signal(signal.SIGTERM)  # Ctrl-C may be ignored where tests run in the background
    output = finish(caller, 128 + signal.SIGTERM)
    assert "`xraylab repro --on slurm --attach` watches them, --cancel ends them" in output
    assert _queued(slurm)
    refused = finish(call(slurm, study), 1)
    assert "`xraylab repro --on slurm --attach` watches them, --cancel ends them" in refused
    assert "cancelled" in finish(call(slurm, study, "--cancel"))
    under_dvc.wait_for(lambda: not _queued(slurm))
    assert _has_sent_a_state(study)  # the next call goes on from there
    assert "no jobs of this study are under way" in finish(call(slurm, study, "--attach"), 1)


def _queued(slurm: SlurmCluster) -> list[str]:
    return slurm.call("squeue", "--noheader", "--format=%i").split()


def test_a_full_disk_of_a_node_is_named_before_anything_is_fetched(
    slurm: SlurmCluster, study: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "none", scratch], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        (scratch / "ballast").write_bytes(bytes(5 * 2**20))
        output = finish(call(slurm, study, "--scratch", str(scratch)), 1)
    finally:
        subprocess.run(["umount", scratch], check=True)
    assert "2 of 2 jobs did not come to their end" in output
    assert "clone and inputs, twice, needs" in output
    assert "make room there" in output
    assert "Traceback" not in output


def test_what_is_missing_is_said_before_any_job(slurm: SlurmCluster, study: Path) -> None:
    (study / "notes.txt").write_text("not committed")
    assert "commit them, or add --commit\n  - notes.txt" in finish(call(slurm, study), 1)
    (study / "notes.txt").unlink()
    assert "SLURM takes no such job" in finish(call(slurm, study, "--gpus-per-job", "3"), 1)
    config = (study / ".dvc/config").read_text()
    (study / ".dvc/config").write_text(config.replace(f"{study.parent}/store", "https://example.org/store"))
    small.commit(study)
    assert "holds no run cache, as HTTP remotes do not" in finish(call(slurm, study), 1)
    small.git(study, "remote", "remove", "origin")
    assert "git remote add origin URL" in finish(call(slurm, study), 1)
    assert not list(study.glob(".xraylab/jobs/*/session.json"))


@pytest.fixture(scope="module", autouse=True)
def limited(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Jobs on the last node, of which one is past its time limit after a minute, in which other tests run."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
        resources = Resources(minutes=1, partition="short", options={"nodelist": slurm.nodes[-1]})
        commands = [shell("bad", "false"), shell("good", "true"), shell("long", "sleep 300")]
        return ENGINES["slurm"]().submit(commands, resources, tmp_path_factory.mktemp("limited"))


# the engine alone, whose jobs are shell scripts


@pytest.fixture
def engine(slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Engine:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    return ENGINES["slurm"]()


def until(engine: Engine, ids: list[str], ended: Callable[[Status], bool], seconds: float = 240) -> list[Status]:
    """The statuses of jobs of which all have."""
    statuses: dict[str, Status] = {}
    under_dvc.wait_for(lambda: all(map(ended, (statuses.update(engine.status(ids)), statuses.values())[1])), seconds)
    return [statuses[id_] for id_ in ids]


def final(status: Status) -> bool:
    return status.state in FINAL


def shell(name: str, script: str) -> Command:
    return Command(name, ("sh", "-c", script))


def test_a_preempted_job_waits_and_begins_again(engine: Engine, tmp_path: Path) -> None:
    """It has time to end in good order, and is the same job: the caller has nothing to submit."""
    script = f"""trap 'echo ended; exit 143' TERM
        [ -e {tmp_path}/begun ] && echo again && exit
        touch {tmp_path}/begun; while :; do sleep 0.1; done"""
    on_one_node = {"nodelist": "n1"}
    [job] = engine.submit([shell("preempted", script)], Resources(options=on_one_node), tmp_path)
    under_dvc.wait_for((tmp_path / "begun").exists)
    urgent = engine.submit([shell("urgent", "sleep 1")], Resources(partition="urgent", options=on_one_node), tmp_path)
    [waiting] = until(engine, [job], lambda status: status.state != State.RUNNING)
    assert waiting.state == State.PENDING
    assert [each.state for each in until(engine, [job, *urgent], final)] == [State.DONE] * 2
    assert engine.log(job, tmp_path).split() == ["Terminated", "ended", "again"]


def test_jobs_that_share_a_gpu_run_at_once_and_each_has_its_log(engine: Engine, tmp_path: Path) -> None:
    meet = "touch {here}/{a}; until [ -e {here}/{b} ]; do sleep 0.1; done; echo $CUDA_VISIBLE_DEVICES; {end}"
    commands = [
        shell("a", meet.format(here=tmp_path, a="a", b="b", end="exit 3")),
        shell("b", meet.format(here=tmp_path, a="b", b="a", end="true")),
        shell("alone", "echo $CUDA_VISIBLE_DEVICES"),
    ]
    resources = Resources(gpus=1, jobs_per_gpu=2, options={"cpus_per_task": "1"})  # a node has no two cores
    engine.check(resources)
    ids = engine.submit(commands, resources, tmp_path)
    until(engine, ids, final)
    assert [engine.log(id_, tmp_path) for id_ in ids] == ["0", "0", "0"]
    states = [status.state for status in engine.status(ids).values()]
    assert states == [State.FAILED, State.FAILED, State.DONE]  # a job of SLURM's fails as one: the nodes' reports tell
    assert ids[0].rpartition(".")[0] == ids[1].rpartition(".")[0] != ids[2].rpartition(".")[0]


def test_without_accounts_squeue_alone_tells_how_jobs_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no slurmdbd, submitit itself would wait for ever for a job that was cancelled."""
    with slurm_of(nodes=2, accounting=False) as slurm:
        for name, value in slurm.environment.items():
            monkeypatch.setenv(name, value)
        engine = ENGINES["slurm"]()
        ids = engine.submit(
            [shell("good", "true"), shell("bad", "false"), shell("long", "sleep 300")], Resources(), tmp_path
        )
        until(engine, ids[2:], lambda status: status.state == State.RUNNING)
        engine.cancel(ids[2:])
        states = [status.state for status in until(engine, ids, final)]
        assert states == [State.DONE, State.FAILED, State.CANCELLED]
        assert "disabled" in subprocess.run(["sacct"], capture_output=True, text=True, check=False).stderr
        gone = f"{int(ids[0].partition('_')[0]) + 7}.0"
        assert engine.status([gone]) == {gone: Status(State.LOST, None, "SLURM knows it no longer")}


def test_two_nodes_share_the_shards_of_an_index(
    slurm: SlurmCluster, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shards_on.two_nodes("slurm", [], tmp_path, monkeypatch, capsys)


def three_trials(tree: small.Tree) -> None:
    """The first and the third with Adam; one of all has a rate at which every training fails."""
    tree["search"].update(
        trials=3, sampler="random", seed=2, space={"train.lr": [0.001, 1e9], "train.optimizer": ["adam", "adamw"]}
    )


def search(slurm: SlurmCluster, study: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "xraylab", "search", "--on", "slurm", *arguments], cwd=study, text=True,
        env=under_dvc.environment(**slurm.environment, OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def sessions(study: Path) -> list[Session]:
    return [Session.load(file.parent) for file in sorted(study.glob(".xraylab/jobs/*/session.json"))]


def test_a_search_whose_caller_is_killed_goes_on_with_its_jobs(slurm: SlurmCluster, study: Path) -> None:
    pytest.importorskip("optuna")
    small.edit(study, three_trials)
    small.commit(study)
    caller = search(slurm, study, "--jobs", "2")
    under_dvc.wait_for(
        lambda: caller.poll() is not None or any(job.node for each in sessions(study) for job in each.jobs.values())
    )
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    refused = subprocess.run(
        [sys.executable, "-m", "xraylab", "repro", "--on", "slurm"], cwd=study, text=True, check=False,
        env=under_dvc.environment(**slurm.environment), capture_output=True,
    )  # fmt: skip
    assert "`xraylab search --on slurm` goes on with them, --cancel ends them" in refused.stderr

    output = finish(search(slurm, study, "--jobs", "2"))
    table = tables.read(study / "reports/search/trials.csv")
    names = list(table["trial"])
    states = dict(zip(names, table["state"], strict=True))
    rates = dict(zip(names, table["train.lr"].astype(float), strict=True))
    assert states == {name: "failed" if rate > 1 else "finished" for name, rate in rates.items()}
    [failed] = [name for name, state in states.items() if state == "failed"]
    assert f"{failed}: failed on n" in output
    assert f".xraylab/jobs/{sessions(study)[0].name}/logs/{failed}.log ends with" in output
    assert "Traceback" not in output

    # each was one job of one session, trained there alone, and is an experiment here, as it is without a cluster
    [session] = sessions(study)
    assert {name: job.attempts for name, job in session.jobs.items()} == dict.fromkeys(names, 1)
    assert not under_dvc.ran(output)
    versions = files.json.loads(under_dvc.succeed(study, "exp", "show", "--json").partition("\n")[0])
    trained = {row.version: row.value for row in rows(versions) if row.version.startswith("search-")}
    finished = table[table["state"] == "finished"]
    assert trained == {
        name: pytest.approx(value, abs=1e-4)
        for name, value in zip(finished["trial"], finished["value"].astype(float), strict=True)
    }
    # and nothing stays behind
    assert not subprocess.check_output(["git", "ls-remote", study.parent / "origin.git"])
    assert not [path for path in (study.parent / "store/xraylab").rglob("*") if path.is_file()]


def test_a_job_past_its_time_limit_is_told_from_a_failed_one(engine: Engine, limited: list[str]) -> None:
    """Whoever is out of time is submitted again; SLURM counts in minutes, so that this test is the last."""
    states = [status.state for status in until(engine, limited, final)]
    assert states == [State.FAILED, State.DONE, State.TIMEOUT]
