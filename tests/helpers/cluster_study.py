"""A cluster of SLURM and a study that its jobs can clone: fixtures, which tests/conftest.py gives to all tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
import small
import under_dvc
from slurm_cluster import SlurmCluster

DVC_CONFIG = """[core]
    analytics = false
    check_update = false
    remote = store
['remote "store"']
    url = {url}
"""


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """Three nodes of SLURM, each of which runs one job at a time."""
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    pytest.importorskip("submitit")
    folder = Path(tempfile.mkdtemp(prefix="xraylab-slurm-"))  # munge wants every folder above to be root's
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def with_remotes(study: Path) -> Path:
    """Give a study a git remote and a remote of DVC, both of them folders beside it, and commit it."""
    (study / ".dvc/config").write_text(DVC_CONFIG.format(url=study.parent / "store"))
    small.commit(study)
    small.git(study, "init", "--quiet", "--bare", str(study.parent / "origin.git"))
    small.git(study, "remote", "add", "origin", str(study.parent / "origin.git"))
    return study


@pytest.fixture(scope="session")
def two_experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study of two experiments whose stages before the experiments have run; to be copied."""
    study = small.study(tmp_path_factory.mktemp("original") / "study", under_dvc.only("baseline", "l2"))
    small.commit(study)
    under_dvc.succeed(study, "repro", "split", "features", OMP_NUM_THREADS="1")
    return study


@pytest.fixture(name="study")
def study_with_remotes(two_experiments: Path, tmp_path: Path) -> Path:
    """A copy of it with remotes of its own."""
    return with_remotes(shutil.copytree(two_experiments, tmp_path / "study"))
