"""What `--ray KEY=VALUE` takes, and what is handed on to Ray: needs no cluster."""

import os
import subprocess
import sys
from typing import Any

import pytest

from xraylab.errors import DataError, MissingError
from xraylab.jobs.engines import ENGINES, ray
from xraylab.jobs.engines.engine import Command, Resources


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            Resources(options={"adress": "http://head:8265"}),
            "--ray adress: unknown option; there are address, autoscaler, python, memory, resources,"
            " label_selector, runtime_env",
        ),
        (
            Resources(partition="gpu"),
            "Ray has no partitions: leave --partition out; --ray label_selector=... chooses nodes",
        ),
        (Resources(jobs_per_gpu=2), "--jobs-per-gpu shares one GPU between jobs: add --gpus-per-job 1"),
        (Resources(options={"memory": "16 GB"}), "--ray memory=16 GB: must be a whole number of bytes"),
        (Resources(options={"resources": "spot"}), "--ray resources=spot: must be a JSON object"),
        (Resources(options={"resources": "[1]"}), "--ray resources=[1]: must be a JSON object"),
        (Resources(options={"autoscaler": "true"}), "--ray autoscaler=true: must be yes or no"),
    ],
)
def test_what_ray_does_not_have_is_refused_before_anything_is_submitted(resources: Resources, message: str) -> None:
    with pytest.raises(DataError) as refused:
        ENGINES["ray"]().check(resources)
    assert str(refused.value) == message


def test_resources_and_options_are_handed_on() -> None:
    options = {
        "address": "http://head:8265",
        "autoscaler": "yes",
        "python": "python3",
        "memory": "1000",
        "resources": '{"spot": 1}',
        "label_selector": '{"zone": "a"}',
        "runtime_env": '{"conda": "xray", "env_vars": {"A": "1", "B": "2"}}',
    }
    given: dict[str, Any] = ray._arguments(Resources(gpus=1, jobs_per_gpu=4, cpus=3, options=options), {"B": "3"})
    assert given == {
        "entrypoint_num_cpus": 3,
        "entrypoint_num_gpus": 0.25,
        "entrypoint_memory": 1000,
        "entrypoint_resources": {"spot": 1},
        "entrypoint_label_selector": {"zone": "a"},
        "runtime_env": {"conda": "xray", "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "30", "A": "1", "B": "3"}},
        "metadata": {},
    }


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("sleep 9", 124),
        ("trap '' TERM; while :; do sleep 0.1; done", 124),
    ],
)
def test_the_nodes_shell_ends_a_command_at_its_limit(script: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "GRACE", 0.1)
    command = Command("job", ("sh", "-c", script))
    assert (
        subprocess.run(["sh", "-c", ray._entrypoint(command, Resources(minutes=1 / 60))], check=False).returncode
        == code
    )


def test_arguments_reach_the_command_as_they_are() -> None:
    command = Command("job", (sys.executable, "-c", "import sys; print(sys.argv[1:])", "a b", "$HOME", "it's"))
    for resources in (Resources(), Resources(minutes=1)):
        entrypoint = ray._entrypoint(command, resources)
        assert subprocess.check_output(["sh", "-c", entrypoint], text=True) == "['a b', '$HOME', \"it's\"]\n"


def test_the_nodes_may_have_another_python_than_the_caller() -> None:
    resources = Resources(options={"python": "/opt/x ray/python"})
    assert ray._entrypoint(Command("job", (sys.executable, "-m", "job")), resources) == "'/opt/x ray/python' -m job"
    assert ray._entrypoint(Command("job", ("sleep", "1")), resources) == "sleep 1"


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    with pytest.raises(MissingError) as refused:
        ENGINES["ray"]().status(["http://head:8265/train-1"])
    assert str(refused.value) == "--on ray needs Ray, which is not installed: pip install 'xraylab[ray]'"


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "http://other:8265"):
        monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
        if before:
            monkeypatch.setenv("RAY_API_SERVER_ADDRESS", before)
        with ray._preferred("http://head:8265"):
            assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://head:8265"
        assert os.environ.get("RAY_API_SERVER_ADDRESS") == before
