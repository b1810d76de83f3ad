"""Studies and searches on a real SLURM: what happens when nodes, callers and experiments fail, and the results."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import small
import under_dvc
from cluster_study import call, finish, results, with_remotes
from slurm_cluster import SlurmCluster

from xraylab import files, tables
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


def test_a_killed_node_and_a_killed_caller_cost_no_finished_epoch(
    slurm: SlurmCluster, two_experiments: Path, tmp_path: Path
) -> None:
    study = long_study(two_experiments, tmp_path, EPOCHS)
    caller = call(slurm, study)
    under_dvc.wait_for(lambda: caller.poll() is not None or _has_sent_a_state(study))
    victim = next(iter(_has_sent_a_state(study)), None)
    assert victim is not None, caller.communicate()[0]
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    nodes = {name: _node(slurm, job["id"]) for name, job in _session(study)["jobs"].items()}
    assert len(set(nodes.values())) == 2
    slurm.kill_node(nodes[victim])
    try:
        local = _local(study, tmp_path)
        output = finish(call(slurm, study, "--attach"))
    finally:
        slurm.start_node(nodes[victim])
    assert results(study) == local
    assert len(local) == 8
    assert under_dvc.ran(output) == ["evaluate", "explain", "report"]
    logs = {path.stem: path.read_text() for path in study.glob(".xraylab/jobs/*/logs/*.log")}
    assert "where its last finished epoch ended" in logs[victim]
    assert f" epoch 1/{EPOCHS}" not in logs[victim]
    # nothing stays behind but results: no ref on the git remote, no session on the channel, no clone on a node
    assert not subprocess.check_output(["git", "ls-remote", study.parent / "origin.git"])
    assert not [path for path in (study.parent / "store/xraylab").rglob("*") if path.is_file()]


def _node(slurm: SlurmCluster, id_: str) -> str:
    """Where a job runs, or nothing while it waits."""
    return slurm.call("squeue", "--noheader", "--format=%N", f"--jobs={id_.rpartition('.')[0]}").strip()


def test_a_failed_experiment_is_named_with_its_log_and_holds_no_other_back(slurm: SlurmCluster, study: Path) -> None:
    small.edit(study, lambda tree: tree["experiments"]["l2"].update(train={"lr": 1e30}))
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
    assert "another `xraylab repro --on` or `search --on` looks after this study: end it, or add --wait" in refused
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


def test_a_job_past_its_time_limit_is_told_from_a_failed_one(slurm: SlurmCluster, tmp_path_factory: Any) -> None:
    """Whoever is out of time is submitted again; SLURM counts in minutes."""
    program = f"""
import time, pathlib
from xraylab.jobs.engines import ENGINES
from xraylab.jobs.engines.engine import Command, Resources, FINAL
slurm, folder = ENGINES["slurm"](), pathlib.Path({str(tmp_path_factory.mktemp("limit"))!r})
commands = [Command("long", ("sleep", "300")), Command("bad", ("false",)), Command("good", ("true",))]
ids = slurm.submit(commands, Resources(minutes=1, partition="short"), folder)
states = [None]
while not FINAL.issuperset(states):
    time.sleep(3)
    status = slurm.status(ids)
    states = [status[each].state for each in ids]
print([str(state) for state in states])
"""
    environment = under_dvc.environment(**slurm.environment)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['timeout', 'failed', 'done']", done.stderr


def three_trials(tree: small.Tree) -> None:
    """The first and the third with Adam; one of all has a rate at which every training fails."""
    tree["search"].update(
        trials=3, sampler="random", seed=2, space={"train.lr": [0.001, 1e30], "train.optimizer": ["adam", "adamw"]}
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
