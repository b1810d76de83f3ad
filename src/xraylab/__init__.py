"""A versioned, honest pipeline for experiments with X-ray classifiers.

`Study` is a study in Python: its images and Learners as fastai has them, its results as pandas tables.
`load` reads a bundle, a trained classifier in one file.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xraylab.inference.bundle import load
    from xraylab.study import Study

__all__ = ["Study", "load"]


def __getattr__(name: str) -> Any:
    """Import `Study` and `load` where they are used: the command line does without."""
    if name == "load":
        from xraylab.inference.bundle import load  # noqa: PLC0415 - torch takes seconds to import

        return load
    if name != "Study":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xraylab.study import Study  # noqa: PLC0415 - pandas and pydantic take half a second

    return Study
