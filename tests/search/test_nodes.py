"""Trials as jobs: what the caller hears of them, when one is submitted again or cancelled, and what is refused."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import fake_engine
import optuna
import pytest
import small
from fake_engine import LINE, Machines
from rich.console import Console
from test_search import FakeDvc, open_study, searched, searching

from xraylab import cli, files
from xraylab.errors import DataError, MissingError, XraylabError
from xraylab.jobs import cluster, gpu_memory, node, repro, snapshot, watch
from xraylab.jobs.board import Board
from xraylab.jobs.channel import Channel
from xraylab.jobs.cluster import Call
from xraylab.jobs.dvc import Log
from xraylab.jobs.engines import ENGINES
from xraylab.jobs.engines.engine import Resources, State
from xraylab.jobs.job import Job
from xraylab.jobs.session import Session, Submitted
from xraylab.jobs.watch import Watch
from xraylab.params import config
from xraylab.params.search import Values
from xraylab.paths import Paths
from xraylab.search import experiment, nodes, trials
from xraylab.search.nodes import Nodes
from xraylab.search.trials import FailedError

CHANGES = ("++experiments.baseline.train.lr=0.1",)
STAGES = ("configure", "features", "train@baseline-0")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A study with no more than a remote of DVC; nobody waits in it."""
    monkeypatch.setattr(nodes, "POLL", 0.0)
    monkeypatch.setattr(watch, "PAUSES", (0.01, 0.02))
    return Paths(fake_engine.study(tmp_path))


def a_session(paths: Paths, **changes: object) -> Session:
    folder = paths.state / "jobs/20260101-000000"
    folder.mkdir(parents=True)
    session = Session(folder, "slurm", Resources(), "study", "origin.git", "abc", "refs/x", 0, command="search")
    return replace(session, **changes)


def on(paths: Paths, *states: tuple[State, int]) -> tuple[Nodes, Machines]:
    session = a_session(paths)
    machines = Machines(Channel.open(paths.root, "study/20260101-000000"), *states)
    board = Board(session, Console(quiet=True), lambda name: "valid_f1")
    return Nodes(Watch(paths, session, machines, board), Job(STAGES), "valid_f1"), machines


def train(trained_on: Nodes, name: str = "search-x-001", ends_at: int = 99) -> list[tuple[int, int, float]]:
    """The epochs that are reported."""
    heard = []

    def report(epoch: int, epochs: int, metric: float) -> None:
        heard.append((epoch, epochs, metric))
        if epoch == ends_at:
            raise optuna.TrialPruned

    try:
        asyncio.run(trained_on.train(name, CHANGES, report))
    except optuna.TrialPruned:
        heard.append((0, 0, 0.0))
    return heard


def epochs(last: int) -> list[tuple[int, int, float]]:
    return [(epoch, 9, epoch / 10) for epoch in range(1, last + 1)]


# one trial


def test_every_epoch_is_heard_once_also_those_between_two_looks(paths: Paths) -> None:
    trained_on, machines = on(
        paths, (State.PENDING, 0), (State.RUNNING, 2), (State.RUNNING, 2), (State.RUNNING, 5), (State.DONE, 9)
    )
    assert train(trained_on) == epochs(9)
    [command] = machines.submitted
    job = node.NodeJob.from_json(command.arguments[-1])
    assert (job.name, job.run, job.stages, job.changes) == ("search-x-001", "baseline-0", STAGES, CHANGES)
    assert Session.load(trained_on.session.folder).jobs["search-x-001"].state == State.DONE


def test_a_lost_job_is_submitted_again_and_no_epoch_is_heard_twice(paths: Paths) -> None:
    trained_on, machines = on(paths, (State.RUNNING, 4), (State.LOST, 4), (State.RUNNING, 3), (State.DONE, 9))
    assert train(trained_on) == epochs(9)
    assert [command.name for command in machines.submitted] == ["search-x-001"] * 2


def test_a_trial_on_a_gpu_knows_what_its_own_settings_take(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_batch(configs: list[Path], n_classes: int, devices: int) -> dict[Path, int]:
        return {path: config.read_config(path).train.batch_size * n_classes * devices for path in configs}

    monkeypatch.setattr(gpu_memory, "needs", by_batch)
    shutil.copyfile(small.REPOSITORY / "params.yaml", paths.params)
    before = paths.params.read_bytes()
    trained_on, machines = on(paths, (State.DONE, 1))
    trained_on.session.resources = Resources(gpus=3)
    asyncio.run(trained_on.train("search-x-001", ("++experiments.baseline.train.batch_size=96",), lambda *told: None))
    [command] = machines.submitted
    assert node.NodeJob.from_json(command.arguments[-1]).gpu_bytes == 96 * 2 * 3
    assert paths.params.read_bytes() == before


def test_a_trial_that_is_ended_early_has_its_job_cancelled(paths: Paths) -> None:
    """As here, at the epoch at which it fell behind, whatever the job has done since."""
    trained_on, machines = on(paths, (State.RUNNING, 2), (State.RUNNING, 8), (State.RUNNING, 9))
    states = Channel.open(paths.root, "study/search-x-001")
    states.write("a state", "runs/baseline-0-00/1.json")
    assert train(trained_on, ends_at=4) == [*epochs(4), (0, 0, 0.0)]
    assert set(machines.cancelled) == {"search-x-001/1"}
    assert not trained_on.session.live
    assert states.names("runs") == []  # nothing will go on from there


def test_a_job_that_was_done_before_it_could_be_ended_early_is_ended_early(paths: Paths) -> None:
    trained_on, machines = on(paths, (State.DONE, 9))
    assert train(trained_on, ends_at=4)[-1] == (0, 0, 0.0)
    assert not machines.cancelled


def test_a_failed_job_is_named_with_the_end_of_its_log(paths: Paths) -> None:
    trained_on, _ = on(paths, (State.RUNNING, 1), (State.FAILED, 1))
    with pytest.raises(FailedError) as failed:
        train(trained_on)
    log = paths.state / "jobs/20260101-000000/logs/search-x-001.log"
    assert str(failed.value) == (
        f"search-x-001: failed on n1, whose log {log} ends with\n      {LINE.format(1, 1)}"
    )  # fmt: skip


def test_a_job_of_an_earlier_caller_is_not_submitted_again(paths: Paths) -> None:
    trained_on, machines = on(paths, (State.RUNNING, 3), (State.DONE, 9))
    trained_on.session.jobs["search-x-001"] = Submitted(STAGES, CHANGES, id="search-x-001/7", state=State.RUNNING)
    trained_on.session.save()
    trained_on.jobs.session = trained_on.session = Session.load(trained_on.session.folder)
    assert train(trained_on) == epochs(9)
    assert not machines.submitted


def test_jobs_that_go_on_keep_their_session(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(watch, "end", lambda paths, session: ended.append(session.name))
    trained_on, _ = on(paths, (State.DONE, 1))
    trained_on.session.jobs["search-x-001"] = Submitted(STAGES, CHANGES, id="1", state=State.RUNNING)
    trained_on.end()
    assert not ended
    trained_on.session.jobs["search-x-001"].state = State.DONE
    trained_on.end()
    assert ended == ["20260101-000000"]


# an engine that gives no answer


def test_an_engine_that_gives_no_answer_for_a_moment_is_asked_again(paths: Paths) -> None:
    trained_on, machines = on(paths, (State.DONE, 2))
    machines.deaf = 2
    assert train(trained_on) == epochs(2)


def test_an_engine_that_gives_no_answer_ends_the_caller_which_says_how_to_come_back(paths: Paths) -> None:
    trained_on, machines = on(paths, (State.DONE, 2))
    machines.deaf = 3
    with pytest.raises(XraylabError) as ended:
        train(trained_on)
    assert str(ended.value) == (
        "`squeue` failed; submitted jobs go on: `xraylab search --on slurm` goes on with them, --cancel ends them"
    )
    assert machines.deaf == 0


def test_an_error_of_the_engine_ends_the_search_as_itself(tmp_path: Path) -> None:
    async def ended(number: int, values: Values, report: trials.Report) -> float:
        raise XraylabError("`squeue` failed")

    with pytest.raises(XraylabError, match=r"^`squeue` failed$"):
        searched(open_study(tmp_path), searching(workers=2), ended)


def test_a_caller_that_comes_back_hears_known_epochs_again_and_does_not_note_them_twice(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    async def heard_twice(number: int, values: Values, report: trials.Report) -> float:
        for epoch in (1, 2, 1, 2, 3):
            report(epoch, 9, epoch / 10)
        return 0.5

    study = open_study(tmp_path)
    searched(study, searching(trials=1), heard_twice)
    assert study.trials[0].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}
    assert not [warning for warning in recwarn if "already reported" in str(warning.message)]


# the experiment that is made of it


class RestoringDvc(FakeDvc):
    """Says these lines."""

    lines = ("Stage 'split' didn't change, skipping", "Stage 'train@l2-2' is cached - skipping run")

    async def logged(
        self, arguments: list[str], environment: dict[str, str], log: Log, on_line: Callable[[str], None]
    ) -> int:
        assert arguments[:5] == ["exp", "run", "--temp", "--name", "search-x-004"]
        assert arguments[-2:] == ["train@l2-2", "--pull"]
        for line in self.lines:
            on_line(line)
        return 0


def restored(dvc: FakeDvc, folder: Path) -> tuple[float, list[tuple[str, tuple[str, ...]]]]:
    trained = []

    async def on_a_node(name: str, changes: tuple[str, ...], report: experiment.Report) -> None:
        trained.append((name, changes))

    on_nodes: Callable[..., Awaitable[None]] = on_a_node
    run = experiment.Trainer(
        dvc, "l2", 2, "valid_f1", lambda number: f"search-x-{number:03d}", set(), [{}], folder / "logs", on_nodes
    )
    return asyncio.run(run(4, {"train.lr": 0.1}, lambda *epoch: None)), trained


def test_what_a_node_trained_becomes_an_experiment_here(tmp_path: Path) -> None:
    assert restored(RestoringDvc(tmp_path), tmp_path) == (0.75, [("search-x-004", ("++experiments.l2.train.lr=0.1",))])


def test_what_a_node_trained_of_other_files_is_not_trained_here_unseen(tmp_path: Path) -> None:
    dvc = RestoringDvc(tmp_path)
    dvc.lines = ("Running stage 'train@l2-2':",)
    with pytest.raises(FailedError, match="search-x-004: a node has trained it, but not with the code and data that"):
        restored(dvc, tmp_path)


def test_the_job_of_a_trial_makes_what_its_changes_reach_and_starts_from_the_rest() -> None:
    graph = repro.parse_dag(
        '"code";\n"split";\n"cache";\n"configure";\n"features";\n"train@baseline-0";\n"predict@baseline-0";\n'
        '"code" -> "split";\n"code" -> "configure";\n"configure" -> "features";\n"cache" -> "features";\n'
        '"features" -> "train@baseline-0";\n"split" -> "train@baseline-0";\n'
        '"train@baseline-0" -> "predict@baseline-0";\n'
    )
    job = repro.job_from(graph, "configure", "train@baseline-0")
    assert (job.stages, job.run, job.experiment) == (STAGES, "baseline-0", "baseline")
    assert repro.inputs(graph, [job]) == ["cache", "code", "split"]


def test_a_node_changes_the_parameters_as_dvc_does(tmp_path: Path) -> None:
    study = small.study(tmp_path / "study")
    values = {"train.lr": 1e-05, "train.optimizer": "it's", "model.freeze.until": None, "augment.scale": [0.9, 1.1]}
    changes = experiment.changes("l2", values)
    job = node.NodeJob(
        stages=STAGES, changes=changes, name="search-x-001", repository="r", commit="c", ref="x", study="study",
        session="s", size=0, versions={},
    )  # fmt: skip
    node.change(node.NodeJob.from_json(job.to_json()).changes, study / "params.yaml")
    changed = files.read_yaml(study / "params.yaml")["experiments"]
    assert changed["l2"] == {
        "loss": {"l2": 0.001}, "train": {"lr": 1e-05, "optimizer": "it's"}, "model": {"freeze": {"until": None}},
        "augment": {"scale": [0.9, 1.1]},
    }  # fmt: skip
    assert job.states == "study/search-x-001"
    assert replace(job, changes=()).states == "study"


# what is refused


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setitem(ENGINES, "slurm", lambda: Machines(Channel(None, ""), (State.DONE, 1)))
    monkeypatch.setattr(cluster.preflight, "check", lambda *arguments: None)
    return Call("slurm", Resources())


def test_jobs_of_another_command_or_of_other_files_are_not_taken_over(
    paths: Paths, slurm: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.check(paths, slurm)
    session = a_session(paths, command="repro", jobs={"l2-0": Submitted(("train@l2-0",))})
    session.save()
    with pytest.raises(XraylabError) as refused:
        nodes.check(paths, slurm)
    assert str(refused.value) == (
        "the jobs of session 20260101-000000 have not been brought to an end: `xraylab repro --on slurm --attach`"
        " watches them, --cancel ends them"
    )
    replace(session, command="search").save()
    monkeypatch.setattr(snapshot, "is_of", lambda root, commit, paths: False)
    with pytest.raises(XraylabError) as refused:
        nodes.check(paths, slurm)
    assert str(refused.value) == (
        "the jobs of session 20260101-000000 were submitted from other files than are here now: bring those back, or "
        "`xraylab search --on slurm --cancel` ends the jobs; finished trials remain"
    )
    monkeypatch.setattr(snapshot, "is_of", lambda root, commit, paths: True)
    nodes.check(paths, slurm)
    with pytest.raises(XraylabError, match="`xraylab search --on slurm` goes on with them, --cancel ends them"):
        cluster.run(paths, slurm)
    with pytest.raises(XraylabError, match="`xraylab search --on slurm` goes on with them, --cancel ends them"):
        cluster.cancel(paths, slurm)


def test_trials_do_not_share_a_gpu_of_slurm(paths: Paths, slurm: Call) -> None:
    with pytest.raises(DataError, match=r"^SLURM starts and ends jobs that share a GPU together, and trials begin and"):
        nodes.check(paths, replace(slurm, resources=Resources(gpus=1, jobs_per_gpu=2)))


def test_without_jobs_there_are_none_to_cancel(paths: Paths, slurm: Call) -> None:
    with pytest.raises(MissingError, match="no jobs of this study are under way; `xraylab search --on slurm` submits"):
        cluster.cancel(paths, slurm, "search")


def test_flags_of_a_cluster_need_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for flags, message in {
        ("--time", "2"): "error: --time is for a cluster: add --on slurm or --on ray\n",
        ("--on", "slurm", "--ray", "address=x"): "error: --ray is not for --on slurm\n",
        ("--on", "slurm", "--slurm", "qos"): "error: --slurm qos: write --slurm KEY=VALUE\n",
    }.items():
        monkeypatch.setattr("sys.argv", ["xraylab", "search", *flags])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        assert capsys.readouterr().err == message
