"""The largest batch: which sizes are tried, what a trial does, and what is said."""

import os
import shutil
from pathlib import Path

import pytest
import small
import tiny
from conftest import Loaded, load

from xraylab import files
from xraylab.errors import MissingError, TrainingError
from xraylab.model import memory, networks
from xraylab.params.train import Train
from xraylab.stages import configure
from xraylab.train import fit_batch
from xraylab.train.fit_batch import GIB, Trial
from xraylab.train.run import TrainingRun

KEYS = {"batch_size": "train.batch_size", "grad_accum": "experiments.small.train.grad_accum"}


def tried(room: int, epoch: int) -> dict[int, bool]:
    """The sizes that are tried, in order, where `room` images fit, and whether they do."""

    def measure(size: int) -> Trial:
        return Trial(size, GIB if size <= room else None, 1.0, "a machine", epoch)

    return {trial.batch_size: trial.peak is not None for trial in fit_batch.trials(measure, "1 GiB")}


def test_sizes_are_doubled_and_then_halved_between() -> None:
    assert list(tried(100, 5000)) == [2, 4, 8, 16, 32, 64, 128, 96, 112, 104, 100]
    assert list(tried(3, 5000)) == [2, 4, 3]
    assert list(tried(5000, 41)) == [2, 4, 8, 16, 32, 41]
    assert list(tried(35, 41)) == [2, 4, 8, 16, 32, 41, 36, 34]


@pytest.mark.parametrize("room", [2, 5, 31, 100, 1000, 4095])
def test_the_largest_is_found_to_within_a_sixteenth(room: int) -> None:
    largest = max(size for size, fits in tried(room, 10_000).items() if fits)
    assert largest <= room < largest + max(2, largest / 16 + 1)


def test_where_nothing_fits_that_is_an_error() -> None:
    with pytest.raises(TrainingError) as caught:
        tried(1, 41)
    assert str(caught.value) == (
        "not even a batch of 2 images fits in 1 GiB: set train.grad_checkpointing to true, model.img_size lower, or "
        "take a smaller model.arch"
    )


def test_the_table_and_the_lines_to_type() -> None:
    found = [Trial(2, GIB, 20.25, "a machine", 500), Trial(3, 5 * GIB // 4, 21.0, "", 500), Trial(4, None)]
    assert fit_batch.table(found) == [
        "a machine",
        "batch size   peak memory   images/s",
        "         2       1.00 GiB       20.2",
        "         3       1.25 GiB       21.0",
        "         4   does not fit",
    ]
    assert fit_batch.advice(found, train(32, 2), KEYS) == [
        "largest that fits: 3, to within a sixteenth",
        "    dvc exp run -S train.batch_size=3",
        "for steps of 64 images, as now:",
        "    dvc exp run -S train.batch_size=2 -S experiments.small.train.grad_accum=32",
    ]
    whole = [Trial(41, GIB, 1.0, "a machine", 41)]
    assert fit_batch.advice(whole, train(8, 4), KEYS)[2:] == [
        "for steps of 32 images, as now:",
        "    dvc exp run -S train.batch_size=32 -S experiments.small.train.grad_accum=1",
    ]
    assert fit_batch.advice(whole, train(32, 1), KEYS) == [
        "largest that fits: 41, which is an epoch",
        "    dvc exp run -S train.batch_size=41",
    ]


def train(batch_size: int, grad_accum: int) -> Train:
    tree = files.read_yaml(small.REPOSITORY / "params.yaml")["train"]
    return Train.model_validate({**tree, "batch_size": batch_size, "grad_accum": grad_accum})


@pytest.fixture(scope="module")
def study(noise: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A study of noise images that is configured, with a tiny network's weights to begin with."""
    folder = tmp_path_factory.mktemp("fit_batch")
    root = shutil.copytree(noise, folder / "study")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)
        begin = tiny.pretrained(folder / "start.safetensors")

    def change(tree: small.Tree) -> None:
        begin(tree)
        tree["study"]["baseline"] = "plain"
        tree["experiments"] = {
            "plain": {"train": {"compile": False, "lr": "find", "ema_decay": 0.9}},
            "phases": {
                "train": {"grad_accum": 3, "phases": [{"epochs": 1}, {"frozen": True, "epochs": 1, "optimizer": "sgd"}]}
            },
        }

    small.edit(root, change)
    configure.run(*load(root))
    return load(root)


@pytest.mark.parametrize(("experiment", "accumulated"), [("plain", 1), ("phases", 3)])
def test_a_trial_takes_whole_steps_of_everything_that_trains(
    experiment: str, accumulated: int, study: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[tuple[int, int]] = []

    class Watched(fit_batch._Steps):
        def after_batch(self) -> None:
            states.append((len(self.yb[0]), len(self.opt.state_dict()["state"])))
            super().after_batch()

    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)
    monkeypatch.setattr(fit_batch, "_Steps", Watched)
    before = {path: path.stat().st_mtime_ns for path in study[1].root.rglob("*")}
    run = fit_batch.with_batch_size(TrainingRun.load(*study, experiment, 0), 4)
    trial = fit_batch.measured(run)
    parameters = len(list(tiny.Tiny().parameters()))
    assert states == [
        (4, 0 if n < accumulated else parameters) for n in range(1, accumulated + 1 + fit_batch.TIMED + 1)
    ]
    assert trial.images_per_second > 0
    assert (trial.batch_size, trial.hardware) == (4, str(run.hardware))
    assert trial.peak is not None
    assert trial.peak > 50e6
    assert {path: path.stat().st_mtime_ns for path in study[1].root.rglob("*")} == before


def test_an_experiment_that_is_not_there_is_named(study: Loaded) -> None:
    with pytest.raises(MissingError, match=r"^params.yaml has no experiment 'plane'; there is plain, phases$"):
        fit_batch.run(*study, "plane", None)


def test_what_is_left_is_what_the_tightest_group_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's or a job's limit; files in memory count as free."""
    job = tmp_path / "slurm" / "job_1"
    job.mkdir(parents=True)
    for folder, (most, used, cached) in {job: ("4000", 1000, 500), tmp_path / "slurm": ("max", 9, 9)}.items():
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 7\ninactive_file {cached}\n")
    (tmp_path / "cgroup").write_text("0::/slurm/job_1\n")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "GROUP_FILES", tmp_path)
    assert memory.available() == 3500
    older = tmp_path / "memory" / "docker"
    older.mkdir(parents=True)
    (older / "memory.limit_in_bytes").write_text("3000\n")
    (older / "memory.usage_in_bytes").write_text("1000\n")
    (older / "memory.stat").write_text("total_inactive_file 100\n")
    (tmp_path / "cgroup").write_text("4:memory:/docker\n3:cpuset:/docker\n0::/slurm/job_1\n")
    assert memory.available() == 2100
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "none")
    assert memory.available() > 3500


@pytest.mark.slow
def test_trials_in_processes_of_their_own_fit_or_do_not(study: Loaded, tmp_path: Path) -> None:
    """The imports alone take more than 0.2 GiB; this process's own memory does not count."""
    root = shutil.copytree(study[1].root, tmp_path / "study")
    small.edit(root, lambda tree: tree["model"].update(pretrained="none"))
    configure.run(*load(root))
    with pytest.raises(TrainingError, match=r"^not even a batch of 2 images fits in 0\.2 GiB: "):
        fit_batch.run(*load(root), "plain", 0.2)
    held = bytearray(os.urandom(1024)) * (2 * 2**20)  # 2 GiB
    trial = fit_batch._in_process(*load(root), "plain", 0, size=4, limit=None, available=int(1.5 * GIB))
    assert len(held) == 2 * GIB
    assert trial.batch_size == 4
    assert trial.peak is not None
    assert 0.2 * GIB < trial.peak < 1.5 * GIB
