"""The channel through an S3 server: what caller and nodes tell one another, and resume states."""

from pathlib import Path

import pytest

pytest.importorskip("moto.server")
pytest.importorskip("dvc_s3")

from s3_server import S3Server

from xraylab.errors import XraylabError
from xraylab.jobs.channel import Channel
from xraylab.jobs.resume_state import ResumeState

pytestmark = pytest.mark.cluster
RUN = f"baseline-0-{'a' * 16}"


@pytest.fixture(autouse=True)
def _credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def clone(s3: S3Server, tmp_path: Path) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(s3.config(tmp_path.name))
    return tmp_path


def test_what_one_writes_the_other_reads(s3: S3Server, clone: Path) -> None:
    node, caller = Channel.open(clone, "study/session"), Channel.open(clone, "study/session")
    assert caller.read("baseline-0/log.txt") is None
    assert caller.read_json("baseline-0/report.json") is None
    assert caller.names("baseline-0") == []
    node.write('{"epoch": 1}', "baseline-0/report.json")
    assert caller.read_json("baseline-0/report.json") == {"epoch": 1}
    node.write('{"epoch": 2}', "baseline-0/report.json")
    node.write("größer\n", "baseline-0/log.txt")
    assert caller.read_json("baseline-0/report.json") == {"epoch": 2}
    assert caller.read("baseline-0/log.txt") == "größer\n"
    assert caller.names("baseline-0") == ["log.txt", "report.json"]
    assert caller.names("") == ["baseline-0"]
    assert s3.keys(f"{clone.name}/xraylab/study/session") == ["baseline-0/log.txt", "baseline-0/report.json"]
    caller.remove(["baseline-0", "not-there"])
    assert node.names("baseline-0") == []
    assert s3.keys(clone.name) == []


def test_a_resume_state_reaches_another_node_whole(s3: S3Server, clone: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here/runs", tmp_path / "there/runs"
    (here / RUN).mkdir(parents=True)
    sender = ResumeState(Channel.open(clone, "study"), here, "baseline-0")
    assert sender.send() == []
    for epoch in (1, 2, 3):
        (here / RUN / f"epoch-{epoch}.safetensors").write_bytes(bytes([epoch]) * 100_000)
        (here / RUN / "new").write_bytes(b"state %d" % epoch)
        (here / RUN / "new").replace(here / RUN / "state.json")
        assert sender.send() == [RUN]
        assert sender.send() == []
    assert ResumeState(Channel.open(clone, "study"), there, "l2-0").fetch() == []
    receiver = ResumeState(Channel.open(clone, "study"), there, "baseline-0")
    assert receiver.fetch() == [RUN]
    assert sorted(path.name for path in (there / RUN).iterdir()) == [
        "epoch-1.safetensors", "epoch-2.safetensors", "epoch-3.safetensors", "state.json",
    ]  # fmt: skip
    assert all((there / RUN / path.name).read_bytes() == path.read_bytes() for path in (here / RUN).iterdir())
    # the newest state is torn: the one before it is taken up
    manifests = sorted(key for key in s3.keys(f"{clone.name}/xraylab/study/runs/{RUN}") if key.endswith(".json"))
    assert manifests == ["2.json", "3.json"]
    Channel.open(clone, "study").write("{", f"runs/{RUN}/3.json")
    assert receiver.fetch() == [RUN]
    assert (there / RUN / "state.json").read_bytes() == b"state 2"
    sender.remove()
    assert s3.keys(clone.name) == []


def test_a_remote_that_is_not_there_is_named(clone: Path) -> None:
    (clone / ".dvc/config").write_text("")
    with pytest.raises(XraylabError, match=f"DVC's remote cannot be used from {clone}"):
        Channel.open(clone, "study")
