"""What a stage that DVC runs refuses: inputs that are not what their stages wrote, whatever their times say."""

import os
import shutil
import threading
from collections.abc import Callable

import pytest
import recorded_study
from dvc.repo import Repo

from xraylab import dvc_lock
from xraylab.errors import DataError
from xraylab.integrity import lock
from xraylab.integrity.check import require_intact, require_outputs, require_run
from xraylab.paths import Paths

pytest_plugins = ["recorded_study"]

Runs = Callable[[Paths, str], None]
READ = {
    "code/train.txt": ("train@base-0", "a fingerprint of code", "code"),
    "data/raw/deep/d.png": ("index", "a file of the data set", "fetch"),
    "data/index.csv": ("split", "the list of images", "index"),
    "data/split/train_data.csv": ("train@l2-0", "the assignment of images to splits", "split"),
    "data/cache/images.npy": ("train@base-0", "decoded images", "cache"),
    "configs/base.yaml": ("train@base-0", "an experiment's configuration", "configure"),
    "models/l2/0/best.safetensors": ("predict@l2-0", "a trained run", "train@l2-0"),
    "predictions/l2/0.csv": ("evaluate", "a run's predictions", "predict@l2-0"),
    "data/source.json": ("fetch", "the record of the source", "source"),
}


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs the check as the stage of this name."""

    def run(recorded: Paths, name: str) -> None:
        monkeypatch.setenv("DVC_STAGE", name)
        require_intact(recorded, name.rpartition(":")[2].partition("@")[0])

    return run


@pytest.mark.parametrize("path", READ)
def test_a_flipped_bit_with_the_time_kept_stops_the_stage_that_reads_it(
    recorded: Paths, running: Runs, path: str
) -> None:
    stage, kind, wrote = READ[path]
    running(recorded, stage)
    recorded_study.flip(recorded.root / path)
    with pytest.raises(DataError) as error:
        running(recorded, stage)
    out = next(out.path for out in lock.read(recorded, lock.stages_of(recorded)).touching(path))
    assert str(error.value).startswith(
        f"{path} ({kind}) was damaged or changed since the stage {wrote} wrote {out}; the stage {stage} was not run. "
    )


def test_other_stages_go_on(recorded: Paths, running: Runs) -> None:
    recorded_study.flip(recorded.model("base", 0) / "best.safetensors")
    for stage in ("predict@l2-0", "train@base-0", "cache"):
        running(recorded, stage)
    recorded_study.flip(recorded.config("l2"))
    running(recorded, "train@base-0")


def test_after_the_refusal_dvc_sees_the_damage_and_makes_it_good(recorded: Paths, running: Runs) -> None:
    weights = recorded.model("base", 0) / "best.safetensors"
    before = weights.read_bytes()
    with recorded_study.working_in(recorded.root), Repo() as repo:
        assert repo.status() == {}
        recorded_study.flip(weights)
        assert repo.status() == {}
    with pytest.raises(
        DataError, match="`dvc checkout --force models/base/0` brings it back, `dvc repro train@base-0`"
    ):
        running(recorded, "predict@base-0")
    with recorded_study.working_in(recorded.root), Repo() as repo:
        assert "train@base-0" in repo.status()
        repo.checkout(["models/base/0"], force=True)
    assert weights.read_bytes() == before
    running(recorded, "predict@base-0")


def test_files_that_are_gone_or_were_added_are_named(recorded: Paths, running: Runs) -> None:
    (recorded.split / "train_data.csv").unlink()
    (recorded.split / "more.csv").write_text("id\n")
    with pytest.raises(DataError) as error:
        running(recorded, "train@base-0")
    assert str(error.value).startswith("data/split/more.csv (the assignment of images to splits) was added since")
    assert error.value.problems == ("data/split/train_data.csv (the assignment of images to splits): absent",)


def test_without_the_list_in_the_cache_the_folder_is_named(recorded: Paths, running: Runs) -> None:
    shutil.rmtree(recorded.root / ".dvc/cache")
    running(recorded, "train@base-0")
    recorded_study.flip(recorded.split / "train_data.csv")
    with pytest.raises(DataError) as error:
        running(recorded, "train@base-0")
    message = str(error.value)
    assert message.startswith("data/split (the assignment of images to splits) was damaged or changed since the stage")
    assert "`xraylab doctor --deep`" in message


def test_a_stage_in_another_folder_than_dvc_s_is_recognized(recorded: Paths, running: Runs) -> None:
    recorded_study.flip(recorded.index)
    with pytest.raises(DataError, match="the stage split was not run"):
        running(recorded, "../dvc.yaml:split")


def test_a_stage_that_is_run_by_hand_is_not_checked(recorded: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded_study.flip(recorded.index)
    require_intact(recorded, "split")
    monkeypatch.setenv("DVC_STAGE", "report")  # a stage of the user's that calls this one
    require_intact(recorded, "split")


def test_a_first_run_has_nothing_to_compare_with(recorded: Paths, running: Runs) -> None:
    recorded.lock.unlink()
    running(recorded, "train@base-0")


def test_what_a_removed_experiment_left_is_not_looked_at(recorded: Paths, running: Runs) -> None:
    text = (recorded.root / "params.yaml").read_text()
    (recorded.root / "params.yaml").write_text(text.replace("{base: {}, l2: {}}", "{base: {}}"))
    recorded_study.flip(recorded.prediction("l2", 0))
    running(recorded, "evaluate")


def test_an_entry_that_dvc_is_writing_is_waited_for(
    recorded: Paths, running: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC writes dvc.lock in place: cut between two entries it is whole YAML."""
    monkeypatch.setattr(dvc_lock, "PAUSE", 0.25)
    text = recorded.lock.read_text()
    recorded_study.flip(recorded.index)
    recorded.lock.write_text(text[: text.index("  index:")])
    timer = threading.Timer(0.1, recorded.lock.write_text, [text])
    timer.start()
    with pytest.raises(DataError, match="the list of images"):
        running(recorded, "split")
    timer.join()


def test_an_own_cache_folder_of_the_configuration_is_used(recorded: Paths, running: Runs) -> None:
    """As in `dvc exp run --temp`, whose checkout has the cache of the study in config.local."""
    elsewhere = recorded.root.parent / "shared"
    shutil.move(recorded.root / ".dvc/cache", elsewhere)
    (recorded.root / ".dvc/config.local").write_text(f"[cache]\n    dir = {elsewhere}\n")
    recorded_study.flip(recorded.split / "test_data.csv")
    with pytest.raises(DataError, match=r"^data/split/test_data.csv"):
        running(recorded, "train@base-0")


def test_a_run_is_checked_before_it_is_used(recorded: Paths) -> None:
    require_run(recorded, "base/0")
    recorded_study.flip(recorded.model("base", 0) / "best.safetensors")
    require_run(recorded, "l2")
    for name in ("base/0", "base"):
        with pytest.raises(
            DataError, match=r"^models/base/0/best.safetensors \(a trained run\) was damaged or changed"
        ):
            require_run(recorded, name)


def test_a_run_that_was_trained_by_hand_is_read_as_it_is(recorded: Paths) -> None:
    shutil.copytree(recorded.model("base", 0), recorded.model("base", 1))
    recorded_study.flip(recorded.model("base", 1) / "best.safetensors")
    require_run(recorded, "base/1")
    require_run(recorded, "base/7")
    recorded.lock.unlink()
    recorded_study.flip(recorded.model("base", 0) / "best.safetensors")
    require_run(recorded, "base/0")


def test_results_are_checked_alike(recorded: Paths) -> None:
    require_outputs(recorded, [recorded.comparison, recorded.evaluation])
    os.truncate(recorded.comparison, 3)
    with pytest.raises(DataError, match=r"^reports/comparison.csv \(results\) was damaged or changed"):
        require_outputs(recorded, [recorded.comparison])
