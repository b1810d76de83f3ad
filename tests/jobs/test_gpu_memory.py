"""Whether a training fits into a GPU: what nvidia-smi lists, and the decision, with simulated figures."""

from pathlib import Path

import pytest

from xraylab.errors import TrainingError
from xraylab.jobs import gpu_memory
from xraylab.jobs.gpu_memory import GIB, Gpu

MEMORY = "<fb_memory_usage><total>{}</total><reserved>300 MiB</reserved><used>x</used><free>{}</free></fb_memory_usage>"


def xml(name: str, uuid: str, total: str, free: str, slices: str = "None") -> str:
    """What `nvidia-smi --query --xml-format` says of a GPU, as far as it is read."""
    return f"""<gpu id="00000000:{uuid[-2:]}:00.0"><product_name>{name}</product_name>
        <mig_devices>{slices}</mig_devices><uuid>{uuid}</uuid>{MEMORY.format(total, free)}</gpu>"""


def mig(number: int, total: int, free: int) -> str:
    memory = MEMORY.format(f"{total} MiB", f"{free} MiB")
    return f"<mig_device><index>{number}</index><gpu_instance_id>{number + 7}</gpu_instance_id>{memory}</mig_device>"


def listing(*gpus: str) -> str:
    return "<?xml version='1.0' ?><!DOCTYPE nvidia_smi_log SYSTEM 'nvsmi_device_v12.dtd'><nvidia_smi_log>{}{}".format(
        "".join(gpus), "</nvidia_smi_log>"
    )


WHOLE = listing(
    xml("NVIDIA H100 80GB HBM3", "GPU-aaaa-1", "81559 MiB", "80000 MiB"),
    xml("Tesla T4, with a comma", "GPU-bbbb-2", "16384 MiB", "1024 MiB"),
    xml("NVIDIA GB10", "GPU-cccc-3", "N/A", "N/A"),
)
SLICED = listing(
    xml("NVIDIA A100", "GPU-aaaa-1", "40960 MiB", "N/A", mig(0, 20096, 20000) + mig(1, 9856, 100)),
    xml("NVIDIA A100", "GPU-bbbb-2", "40960 MiB", "N/A", mig(0, 4864, 4000)),
    xml("Tesla T4", "GPU-cccc-3", "16384 MiB", "1024 MiB"),
)
NAMES = """\
GPU 0: NVIDIA A100 (UUID: GPU-aaaa-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-0a)
  MIG 1g.10gb     Device  1: (UUID: MIG-0b)
GPU 1: NVIDIA A100 (UUID: GPU-bbbb-2)
  MIG 1g.5gb      Device  0: (UUID: MIG-1a)
GPU 2: Tesla T4 (UUID: GPU-cccc-3)
"""


@pytest.mark.parametrize(
    ("chosen", "names"),
    [(None, ["0", "1"]), ("1", ["1"]), ("GPU-aaaa", ["0"]), ("0,1", ["0", "1"]), ("2", []), ("MIG-1", []), ("", [])],
)
def test_the_gpus_of_a_job_are_those_that_it_may_use(chosen: str | None, names: list[str]) -> None:
    assert [gpu.index for gpu in gpu_memory.parse(WHOLE, "", chosen)] == names


def test_a_gpu_is_read_with_its_name_and_bytes() -> None:
    assert gpu_memory.parse(WHOLE, "", "1") == [
        Gpu("1", "GPU-bbbb-2", GIB, 16 * GIB, "Tesla T4, with a comma")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "slices"),
    [
        ("MIG-0b", ["MIG-0b"]),
        ("MIG-1a,MIG-0a", ["MIG-0a", "MIG-1a"]),
        (None, ["MIG-0a"]),  # of several slices CUDA uses the first
        ("0", ["MIG-0a"]),
        ("1", ["MIG-1a"]),
        ("2", ["GPU-cccc-3"]),
        ("MIG-0c", []),
    ],
)
def test_the_slices_of_a_job_are_those_that_it_may_use(chosen: str | None, slices: list[str]) -> None:
    assert [gpu.uuid for gpu in gpu_memory.parse(SLICED, NAMES, chosen)] == slices


def test_a_slice_has_its_own_memory_and_not_that_of_the_whole_gpu() -> None:
    [gpu] = gpu_memory.parse(SLICED, NAMES, "MIG-0b")
    assert gpu == Gpu("0:1", "MIG-0b", 100 * 2**20, 9856 * 2**20, "a slice of NVIDIA A100")
    assert "takes 20.0 GiB of GPU memory or more, and a slice of NVIDIA A100 has 9.6 GiB" in refusal(20, 1, [gpu])
    assert "of the 9.6 GiB of a slice of NVIDIA A100 0.1 are free" in refusal(5, 1, [gpu])


def test_what_nvidia_smi_says_is_asked_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("xml", SLICED), ("list", NAMES)):
        (tmp_path / name).write_text(text)
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in "--query --xml-format") cat {tmp_path}/xml;; *) cat {tmp_path}/list;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1a")
    assert [gpu.total for gpu in gpu_memory.visible()] == [4864 * 2**20]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_memory.visible() == []


def t4(free: float) -> list[Gpu]:
    return [Gpu("0", "GPU-a", int(free * GIB), 16 * GIB, "Tesla T4")]


def refusal(need: float, sharing: int, gpus: list[Gpu]) -> str:
    with pytest.raises(TrainingError) as refused:
        gpu_memory.refuse_too_large("vit", int(need * GIB), sharing, gpus)
    return str(refused.value)


def test_what_is_larger_than_the_gpu_is_refused_with_what_to_type() -> None:
    smaller = (
        "\n  - `xraylab fit-batch vit` on such a GPU finds the largest train.batch_size; train.grad_accum keeps the "
        "steps as they are, train.grad_checkpointing: true takes less memory and more time"
    )
    assert refusal(20, 1, t4(16)) == f"vit takes 20.0 GiB of GPU memory or more, and Tesla T4 has 16.0 GiB{smaller}"
    assert refusal(6, 4, t4(1)) == (
        f"vit takes 6.0 GiB of GPU memory or more, and Tesla T4 has 16.0 GiB, for 4 jobs{smaller}"
        "\n  - fewer jobs on a GPU: --jobs-per-gpu"
    )


def test_a_gpu_that_others_use_is_refused() -> None:
    assert refusal(6, 1, t4(5)) == (
        "vit takes 6.0 GiB of GPU memory or more, and of the 16.0 GiB of Tesla T4 5.0 are free"
        "\n  - others use this GPU, and `nvidia-smi` there says who: ask for one of its own, or for another node"
    )


def test_what_may_fit_is_tried() -> None:
    gpu_memory.refuse_too_large("vit", 6 * GIB, 1, t4(6))
    gpu_memory.refuse_too_large("vit", 4 * GIB, 4, t4(1))  # of its siblings' memory nobody knows
    gpu_memory.refuse_too_large("vit", 100 * GIB, 1, [])  # no driver tells


def test_where_the_need_cannot_be_computed_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_memory, "NEEDS", "xraylab.no_such_module")
    assert gpu_memory.needs([tmp_path / "x.yaml"], 2, 1) == {}
    assert "note: GPU memory is not checked, since its need cannot be computed: " in capsys.readouterr().err
