"""Whether a training fits into a GPU: what nvidia-smi lists, and the decision, with simulated figures."""

from pathlib import Path

import pytest

from xraylab.errors import TrainingError
from xraylab.jobs import gpu_memory
from xraylab.jobs.gpu_memory import GIB, Gpu

LISTING = """\
0, GPU-aaaa-1, 80000, 81559, NVIDIA H100 80GB HBM3
1, GPU-bbbb-2, 1024, 16384, Tesla T4, with a comma
2, GPU-cccc-3, [N/A], [N/A], NVIDIA GB10
"""


@pytest.mark.parametrize(
    ("chosen", "names"),
    [(None, ["0", "1"]), ("1", ["1"]), ("GPU-aaaa", ["0"]), ("0,1", ["0", "1"]), ("2", []), ("MIG-1", []), ("", [])],
)
def test_the_gpus_of_a_job_are_those_that_it_may_use(chosen: str | None, names: list[str]) -> None:
    assert [gpu.index for gpu in gpu_memory.parse(LISTING, chosen)] == names


def test_a_gpu_is_read_with_its_name_and_bytes() -> None:
    assert gpu_memory.parse(LISTING, "1") == [
        Gpu("1", "GPU-bbbb-2", GIB, 16 * GIB, "Tesla T4, with a comma")
    ]  # fmt: skip


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
