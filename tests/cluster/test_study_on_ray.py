"""A study on a real Ray whose nodes share nothing but a git remote and an S3 server."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytest.importorskip("moto.server")
pytest.importorskip("dvc_s3")

import small
import under_dvc
from cluster_study import results, with_git_remote
from ray_cluster import RayCluster
from s3_server import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("ray")]
EPOCHS = 12  # long enough to be killed within


@pytest.fixture
def study(two_experiments: Path, s3: S3Server, tmp_path: Path) -> Path:
    """Two experiments with a git remote and a folder of the bucket, whose configs are left to the caller."""
    study = shutil.copytree(two_experiments, tmp_path / "study")
    small.edit(study, lambda tree: tree["train"].update(epochs=EPOCHS))
    (study / ".dvc/config").write_text(s3.config("study"))
    return with_git_remote(study)


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
