"""States of jobs from what squeue and sacct print."""

import pytest

from xraylab.jobs.engines import slurm
from xraylab.jobs.engines.engine import State, Status


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("4_0|PENDING||Resources", Status(State.PENDING, None, "Resources")),
        ("4_0|COMPLETED|n1|None", Status(State.DONE, "n1", "completed")),
        ("4_0|FAILED|n2|NonZeroExitCode", Status(State.FAILED, "n2", "NonZeroExitCode")),
        ("4_0|FAILED|n2|JobLaunchFailure", Status(State.LOST, "n2", "JobLaunchFailure")),
        ("4_0|NODE_FAIL|n2|None", Status(State.LOST, "n2", "node_fail")),
        ("4_0|CANCELLED by 0|None assigned", Status(State.CANCELLED, None, "cancelled by 0")),
        ("4_0|TIMEOUT|n3|TimeLimit", Status(State.TIMEOUT, "n3", "TimeLimit")),
        ("4_0|OUT_OF_MEMORY|n3|OutOfMemory", Status(State.FAILED, "n3", "OutOfMemory")),
    ],
)
def test_a_line_of_slurm_says_how_a_job_stands(line: str, status: Status) -> None:
    assert slurm._read(line) == {"4_0": status}
