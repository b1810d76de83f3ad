"""torch's compiler, imported by what compiles: it takes 2 s of processor time, which everything else saves."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
UTILITIES = f"{COMPILER}.utils"


class StandIn(ModuleType):
    """Stands for a module that is imported as soon as anything but `functions` is asked of it."""

    def __init__(self, name: str, **functions: Callable[..., Any]) -> None:
        super().__init__(name)
        vars(self).update(functions)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") and (self.__name__, attribute) != (COMPILER, "__path__"):  # asked of any module
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), attribute)


def optimizers_do_without() -> None:
    """Keep torch's optimizers from importing the compiler.

    They keep their steps out of what is compiled, which does nothing where nothing is.
    """
    sys.modules.setdefault(COMPILER, StandIn(COMPILER, graph_break=lambda msg="": None, disable=_disable))


def _disable(fn: Any = None, recursive: bool = True, *, wrapping: bool = True, **options: Any) -> Any:
    """The function itself where torch asks for its own methods, not to be wrapped; else what the compiler returns."""
    if not wrapping:
        return fn
    sys.modules.pop(COMPILER)
    return import_module(COMPILER).disable(fn, recursive, **options)


@contextmanager
def torchvision_does_without() -> Iterator[None]:
    """Keep torchvision's detection operators from importing the compiler, for a function that no network here calls."""
    stand_in = StandIn(
        UTILITIES, is_compile_supported=lambda device: import_module(UTILITIES).is_compile_supported(device)
    )
    sys.modules.setdefault(UTILITIES, stand_in)
    try:
        yield
    finally:
        if sys.modules.get(UTILITIES) is stand_in:
            del sys.modules[UTILITIES]
