"""A search on a real SLURM whose caller is killed, and of whose trials one fails."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import small
import under_dvc
from slurm_cluster import SlurmCluster
from test_slurm import finish

from xraylab import files, tables
from xraylab.jobs.experiments import rows
from xraylab.jobs.session import Session

pytest.importorskip("optuna")
pytestmark = pytest.mark.cluster


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
