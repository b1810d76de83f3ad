"""The engines that run commands on other machines, each in a module of its own."""

from collections.abc import Callable

from xraylab.jobs.engines.engine import Engine


def _ray() -> Engine:
    from xraylab.jobs.engines.ray import Ray  # noqa: PLC0415 - an engine's library is imported where it is used

    return Ray()


ENGINES: dict[str, Callable[[], Engine]] = {"ray": _ray}
