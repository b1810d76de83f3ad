"""A versioned, honest pipeline for experiments with X-ray classifiers.

`Study` is a study in Python: its images and Learners as fastai has them, its results as pandas tables.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xraylab.study import Study

__all__ = ["Study"]


def __getattr__(name: str) -> Any:
    """Import `Study` where it is asked for: the command line does without."""
    if name != "Study":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xraylab.study import Study  # noqa: PLC0415

    return Study
