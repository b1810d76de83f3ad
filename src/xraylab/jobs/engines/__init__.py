"""The engines that run commands on other machines, each in a module of its own."""

from collections.abc import Callable

from xraylab.jobs.engines.engine import Engine


def _ray() -> Engine:
    from xraylab.jobs.engines.ray import Ray  # noqa: PLC0415 - an engine's library is imported where it is used

    return Ray()


def _slurm() -> Engine:
    from xraylab.jobs.engines.slurm import Slurm  # noqa: PLC0415 - as above

    return Slurm()


ENGINES: dict[str, Callable[[], Engine]] = {"slurm": _slurm, "ray": _ray}
