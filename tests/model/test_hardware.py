"""The device, the precision and the memory that a machine has, and what is done where it lacks one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fits
import numpy as np
import pytest
import small
import torch
from conftest import Loaded
from fastai.callback.core import Callback
from fastai.callback.training import GradientClip
from runs import Killed, kill_after, model_json, outcome
from tiny import Tiny
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from typer.testing import CliRunner

from xraylab import cli, files, tables
from xraylab.data import gpu_cache
from xraylab.errors import TrainingError
from xraylab.model import hardware, memory, networks, optimizers
from xraylab.model.hardware import Hardware
from xraylab.predict import checkpoints
from xraylab.predict.checkpoints import TrainedModel
from xraylab.stages import predict, train
from xraylab.train.averaging import EMA
from xraylab.train.learner import build_learner

FP16 = Hardware("cpu", "AVX512", "float16", threads=1, torch="2")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(hardware, "_unused", lambda: None)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes torch say that there is a GPU with such precisions in hardware."""
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision

    def make(bfloat16: bool, capability: tuple[int, int]) -> None:
        monkeypatch.setattr(hardware, "_device", lambda: ("cuda", None))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
        monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: bfloat16)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)

    yield make
    torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: major <= 13)


def processor(monkeypatch: pytest.MonkeyPatch, amx: bool, avx512_bf16: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "chosen"),
    [(True, True, "bfloat16"), (False, True, "bfloat16"), (False, False, "float32")],
)
def test_a_processor_that_computes_bfloat16_does(
    amx: bool, avx512_bf16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, amx, avx512_bf16)
    assert hardware.choose("auto").precision == chosen
    assert hardware.choose("float32").precision == "float32"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_a_named_precision_is_the_one_that_is_computed(
    precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, amx=False, avx512_bf16=False)
    with hardware.choose(precision).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize(
    ("bfloat16", "capability", "chosen", "refused"),
    [(True, (9, 0), "bfloat16", []), (False, (7, 5), "float16", ["bfloat16", "tf32"]),
     (False, (6, 1), "float32", ["bfloat16", "float16", "tf32"])],
)  # fmt: skip
def test_a_gpu_computes_what_it_has(
    bfloat16: bool, capability: tuple[int, int], chosen: str, refused: list[str], gpu: Callable[..., None]
) -> None:
    gpu(bfloat16, capability)
    assert hardware.choose("auto").precision == chosen
    for precision in refused:
        with pytest.raises(TrainingError) as caught:
            hardware.choose(precision)
        assert str(caught.value) == f"train.precision: this GPU has no {precision}; set it to auto or float32"


def test_float32_on_a_gpu_is_tf32_only_where_that_is_asked(gpu: Callable[..., None]) -> None:
    gpu(True, (9, 0))
    for precision, torch_says, line in (
        ("tf32", "tf32", "NVIDIA H200, float32, TF32 on, 1 thread"),
        ("float32", "ieee", "NVIDIA H200, float32, TF32 off, 1 thread"),
        ("auto", "ieee", "NVIDIA H200, bfloat16, TF32 off, 1 thread"),
    ):
        machine = hardware.choose(precision)
        assert torch.backends.cuda.matmul.fp32_precision == torch_says
        assert torch.backends.cudnn.conv.fp32_precision == torch_says
        assert machine.record()["precision"] == ("bfloat16" if precision == "auto" else precision)
        assert str(machine).replace(f"{machine.threads} threads", "1 thread") == line


@pytest.mark.usefixtures("no_gpu")
def test_tf32_is_no_precision_of_a_processor() -> None:
    with pytest.raises(TrainingError, match=r"^train\.precision: this CPU has no tf32; set it to auto or float32$"):
        hardware.choose("tf32")


@pytest.mark.usefixtures("apple")
def test_apples_gpu_computes_float32_unless_told_otherwise() -> None:
    machine = hardware.choose("auto")
    assert (machine.device, machine.precision) == ("mps", "float32")
    assert str(machine).startswith("Apple GPU, float32, ")
    assert hardware.choose("float16").precision == "float16"
    with pytest.raises(TrainingError, match="this GPU has no bfloat16"):
        hardware.choose("bfloat16")


def test_tensors_are_channels_last_but_on_apples_gpu() -> None:
    images = torch.zeros(2, 5, 5, 3).permute(0, 3, 1, 2)
    assert hardware.memory_format("mps") == torch.contiguous_format
    assert hardware.in_memory_format(images, "mps").is_contiguous()
    for device in ("cpu", "cuda"):
        assert hardware.memory_format(device) == torch.channels_last
        assert hardware.in_memory_format(images, device) is images


def test_only_a_gpu_with_memory_of_its_own_takes_the_images_in(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((10, 10, 10), np.uint8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2000, 4000))
    assert [gpu_cache.fits(images, torch.device(device)) for device in ("cpu", "mps", "cuda")] == [False, False, True]


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose driver knows a GPU that torch does not use."""
    (tmp_path / "0000:01:00.0").mkdir()
    monkeypatch.setattr(hardware, "NVIDIA_GPUS", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


CANNOT = "warning: there is a GPU, and it is not used, since torch cannot use it: "


def refuses(message: str) -> Callable[..., Any]:
    def init(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    return init


@pytest.mark.usefixtures("driver")
def test_a_gpu_that_torch_cannot_use_is_said_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    old = "The NVIDIA driver on your system is too old (found version 11040)."
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "init", refuses(old))
    machine = hardware.choose("auto")
    assert hardware.first_lines("baseline-0", machine) == [f"baseline-0: {machine}", CANNOT + old]
    monkeypatch.setattr(torch.version, "cuda", None)
    assert hardware.first_lines("baseline-0", machine)[1] == (
        CANNOT + "this torch is built for CPUs alone; install one for GPUs: https://pytorch.org/get-started/locally"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware.first_lines("baseline-0", machine) == [f"baseline-0: {machine}"]


def test_a_gpu_without_kernels_in_this_torch_leaves_the_work_to_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", refuses("CUDA error: no kernel image is available for execution\nand more"))
    machine = hardware.choose("auto")
    assert machine.device == "cpu"
    expected = CANNOT + "CUDA error: no kernel image is available for execution"
    assert hardware.first_lines("x", machine)[1] == expected


def test_a_gpu_that_is_full_is_an_error_and_not_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", refuses("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"))
    with pytest.raises(TrainingError, match=r"^the GPU's memory is taken by other processes"):
        hardware.choose("auto")


def fitting(largest: int, error: Exception, seen: list[int]) -> Callable[[int], int]:
    """Work that has room for so many images at a time."""

    def work(size: int) -> int:
        seen.append(size)
        if size > largest:
            raise error
        return 10 * size

    return work


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=["CUDA", "CPU", "CPU on Windows", "MPS", "cuBLAS", "NumPy"],
)
def test_a_batch_is_halved_until_it_fits(error: Exception) -> None:
    seen: list[int] = []
    assert memory.halving(fitting(7, error, seen), 50, "scoring") == (60, 6)
    assert seen == [50, 25, 12, 6]


def test_an_error_of_another_kind_is_not_taken_for_want_of_memory() -> None:
    seen: list[int] = []
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        memory.halving(fitting(1, RuntimeError("shapes do not fit"), seen), 8, "scoring")
    assert seen == [8]


def test_where_one_image_is_too_much_the_error_names_what_was_computed() -> None:
    seen: list[int] = []
    with pytest.raises(TrainingError) as caught:
        memory.halving(fitting(0, torch.OutOfMemoryError("no"), seen), 4, "computing occlusion maps")
    assert str(caught.value) == (
        "memory ran out while computing occlusion maps, with one image at a time: "
        "set model.img_size lower, or take a smaller model.arch"
    )
    assert seen == [4, 2, 1]


def test_batches_go_on_where_memory_ran_out() -> None:
    computed = []

    def work(start: int, stop: int) -> list[int]:
        if stop - start > 3:
            raise torch.OutOfMemoryError
        computed.append((start, stop))
        return list(range(start, stop))

    parts = list(memory.batches(work, 8, 4, "scoring"))
    assert computed == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert [number for part, _ in parts for number in part] == list(range(8))
    assert [size for _, size in parts] == [2, 2, 2, 2]


class Steep(nn.Module):
    """A loss whose first gradients do not fit into any float, and whose later ones are plain."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        return logits.square().mean() * (1e35 if self.calls == 1 else 1.0)


class Norms(Callback):  # type: ignore[misc]
    """Gradients' norms as the optimizer sees them."""

    order = 90

    def __init__(self) -> None:
        self.seen: list[float] = []

    def before_step(self) -> None:
        grads = [parameter.grad for parameter in self.model.parameters()]
        self.seen.append(float(torch.cat([grad.flatten() for grad in grads]).norm()))


def fitted(machine: Hardware, loss: nn.Module, cbs: list[Callback], batches: int = 4) -> nn.Module:
    """A small network after one epoch of as many steps."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(4 * batches, 3, generator=generator), torch.arange(4 * batches) % 2
    torch.manual_seed(1)
    network = nn.Sequential(*(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)))
    factory = optimizers.factory("adam", 0.0, None)
    learn = build_learner(fits.loaders(images, labels, 4), network, loss, factory, machine, cbs)
    learn.splitter = lambda model: [list(model.parameters())]
    learn.fit(1, lr=0.01)
    return network


def test_gradients_that_overflow_make_no_step_which_no_average_counts() -> None:
    average = EMA(nn.Linear(1, 1), 0.5)

    weights: list[Tensor] = []

    class Taken(Callback):  # type: ignore[misc]
        def before_fit(self) -> None:
            average.trained, average.average = self.model, AveragedModel(self.model)
            self.after_batch()

        def after_batch(self) -> None:
            if self.training or not weights:
                weights.append(self.model[0].weight.detach().clone())

    fitted(FP16, Steep(), [Taken(), average])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert int(average.average.n_averaged) == 3


def test_a_step_sees_the_true_gradients_and_bounds_those() -> None:
    """As in float32, to within the rounding of float16."""
    norms = {}
    for machine in (FP16, Hardware("cpu", "AVX512", "float32", 1, "2")):
        free, bounded = Norms(), Norms()
        fitted(machine, nn.CrossEntropyLoss(), [free], batches=1)
        fitted(machine, nn.CrossEntropyLoss(), [GradientClip(0.01), bounded], batches=1)
        norms[machine.precision] = [*free.seen, *bounded.seen]
    assert norms["float32"][0] > 0.02
    assert norms["float16"] == pytest.approx(norms["float32"], rel=0.01)
    assert norms["float16"][1] == pytest.approx(0.01, rel=1e-3)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Makes networks run out of memory when they score more than so many images; returns what they were shown."""

    def make(largest: int) -> list[int]:
        shown: list[int] = []

        class Narrow(Tiny):
            def forward(self, x: Tensor) -> Tensor:
                if not self.training and x.device.type != "meta":  # where multiply-adds are counted
                    if len(x) > largest:
                        raise torch.OutOfMemoryError("CUDA out of memory")
                    shown.append(len(x))
                return super().forward(x)

        monkeypatch.setitem(networks.NETWORKS, "resnet18", Narrow)
        return shown

    return make


Prepare = Callable[..., Loaded]


def test_a_validation_that_does_not_fit_is_halved_and_the_run_says_so(
    prepared: Prepare, narrow: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The history is that of a run with room for all; a run that is stopped goes on in such batches."""
    narrow(1000)
    loaded = prepared()
    train.run(*loaded, "baseline", 0)
    roomy = tables.read(loaded[1].model("baseline", 0) / "history.csv")
    assert model_json(loaded)["scoring_batch"] == 64
    shown = narrow(4)
    train.run(*loaded, "baseline", 0)
    tight = tables.read(loaded[1].model("baseline", 0) / "history.csv")
    assert sum(shown) == 2 * len(tables.read(loaded[1].split / "valid_data.csv"))
    assert model_json(loaded)["scoring_batch"] == max(shown) <= 4
    for name in ("train_loss", "valid_loss", "valid_f1"):
        np.testing.assert_allclose(tight[name], roomy[name], rtol=1e-5)
    whole = outcome(loaded)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(0, patched)
        train.run(*loaded, "baseline", 0)
    train.run(*loaded, "baseline", 0)
    assert outcome(loaded) == whole
    capsys.readouterr()
    predict.run(*loaded, "baseline", 0)
    said = capsys.readouterr().out.splitlines()
    machine = hardware.choose("float32")
    assert said[0] == f"baseline-0: {machine}"
    assert "in batches of 4, since memory ran out with larger ones" in said[-1]


def test_a_validation_of_which_no_image_fits_does_not_blame_the_training_batch(
    prepared: Prepare, narrow: Callable[[int], list[int]]
) -> None:
    narrow(0)
    with pytest.raises(TrainingError) as caught:
        train.run(*prepared(), "baseline", 0)
    assert str(caught.value) == (
        "memory ran out while scoring the validation images, with one image at a time: "
        "set model.img_size lower, or take a smaller model.arch"
    )


@pytest.mark.usefixtures("no_gpu")
def test_what_was_trained_in_a_precision_that_is_not_here_is_scored_in_float32(
    trained: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, amx=False, avx512_bf16=False)
    _, paths = trained
    folder = paths.model("baseline", 0)
    images = tables.read(paths.split / "test_data.csv")[["id", "label"]]
    model = files.read_json(folder / "model.json")
    results = {}
    for precision in ("float32", "bfloat16", "float16", "tf32"):
        its = model | {"hardware": {"precision": precision}}
        (scores,), notes = TrainedModel(folder, its).predict_cached([1], images, paths.cache, 0)
        results[precision] = scores
        said = f"trained in {precision}, which is not fast on this CPU: scored in float32"
        assert (said in notes) == (precision != "float32")
        assert all(scores["p_TB"] == results["float32"]["p_TB"])


def test_score_predicts_as_the_stage_does(trained: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the augmented copies that predict.tta asks for."""
    study = tmp_path / "study"
    small.shutil.copytree(trained[1].root, study)
    small.edit(study, lambda tree: (tree["predict"].update(tta=2), tree["augment"].update(degrees=90.0)))
    path = study / "models" / "baseline" / "0" / "model.json"
    model = files.read_json(path)
    files.write_json(model | {"augment": model["augment"] | {"degrees": 90.0}}, path)
    monkeypatch.chdir(study)
    done = CliRunner().invoke(cli.app, ["evaluate-checkpoint", "baseline"])
    assert done.exit_code == 0
    assert done.output.splitlines()[-1].endswith("; mean over 3 views")
    paths = type(trained[1])(study)
    assert "views" not in checkpoints.evaluate_checkpoint(paths, "baseline", 0, None, "valid")["computed"]
