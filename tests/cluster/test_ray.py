"""The engine for Ray, on a real one: two nodes of one core each, one of which says that it has a GPU."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small
from cluster_study import PATIENCE
from conftest import load, run
from ray_cluster import RayCluster

from xraylab import cli, shards
from xraylab.errors import DataError, XraylabError
from xraylab.jobs.engines import ENGINES, ray
from xraylab.jobs.engines.engine import FINAL, Command, Engine, Resources, State, Status
from xraylab.stages import fetch, index, source

pytest.importorskip("ray")
pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("ray")]


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
    images = small.two_classes(tmp_path / "images")
    study = small.study(tmp_path / "study", small.use(images, ["Healthy", "TB"], "TB"))
    code, size = study / "src/xraylab/shards.py", f"SHARD = {shards.SHARD}\n"
    assert size in code.read_text()
    code.write_text(code.read_text().replace(size, "SHARD = 40\n"))  # of 60 images: two shards, also for the jobs
    monkeypatch.setattr(shards, "SHARD", 40)
    loaded = _, paths = run(load(study), source, fetch)
    monkeypatch.chdir(study)
    command = ["xraylab", "shards", "index", "--on", "ray", "--parts", "2", "--option", f"address={cluster.address}"]
    monkeypatch.setattr(sys, "argv", command)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert {line.partition(" on ")[0] for line in capsys.readouterr().out.splitlines()} == {
        "index-1-of-2: done", "index-2-of-2: done", "all shards are finished: `dvc repro index` puts them together",
    }  # fmt: skip
    made = [path.stat().st_mtime_ns for path in sorted((paths.shards / "index").iterdir())]
    assert len(made) == 4
    run(loaded, index)
    assert [path.stat().st_mtime_ns for path in sorted((paths.shards / "index").iterdir())] == made
    joined = paths.index.read_bytes()
    monkeypatch.setattr(shards, "SHARD", 10_000)
    run(loaded, index)
    assert paths.index.read_bytes() == joined
