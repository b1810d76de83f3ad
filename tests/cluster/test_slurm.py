"""Studies on a real SLURM: the results of a run here, bit for bit, and what happens when nodes and callers end."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import under_dvc
from slurm_cluster import SlurmCluster

pytestmark = pytest.mark.cluster


def call(slurm: SlurmCluster, study: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "xraylab", "repro", "--on", "slurm", *arguments], cwd=study, text=True,
        env=under_dvc.environment(**slurm.environment, OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def results(study: Path) -> dict[str, str]:
    """SHA-256 of what must not depend on where it was made: weights, histories and predictions."""
    patterns = ("models/*/*/*.safetensors", "models/*/*/history.csv", "predictions/*/*.csv")
    made = sorted(path for pattern in patterns for path in study.glob(pattern))
    return {str(path.relative_to(study)): hashlib.sha256(path.read_bytes()).hexdigest() for path in made}


@pytest.fixture(scope="session")
def local(two_experiments: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results of a run on this machine alone, in one thread, as the jobs have."""
    study = shutil.copytree(two_experiments, tmp_path_factory.mktemp("local") / "study")
    under_dvc.succeed(study, "repro", "predict", OMP_NUM_THREADS="1")
    return results(study)


def test_a_study_on_three_nodes_has_the_results_of_a_run_here(
    slurm: SlurmCluster, study: Path, local: dict[str, str]
) -> None:
    output = finish(call(slurm, study))
    assert under_dvc.ran(output) == ["evaluate", "explain", "report"]
    assert results(study) == local
    assert len(local) == 8
    nodes = {line.split(", ")[1] for line in output.splitlines() if "] done, " in line}
    assert len(nodes) == 2
    # nothing stays behind but results: no ref on the git remote, no session on the channel, no clone on a node
    assert not subprocess.check_output(["git", "ls-remote", study.parent / "origin.git"])
    assert not [path for path in (study.parent / "store/xraylab").rglob("*") if path.is_file()]
