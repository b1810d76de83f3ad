"""A study on a real Ray whose nodes share nothing but a git remote and an S3 server."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytest.importorskip("moto.server")
pytest.importorskip("dvc_s3")

import small
import under_dvc
from ray_cluster import RayCluster
from s3_server import S3Server

pytestmark = pytest.mark.cluster
EPOCHS = 12  # long enough to be killed within


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with S3Server() as server:
        yield server


@pytest.fixture(scope="module")
def cluster(s3: S3Server) -> Iterator[RayCluster]:
    cluster = RayCluster(**s3.environment)
    try:
        cluster.add("n2")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def study(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments whose first stages have run, with a git remote and a folder of the bucket."""
    folder = tmp_path_factory.mktemp("ray")
    study = small.study(folder / "study", under_dvc.only("baseline", "l2"))
    small.edit(study, lambda tree: tree["train"].update(epochs=EPOCHS))
    (study / ".dvc/config").write_text(s3.config("study"))
    small.commit(study)
    under_dvc.succeed(study, "repro", "split", "features", OMP_NUM_THREADS="1")
    small.commit(study)
    small.git(study, "init", "--quiet", "--bare", str(folder / "origin.git"))
    small.git(study, "remote", "add", "origin", str(folder / "origin.git"))
    return study


def results(study: Path) -> dict[str, str]:
    """SHA-256 of what must not depend on where it was made: weights, histories and predictions."""
    patterns = ("models/*/*/*.safetensors", "models/*/*/history.csv", "predictions/*/*.csv")
    made = sorted(path for pattern in patterns for path in study.glob(pattern))
    return {str(path.relative_to(study)): hashlib.sha256(path.read_bytes()).hexdigest() for path in made}


def _sent_from(node: str, study: Path, s3: S3Server) -> bool:
    """Whether a run of this node has sent a resume state."""
    sessions = [json.loads(path.read_text()) for path in study.glob(".xraylab/jobs/*/session.json")]
    names = [name for session in sessions for name, job in session["jobs"].items() if job["node"] == node]
    return any(f"/runs/{name}-" in key and key.endswith(".json") for key in s3.keys("study/xraylab") for name in names)


def test_a_run_whose_node_is_killed_goes_on_elsewhere_to_the_same_bits(
    cluster: RayCluster, s3: S3Server, study: Path, tmp_path: Path
) -> None:
    local = shutil.copytree(study, tmp_path / "local")
    with (tmp_path / "printed").open("w") as printed:
        caller = subprocess.Popen(
            [sys.executable, "-m", "xraylab", "repro", "--on", "ray", "--ray", f"address={cluster.address}"],
            cwd=study, env=under_dvc.environment(OMP_NUM_THREADS="1", **s3.environment),
            stdout=printed, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        # one run on each node; that of n2 has sent a state
        under_dvc.wait_for(lambda: caller.poll() is not None or _sent_from("n2", study, s3))
        cluster.kill("n2")
        under_dvc.succeed(local, "repro", "predict", OMP_NUM_THREADS="1", **s3.environment)
        assert caller.wait(240) == 0, (tmp_path / "printed").read_text()
    finally:
        caller.kill()
    output = (tmp_path / "printed").read_text()
    assert under_dvc.ran(output) == ["evaluate", "explain", "report"]
    assert results(study) == results(local)
    assert len(results(local)) == 8
    logs = [path.read_text() for path in study.glob(".xraylab/jobs/*/logs/*.log")]
    assert len(logs) == 2
    [again] = [log for log in logs if "where its last finished epoch ended" in log]
    assert f" epoch 1/{EPOCHS}" not in again
    assert not s3.keys("study/xraylab")  # nothing of the session stays on the remote
