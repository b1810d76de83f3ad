"""Errors of users: each says what is wrong, where, and what to do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from xraylab.text import printable


class XraylabError(Exception):
    """A headline and all problems of its kind; the command line prints it and exits with 1."""

    def __init__(self, headline: str, problems: Sequence[str] = ()) -> None:
        self.headline = headline
        self.problems = tuple(problems)
        super().__init__(headline)

    def __str__(self) -> str:
        """Made from the parts: fastai rewrites the arguments of exceptions that pass through it."""
        return "\n".join([printable(self.headline), *(f"  - {printable(problem)}" for problem in self.problems)])


@contextmanager
def speaking_of(what: str) -> Iterator[None]:
    """Let errors begin with what they speak of, such as the dotted path of one of several sources."""
    try:
        yield
    except XraylabError as error:
        error.headline = f"{what}: {error.headline.removeprefix('data.source: ')}"
        raise


class ParamsError(XraylabError):
    """A parameter is unknown, of the wrong type, or contradicts another."""


class DataError(XraylabError):
    """The images, their folders or their names are not what the parameters promise."""


class MissingError(XraylabError):
    """A file that an earlier stage writes is not there."""


class WeightsError(XraylabError):
    """Pretrained or kept weights are absent, damaged or of another network."""


class DiskError(XraylabError):
    """A disk is full, or a file or folder cannot be written."""


class TrainingError(XraylabError):
    """A training run cannot start or cannot go on."""


class PluginError(XraylabError):
    """An installed plugin cannot be loaded, takes a name that is taken, or is not there."""
