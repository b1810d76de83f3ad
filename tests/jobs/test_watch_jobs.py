"""What nodes answer before they begin: other versions than the caller's, and GPUs that are too small."""

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path

import fake_engine
import pytest
from fake_engine import Machines
from rich.console import Console

from xraylab.errors import XraylabError
from xraylab.jobs import environment, gpu_memory, node, watch
from xraylab.jobs.board import Board
from xraylab.jobs.channel import Channel
from xraylab.jobs.engines.engine import Resources, State
from xraylab.jobs.gpu_memory import GIB, Gpu
from xraylab.jobs.node import Report
from xraylab.jobs.session import Session, Submitted
from xraylab.jobs.watch import Watch
from xraylab.paths import Paths

STAGES = ("train@vit-0", "predict@vit-0")
PROBLEM = "n1 has other versions than the caller; install the same\n  - numpy: 2.0 at the caller, 1.0 on n1"


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A session of two jobs, both of which run."""
    monkeypatch.setattr(watch.snapshot, "remove", lambda *arguments: None)
    paths = Paths(fake_engine.study(tmp_path))
    folder = paths.state / "jobs/20260101-000000"
    folder.mkdir(parents=True)
    both = {name: Submitted((f"train@{name}",), id=name, state=State.RUNNING) for name in ("vit-0", "l2-0")}
    session = Session(folder, "slurm", Resources(jobs_per_gpu=2), "study", "origin.git", "abc", "refs/x", 0, jobs=both)
    machines = Machines(Channel.open(paths.root, "study/20260101-000000"), (State.RUNNING, 0))
    return Watch(paths, session, machines, Board(session, Console(quiet=True), lambda name: None))


def answers(jobs: Watch, name: str, **report: object) -> None:
    """The node's answer, which stands."""
    jobs.board.reports[name] = Report("n1", **report)


def look(jobs: Watch) -> None:
    jobs._hear = lambda each, job: None  # type: ignore[method-assign]  # as answered
    asyncio.run(jobs.look())


def test_where_the_first_answer_is_a_refusal_no_job_goes_on(jobs: Watch) -> None:
    answers(jobs, "vit-0", doing="refused", problem=PROBLEM)
    answers(jobs, "l2-0", doing="starting")
    with pytest.raises(XraylabError) as refused:
        look(jobs)
    assert str(refused.value) == (
        "n1 has other versions than the caller; install the same; no job has begun, and all are cancelled"
        "\n  - numpy: 2.0 at the caller, 1.0 on n1"
    )
    assert set(jobs.machines.cancelled) == {"vit-0", "l2-0"}  # type: ignore[attr-defined]
    ended = Session.load(jobs.session.folder)
    assert ended.ended
    assert {job.state for job in ended.jobs.values()} == {State.CANCELLED}


def test_a_node_that_differs_from_others_holds_no_job_back(jobs: Watch) -> None:
    answers(jobs, "vit-0", doing="refused", problem=PROBLEM)
    answers(jobs, "l2-0", doing="train@l2-0")
    look(jobs)
    assert not jobs.machines.cancelled  # type: ignore[attr-defined]


def test_a_job_that_an_earlier_caller_saw_begin_has_begun(jobs: Watch) -> None:
    answers(jobs, "vit-0", doing="refused", problem=PROBLEM)
    jobs.session.jobs["l2-0"].epoch = 1
    look(jobs)
    assert not jobs.machines.cancelled  # type: ignore[attr-defined]


# on the node


@pytest.fixture
def job() -> node.NodeJob:
    return node.NodeJob(
        stages=STAGES, gpu_bytes=20 * GIB, name="vit-0", repository="r", commit="c", ref="x", study="study",
        session="s", size=0, versions={},
    )  # fmt: skip


def report(study: Path) -> Report:
    return Report(**Channel.open(study, "study/s").read_json(node.report_name("vit-0")))


def test_a_node_with_other_versions_refuses(job: node.NodeJob, tmp_path: Path) -> None:
    study = fake_engine.study(tmp_path)
    with pytest.raises(environment.OtherVersionsError):
        node._reported(replace(job, versions={"python": "2.7"}), study)
    assert report(study).doing == "refused"
    assert "python: 2.7 at the caller" in report(study).problem


def test_a_gpu_that_is_too_small_fails_its_job_before_it_begins(
    job: node.NodeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fake_engine.study(tmp_path)
    monkeypatch.setattr(gpu_memory, "visible", lambda: [Gpu("0", "GPU-a", 16 * GIB, 16 * GIB, "Tesla T4")])
    monkeypatch.setattr(node.repro, "until_signal", lambda *arguments: pytest.fail("it began"))
    with pytest.raises(XraylabError, match=r"^vit takes 20.0 GiB of GPU memory or more, and Tesla T4 has 16.0 GiB\n"):
        node._reported(job, study)
    assert report(study).doing == "failed"


def test_a_job_knows_what_its_training_takes(jobs: Watch) -> None:
    jobs.session.jobs["vit-0"].gpu_bytes = 20 * GIB
    jobs.submit(["vit-0"])
    [command] = jobs.machines.submitted  # type: ignore[attr-defined]
    sent = node.NodeJob.from_json(command.arguments[-1])
    assert (sent.gpu_bytes, sent.jobs_per_gpu, sent.experiment) == (20 * GIB, 2, "vit")
    assert json.loads(sent.to_json()) == json.loads(json.dumps(asdict(sent)))
