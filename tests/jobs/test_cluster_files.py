"""Files for SkyPilot and Kubernetes: their schemas, and that their scripts do each run once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import small
import under_dvc
from ruamel.yaml import YAML

from xraylab import files
from xraylab.errors import DataError, XraylabError
from xraylab.jobs import cluster_files, node
from xraylab.jobs.cluster_files import Runs
from xraylab.paths import Paths

NAMES = ["baseline-0", "baseline-1", "l2-0", "l2-1", "wide_50-0"]
PYTHON = """#!/bin/sh
test "$1 $2" = "-m xraylab.jobs.node" || exit 2
echo "$CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS $3" >> "$MADE"
case "$3" in *l2-0*) exit 1;; esac
"""


@pytest.fixture
def runs() -> Runs:
    job = node.NodeJob(
        stages=(f"train@{cluster_files.RUN}", f"predict@{cluster_files.RUN}"), name=cluster_files.RUN,
        repository="https://example.org/it's/study.git", commit="0" * 40, ref="0" * 40, study="5" * 16, session="sky",
        size=10 * 2**30, versions={"python": "3.11.7", "torch": "2.15.0"}, scratch="/tmp/xraylab",
    )  # fmt: skip
    return Runs(
        NAMES, job, ["source", "cache", "configure"], ["cache", "configure"], "s3://bucket/study", "xraylab dvc-s3"
    )


def documents(text: str) -> list[Any]:
    return list(YAML(typ="safe").load_all(StringIO(text)))


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., tuple[str, list[tuple[str, str, node.NodeJob]]]]:
    """Runs a script with a python that notes what it is told to do, and returns what it printed and those notes."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(PYTHON)
    (tmp_path / "bin/python").chmod(0o755)

    def run(text: str, **environment: object) -> tuple[str, list[tuple[str, str, node.NodeJob]]]:
        made = tmp_path / "made"
        made.unlink(missing_ok=True)
        given = {name: str(value) for name, value in environment.items()} | {"HOME": str(tmp_path), "MADE": str(made)}
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", text.replace("~/environment/bin", str(tmp_path / "bin"))],
            env=os.environ | given | {"PATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not done.stderr
        lines = [line.split(" ", 2) for line in made.read_text().splitlines()] if made.exists() else []
        return done.stdout, [(gpu, threads, node.NodeJob.from_json(job)) for gpu, threads, job in lines]

    return run


@pytest.mark.parametrize("nodes", [1, 2, 3])
@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_the_machines_of_skypilot_share_the_runs(nodes: int, gpus: int, runs: Runs, script: Callable[..., Any]) -> None:
    [task] = documents(cluster_files.render("sky", runs, nodes, gpus, 3))
    assert task["num_nodes"] == nodes
    assert task["resources"].get("accelerators") == (f"L4:{gpus}" if gpus else None)
    said, made = "", []
    for rank in range(nodes):
        ranks = {"SKYPILOT_NODE_RANK": rank, "SKYPILOT_NUM_NODES": nodes, "SKYPILOT_NUM_GPUS_PER_NODE": gpus}
        printed, noted = script(task["run"], **ranks)
        said, made = said + printed, made + noted
        assert {gpu for gpu, _, _ in noted} == ({str(n) for n in range(gpus)} if gpus else {""}) or len(noted) < gpus
    assert sorted(job.name for _, _, job in made) == sorted(NAMES)
    assert {threads for _, threads, _ in made} == {"3"}
    assert said == "FAILED: l2-0\n"
    assert all(job.stages == (f"train@{job.name}", f"predict@{job.name}") for _, _, job in made)
    assert made[0][2].repository == runs.job.repository
    assert made[0][2].versions == runs.job.versions


def test_each_pod_of_kubernetes_finds_its_run_by_its_number(
    runs: Runs, script: Callable[..., Any], tmp_path: Path
) -> None:
    files_of, job = documents(cluster_files.render("kubernetes", runs, 2, 1, 4))
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (5, 2)
    for name, content in files_of["data"].items():
        (tmp_path / name).write_text(content)
    [container] = job["spec"]["template"]["spec"]["containers"]
    *shell, text = container["command"]
    assert shell == ["sh", "-c"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    for number, name in enumerate(NAMES):
        _, [(_, _, made)] = script(text.replace("/jobs/", f"{tmp_path}/"), JOB_COMPLETION_INDEX=number)
        assert made == node.NodeJob.from_json(runs.job.to_json().replace(cluster_files.RUN, name))


def test_the_file_for_kubernetes_is_as_its_api_takes_it(runs: Runs) -> None:
    """Its client drops keys that it does not know: what comes back must be all that went in."""
    client = pytest.importorskip("kubernetes").client
    api = client.ApiClient()
    for gpus in (0, 1):
        for document, kind in zip(
            documents(cluster_files.render("kubernetes", runs, 2, gpus, 4)), ("V1ConfigMap", "V1Job"), strict=True
        ):
            read = api.deserialize(json.dumps(document), kind, "application/json")
            assert api.sanitize_for_serialization(read) == document


def test_the_file_for_skypilot_is_as_its_schema_says(runs: Runs) -> None:
    schemas = pytest.importorskip("sky.utils.schemas")
    validator = pytest.importorskip("jsonschema").Draft7Validator
    for gpus in (0, 1):
        [task] = documents(cluster_files.render("sky", runs, 2, gpus, 4))
        assert not list(validator(schemas.get_task_schema()).iter_errors(task))
        assert not list(validator(schemas.get_resources_schema()).iter_errors(task["resources"]))
        assert list(validator(schemas.get_task_schema()).iter_errors(task | {"num_node": 2}))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two experiments, committed and pushed, with a dvc.lock that only says what has been made."""
    folder = tmp_path_factory.mktemp("study")
    study = small.study(folder / "study", under_dvc.only("baseline", "l2"))
    (study / ".dvc/config").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = {folder / 'store'}\n"
    )
    stages = ("code", "source", "fetch", "index", "split", "cache", "configure", "features")
    files.write_yaml(
        {"schema": "2.0", "stages": {name: {"cmd": "", "outs": [{"path": name, "size": 2**30}]} for name in stages}},
        study / "dvc.lock",
    )
    small.commit(study)
    small.git(study, "init", "--quiet", "--bare", str(folder / "origin.git"))
    small.git(study, "remote", "add", "origin", str(folder / "origin.git"))
    small.git(study, "push", "--quiet", "origin", "HEAD")
    return study


def test_a_study_becomes_a_file(original: Path) -> None:
    text = subprocess.check_output(
        [sys.executable, "-m", "xraylab", "cluster-file", "kubernetes", "--nodes", "8", "--gpus", "0"],
        cwd=original, env=under_dvc.environment(), text=True,
    )  # fmt: skip
    files_of, job = documents(text)
    assert files_of["data"]["runs"] == "baseline-0\nl2-0\n"
    assert job["spec"]["parallelism"] == 2
    made = node.NodeJob.from_json(files_of["data"]["job.json"])
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=original, text=True).strip()
    assert (made.commit, made.ref, made.repository) == (head, head, str(original.parent / "origin.git"))
    assert made.stages == ("train@@RUN@", "predict@@RUN@")
    assert f"# {original.parent}/store is a folder: mount it on every machine under this path.\n" in text
    assert "pip install --constraint constraints.txt .\n" in text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            "lock",
            "the runs start from what cache, code, configure, features, split writes, which is not in dvc.lock: dvc",
        ),
        ("change", "dvc.lock is not as the last commit has it, which the runs clone: dvc repro, git commit"),
        ("commit", "the runs clone the last commit from origin, which does not have it yet: git push"),
        ("kind", "there is no cluster file 'nomad'; there is sky, kubernetes"),
    ],
)
def test_what_the_machines_would_not_find_is_refused(spoil: str, message: str, original: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    subprocess.run(["cp", "-a", original, study], check=True)
    if spoil == "lock":
        files.write_yaml({"schema": "2.0", "stages": {}}, study / "dvc.lock")
    if spoil == "change":
        (study / "dvc.lock").write_text((study / "dvc.lock").read_text() + "# other\n")
    if spoil == "commit":
        (study / "new.md").write_text("new")
        small.commit(study)
    with pytest.raises(XraylabError) as refused:
        cluster_files.text(Paths(study), "nomad" if spoil == "kind" else "sky", 1, 1, 1, "origin")
    assert isinstance(refused.value, DataError)
    assert str(refused.value).startswith(message)
