"""Ray, a real one: its engine, on two nodes of one core each, one of which says that it has a GPU, and a study."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytest.importorskip("moto.server")
pytest.importorskip("dvc_s3")

import shards_on
import small
import under_dvc
from cluster_study import PATIENCE, finish, results, with_git_remote
from ray_cluster import RayCluster
from s3_server import S3Server

from xraylab import tables
from xraylab.errors import DataError, XraylabError
from xraylab.jobs.engines import ENGINES, ray
from xraylab.jobs.engines.engine import FINAL, Command, Engine, Resources, State, Status
from xraylab.jobs.experiments import rows
from xraylab.jobs.session import Session

pytestmark = pytest.mark.cluster
EPOCHS = 12  # long enough to be killed within
ENDLESS = 10_000  # more than anybody waits for


@pytest.fixture
def engine() -> Engine:
    return ENGINES["ray"]()


@pytest.fixture
def submit(cluster: RayCluster, engine: Engine, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Submits shell scripts; what still runs at the end is cancelled."""
    submitted: list[str] = []

    def submit(*scripts: str, **resources: object) -> list[str]:
        commands = [Command(f"job{n}", ("sh", "-c", script), {"WORD": f"word {n}"}) for n, script in enumerate(scripts)]
        given = Resources(options={"address": cluster.address}, **resources)
        ids = engine.submit(commands, given, tmp_path / "logs")
        submitted.extend(ids)
        return ids

    yield submit
    engine.cancel(submitted)


def until(engine: Engine, ids: list[str], ended: Callable[[Status], bool], seconds: float = 180) -> list[Status]:
    end = time.monotonic() + seconds
    while not all(map(ended, (statuses := engine.status(ids)).values())):
        assert time.monotonic() < end, statuses
        time.sleep(0.5)
    return [statuses[id_] for id_ in ids]


def final(status: Status) -> bool:
    return status.state in FINAL


def running(status: Status) -> bool:
    return status.state == State.RUNNING


def test_jobs_run_on_both_nodes_and_any_process_may_ask_for_them(
    cluster: RayCluster, submit: Callable[..., list[str]], tmp_path: Path
) -> None:
    meet = f"touch {tmp_path}/$0; until [ -e {tmp_path}/a ] && [ -e {tmp_path}/b ]; do sleep 0.1; done"
    ids = submit(meet.replace("$0", "a") + '; echo "$WORD"', meet.replace("$0", "b") + "; echo two; exit 3")
    other = ENGINES["ray"]()
    done, failed = until(other, ids, final)
    assert (done.state, done.reason) == (State.DONE, "")
    assert (failed.state, failed.reason) == (State.FAILED, "exit code 3")
    assert {done.node, failed.node} == {"n1", "n2"}
    assert [other.log(id_, tmp_path / "logs") for id_ in ids] == ["word 0", "two"]
    assert len(list((tmp_path / "logs").glob("job0-*.log"))) == 1


def test_two_jobs_share_a_gpu(submit: Callable[..., list[str]], engine: Engine, tmp_path: Path) -> None:
    meet = f"touch {tmp_path}/$0; until [ -e {tmp_path}/a ] && [ -e {tmp_path}/b ]; do sleep 0.1; done; "
    scripts = [meet.replace("$0", name) + "echo $CUDA_VISIBLE_DEVICES" for name in "ab"]
    # with a core each they would not fit onto the node
    ids = submit(*scripts, gpus=1, jobs_per_gpu=2, cpus=0)
    assert {status.node for status in until(engine, ids, final)} == {"n2"}
    assert [engine.log(id_, tmp_path) for id_ in ids] == ["0", "0"]


def test_a_job_past_its_time_limit_is_ended(submit: Callable[..., list[str]], engine: Engine) -> None:
    [status] = until(engine, submit("sleep 60", minutes=0.05), final)
    assert (status.state, status.reason) == (State.TIMEOUT, "ended at its limit of 0.05 min")


def test_a_job_that_ends_within_its_limit_keeps_its_exit_code(submit: Callable[..., list[str]], engine: Engine) -> None:
    states = until(engine, submit("exit 0", "exit 5", "kill -KILL $$", minutes=1), final)
    assert [(each.state, each.reason) for each in states] == [
        (State.DONE, ""),
        (State.FAILED, "exit code 5"),
        (State.FAILED, "exit code 137"),
    ]


def test_a_cancelled_job_has_time_to_end_in_good_order(
    submit: Callable[..., list[str]], engine: Engine, tmp_path: Path
) -> None:
    # longer than the three seconds after which Ray kills by itself
    script = f"trap 'sleep 4; touch {tmp_path}/ended; exit 1' TERM; touch {tmp_path}/on; while :; do sleep 0.2; done"
    ids = submit(script)
    until(engine, ids, lambda status: (tmp_path / "on").exists())
    engine.cancel(ids)
    [status] = until(engine, ids, final)
    assert status.state == State.CANCELLED
    assert (tmp_path / "ended").exists()


def test_jobs_that_wait_are_cancelled_at_once_and_others_wait_on(
    submit: Callable[..., list[str]], engine: Engine, tmp_path: Path
) -> None:
    blocks = f"until [ -e {tmp_path}/free ]; do sleep 0.1; done"
    blocking = submit(blocks, blocks)
    until(engine, blocking, running)
    cancelled, waiting = submit(f"sleep 5; touch {tmp_path}/ran", "echo at last")
    engine.cancel([cancelled])
    assert ENGINES["ray"]().status([cancelled])[cancelled].state == State.CANCELLED
    end = time.monotonic() + PATIENCE + 4  # by then Ray itself has given both up
    while time.monotonic() < end:
        states = {id_: status.state for id_, status in engine.status([cancelled, waiting]).items()}
        assert states == {cancelled: State.CANCELLED, waiting: State.PENDING}
        time.sleep(0.5)
    assert waiting.rpartition("/")[2] + ".2" in _names(engine, waiting)
    (tmp_path / "free").touch()
    [done] = until(engine, [waiting], final)
    assert done.state == State.DONE
    assert engine.log(waiting, tmp_path / "logs") == "at last"
    assert engine.status([cancelled])[cancelled].state == State.CANCELLED
    assert not (tmp_path / "ran").exists()


def _names(engine: Engine, id_: str) -> set[str]:
    """What Ray itself calls its jobs."""
    with ray._cluster(id_.rpartition("/")[0]) as client:
        return {job.submission_id for job in client.list_jobs()}


def test_the_jobs_of_a_dead_node_are_lost_and_what_they_printed_is_kept(
    cluster: RayCluster, submit: Callable[..., list[str]], engine: Engine, tmp_path: Path
) -> None:
    cluster.add("n3", '--resources={"spot": 1}')
    given = Resources(options={"address": cluster.address, "resources": '{"spot": 1}'})
    engine.check(given)
    [lost] = engine.submit([Command("lost", ("sh", "-c", "echo begun; sleep 60"))], given, tmp_path)
    other = submit(f"until [ -e {tmp_path}/free ]; do sleep 0.1; done")
    until(engine, [lost, *other], running)
    while engine.log(lost, tmp_path) != "begun":
        time.sleep(0.1)
    cluster.kill("n3")
    [status] = until(engine, [lost], final)
    assert (status.state, status.node) == (State.LOST, "n3")
    assert "node" in status.reason
    assert engine.log(lost, tmp_path) == "begun"
    (tmp_path / "free").touch()
    assert [each.state for each in until(engine, other, final)] == [State.DONE]


def test_a_job_that_ray_does_not_know_is_lost(cluster: RayCluster, engine: Engine, tmp_path: Path) -> None:
    id_ = f"{cluster.address}/train-0123"
    assert engine.status([id_])[id_] == Status(
        State.LOST, None, "Ray knows it no longer: was the cluster started anew?"
    )
    assert engine.log(id_, tmp_path) == ""
    engine.cancel([id_])


def test_what_no_node_has_is_refused_and_an_autoscaler_may_bring_it(cluster: RayCluster, engine: Engine) -> None:
    given = {"address": cluster.address}
    engine.check(Resources(gpus=1, jobs_per_gpu=4, options=given))
    with pytest.raises(DataError) as refused:
        engine.check(Resources(gpus=2, cpus=1, options=given))
    assert refused.value.headline.startswith("no node of the Ray cluster has what a job needs (CPU 1, GPU 2); ask for")
    assert sorted(problem.split(":")[0] for problem in refused.value.problems) == ["n1", "n2"]
    assert any("CPU 1, GPU 1" in problem for problem in refused.value.problems)
    engine.check(Resources(gpus=2, options=given | {"autoscaler": "yes"}))


def test_the_address_given_wins_over_that_of_the_environment(
    cluster: RayCluster, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    engine.check(Resources(options={"address": cluster.address}))
    with pytest.raises(XraylabError, match=r"the Ray cluster at http://127.0.0.1:9 gave no answer.*--ray address="):
        engine.check(Resources())
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    engine.check(Resources())


def test_two_nodes_share_the_shards_of_an_index(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shards_on.two_nodes("ray", ["--option", f"address={cluster.address}"], tmp_path, monkeypatch, capsys)


@pytest.fixture
def study(two_experiments: Path, s3: S3Server, tmp_path: Path) -> Path:
    """Two experiments with a git remote and a folder of the bucket, whose configs are left to the caller."""
    study = shutil.copytree(two_experiments, tmp_path / "study")
    small.edit(study, lambda tree: tree["train"].update(epochs=EPOCHS))
    (study / ".dvc/config").write_text(s3.config("study"))
    return with_git_remote(study)


def call(cluster: RayCluster, s3: S3Server, study: Path, command: str, *flags: str) -> "subprocess.Popen[str]":
    """`xraylab COMMAND --on ray` on its way."""
    return subprocess.Popen(
        [sys.executable, "-m", "xraylab", command, "--on", "ray", "--ray", f"address={cluster.address}", *flags],
        cwd=study, env=under_dvc.environment(OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1", **s3.environment), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _sent_from(node: str, study: Path, s3: S3Server) -> bool:
    """Whether a run of this node has sent a resume state."""
    sessions = [json.loads(path.read_text()) for path in study.glob(".xraylab/jobs/*/session.json")]
    names = [name for session in sessions for name, job in session["jobs"].items() if job["node"] == node]
    return any(f"/runs/{name}-" in key and key.endswith(".json") for key in s3.keys("study/xraylab") for name in names)


def test_a_run_whose_node_is_killed_goes_on_elsewhere_to_the_same_bits(
    cluster: RayCluster, s3: S3Server, study: Path, tmp_path: Path
) -> None:
    local = shutil.copytree(study, tmp_path / "local")
    caller = call(cluster, s3, study, "repro")
    try:
        # one run on each node; that of n2 has sent a state
        under_dvc.wait_for(lambda: caller.poll() is not None or _sent_from("n2", study, s3), seconds=300)
        cluster.kill("n2")
        under_dvc.succeed(local, "repro", "predict", OMP_NUM_THREADS="1", **s3.environment)
        output = finish(caller)
    finally:
        caller.kill()
    assert under_dvc.ran(output) == ["configure", "features", "evaluate", "explain", "report"]
    assert results(study) == results(local)
    assert len(results(local)) == 8
    logs = [path.read_text() for path in study.glob(".xraylab/jobs/*/logs/*.log")]
    assert len(logs) == 2
    [again] = [log for log in logs if "where its last finished epoch ended" in log]
    assert f" epoch 1/{EPOCHS}" not in again
    assert not s3.keys("study/xraylab")  # nothing of the session stays on the remote


def test_jobs_whose_caller_has_ended_are_watched_again_and_cancelled(
    cluster: RayCluster, s3: S3Server, study: Path, engine: Engine
) -> None:
    small.edit(study, lambda tree: tree["train"].update(epochs=ENDLESS))
    small.commit(study)
    caller = call(cluster, s3, study, "repro")
    under_dvc.wait_for(lambda: caller.poll() is not None or len(_ids(study, "running")) == 2, seconds=300)
    caller.send_signal(signal.SIGTERM)  # Ctrl-C may be ignored where tests run in the background
    way_back = "`xraylab repro --on ray --attach` watches them, --cancel ends them"
    assert way_back in finish(caller, 128 + signal.SIGTERM)
    assert way_back in finish(call(cluster, s3, study, "repro"), 1)
    ids = _ids(study, "running")
    assert all(running(status) for status in engine.status(ids).values())

    again = call(cluster, s3, study, "repro", "--attach")
    assert again.stdout is not None
    lines = (line for line in again.stdout if " epoch " in line)
    assert f"/{ENDLESS}" in next(lines)  # what the node told the channel, in the table's plain lines
    again.send_signal(signal.SIGTERM)
    assert way_back in finish(again, 128 + signal.SIGTERM)
    assert "cancelled 2 jobs of session" in finish(call(cluster, s3, study, "repro", "--cancel"))
    assert {status.state for status in until(engine, ids, final)} == {State.CANCELLED}
    assert "no jobs of this study are under way" in finish(call(cluster, s3, study, "repro", "--attach"), 1)


def _ids(study: Path, state: str) -> list[str]:
    """The jobs of all sessions, as the engine calls them, that the caller has seen in a state."""
    sessions = [json.loads(path.read_text()) for path in study.glob(".xraylab/jobs/*/session.json")]
    return [job["id"] for session in sessions for job in session["jobs"].values() if job["state"] == state]


def test_the_trials_of_a_search_are_jobs_of_both_nodes(cluster: RayCluster, s3: S3Server, study: Path) -> None:
    pytest.importorskip("optuna")

    def change(tree: small.Tree) -> None:
        tree["train"].update(epochs=2)
        tree["search"].update(trials=2, sampler="random", seed=2, space={"train.lr": [0.001, 0.002]}, prune=False)

    small.edit(study, change)
    small.commit(study)
    output = finish(call(cluster, s3, study, "search", "--jobs", "2"))
    table = tables.read(study / "reports/search/trials.csv")
    assert list(table["state"]) == ["finished"] * 2
    assert "train@baseline-0" not in under_dvc.ran(output)  # nodes train, dvc here restores
    [session] = [Session.load(path.parent) for path in study.glob(".xraylab/jobs/*/session.json")]
    assert {name: job.attempts for name, job in session.jobs.items()} == dict.fromkeys(table["trial"], 1)
    assert {job.node for job in session.jobs.values()} == {"n1", "n2"}
    versions = json.loads(under_dvc.succeed(study, "exp", "show", "--json", **s3.environment).partition("\n")[0])
    trained = {row.version: row.value for row in rows(versions) if row.version.startswith("search-")}
    assert trained == {
        name: pytest.approx(value, abs=1e-4)
        for name, value in zip(table["trial"], table["value"].astype(float), strict=True)
    }
    assert not [key for key in s3.keys("study/xraylab") if f"/{session.name}/" in key]
