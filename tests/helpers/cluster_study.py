"""Clusters and studies that their jobs can clone: fixtures, which tests/conftest.py gives to all tests."""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import slurm_cluster
import small
import under_dvc
from filelock import FileLock
from ray_cluster import RayCluster
from slurm_cluster import SlurmCluster

if TYPE_CHECKING:
    from s3_server import S3Server

PATIENCE = 10  # seconds that Ray lets a job wait: enough for one to begin where other tests run
DVC_CONFIG = """[core]
    analytics = false
    check_update = false
    remote = store
['remote "store"']
    url = {url}
"""


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """Four nodes of SLURM, each of which runs one job at a time."""
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    pytest.importorskip("submitit")
    with slurm_cluster.slurm_of(nodes=4) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def s3() -> "Iterator[S3Server]":
    pytest.importorskip("moto.server")
    pytest.importorskip("dvc_s3")
    from s3_server import S3Server  # noqa: PLC0415 - its libraries take seconds to import

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def ray_head(s3: "S3Server") -> Iterator[RayCluster]:
    """A Ray of one node, which reaches the S3 server and lets a job wait for no more than PATIENCE seconds."""
    pytest.importorskip("ray")
    cluster = RayCluster(RAY_JOB_START_TIMEOUT_SECONDS=str(PATIENCE), **s3.environment)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(ray_head: RayCluster) -> RayCluster:
    """Two nodes of Ray with a core each: the head n1, and n2, which says that it has a GPU."""
    if "n2" not in ray_head.nodes:
        ray_head.add("n2", "--num-gpus=1")
    return ray_head


def with_remotes(study: Path) -> Path:
    """Give a study a git remote and a remote of DVC, both of them folders beside it, and commit it."""
    (study / ".dvc/config").write_text(DVC_CONFIG.format(url=study.parent / "store"))
    return with_git_remote(study)


def with_git_remote(study: Path) -> Path:
    """Commit a study and give it a git remote, a folder beside it."""
    small.commit(study)
    small.git(study, "init", "--quiet", "--bare", str(study.parent / "origin.git"))
    small.git(study, "remote", "add", "origin", str(study.parent / "origin.git"))
    return study


@pytest.fixture(scope="session")
def two_experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study of two experiments whose stages before the experiments have run; to be copied.

    The processes among which tests are distributed share it.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "two_experiments"
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            study = small.study(folder / "study", under_dvc.only("baseline", "l2"))
            small.commit(study)
            under_dvc.succeed(study, "repro", "split", "features", OMP_NUM_THREADS="1")
            (folder / "made").touch()
    return folder / "study"


@pytest.fixture(name="study")
def study_with_remotes(two_experiments: Path, tmp_path: Path) -> Path:
    """A copy of it with remotes of its own."""
    return with_remotes(shutil.copytree(two_experiments, tmp_path / "study"))


def call(slurm: SlurmCluster, study: Path, *arguments: str) -> "subprocess.Popen[str]":
    """`xraylab repro --on slurm` on its way."""
    return subprocess.Popen(
        [sys.executable, "-m", "xraylab", "repro", "--on", "slurm", *arguments], cwd=study, text=True,
        env=under_dvc.environment(**slurm.environment, OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """All that a process prints, once it has ended with this exit code."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def results(study: Path) -> dict[str, str]:
    """SHA-256 of what must not depend on where it was made: weights, histories and predictions."""
    patterns = ("models/*/*/*.safetensors", "models/*/*/history.csv", "predictions/*/*.csv")
    made = sorted(path for pattern in patterns for path in study.glob(pattern))
    return {str(path.relative_to(study)): hashlib.sha256(path.read_bytes()).hexdigest() for path in made}
