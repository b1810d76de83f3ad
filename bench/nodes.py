"""The demo study at small size on three simulated nodes of SLURM beside one machine: wall times, and equal bits.

The nodes are processes of this machine, of one core each, so the times say what clones, DVC and SLURM add, and not what
further machines save. Needs root and Debian's munge, slurmctld, slurmd and slurm-client.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
from measure import Gate

sys.path.append(str(measure.REPOSITORY / "tests/helpers"))

import cluster_study
import slurm_cluster
import small
import under_dvc
from slurm_cluster import SlurmCluster

PATTERNS = ("models/*/*/*.safetensors", "models/*/*/history.csv", "predictions/*/*.csv")


def results(study: Path) -> dict[str, str]:
    """SHA-256 of weights, histories and predictions."""
    made = sorted(path for pattern in PATTERNS for path in study.glob(pattern))
    return {str(path.relative_to(study)): hashlib.sha256(path.read_bytes()).hexdigest() for path in made}


def timed(what: str, study: Path, *command: str, **environment: str) -> float:
    """Wall time in seconds."""
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", *command], cwd=study, check=True, stdout=subprocess.DEVNULL,
        env=under_dvc.environment(OMP_NUM_THREADS="1", **environment),
    )  # fmt: skip
    seconds = time.monotonic() - start
    measure.say(f"{what}: {seconds:.0f} s at a load of {os.getloadavg()[0]:.0f}")
    return seconds


def main() -> None:
    if reason := slurm_cluster.missing():
        sys.exit(reason)
    folder = Path(tempfile.mkdtemp(prefix="xraylab-nodes-"))  # munge wants every folder above to be root's
    cluster = SlurmCluster(folder / "slurm")
    try:
        (folder / "slurm").mkdir()
        study = small.study(folder / "study")
        small.commit(study)
        under_dvc.succeed(study, "repro", "split", "features", OMP_NUM_THREADS="1")
        cluster_study.with_remotes(study)
        alone = shutil.copytree(study, folder / "alone")
        cluster.start()
        here = timed("one machine", alone, "dvc", "repro")
        there = timed("three nodes", study, "xraylab", "repro", "--on", "slurm", **cluster.environment)
        same = results(study) == results(alone)
        load = round(os.getloadavg()[0])
        rows = [
            {"where": "one machine, `dvc repro`", "wall time, s": round(here)},
            {"where": "three nodes, `xraylab repro --on slurm`", "wall time, s": round(there)},
        ]
        title = f"The demo study at small size, {len(results(alone))} files of results, at a load of {load}"
        gates = {"files of results that are the same to the bit": Gate(float(same), least=1.0)}
        sys.exit(0 if measure.write("nodes", {title: rows}, gates, ["float32"]) else 1)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
