"""What several commands share: how they read the study, how they print metrics, and arguments of one meaning."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xraylab.cli import completion

if TYPE_CHECKING:
    from xraylab.params.config import Params
    from xraylab.paths import Paths

Run = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT[/REPEAT]",
        help="A run, such as baseline/0; without a repeat, repeat 0.",
        autocompletion=completion.runs,
    ),
]
ExperimentName = Annotated[
    str, typer.Argument(help="A name under `experiments` in params.yaml.", autocompletion=completion.experiments)
]
Split = Annotated[Literal["valid", "test"], typer.Option(help="The images to score.")]
Layout = Annotated[str, typer.Option(help="As data.layout in params.yaml.")]


def read_study() -> "tuple[Params, Paths]":
    """params.yaml and the paths of the study in the current folder."""
    from xraylab.params import config
    from xraylab.paths import Paths

    paths = Paths.here()
    return config.read(paths.params), paths


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print one metric a line; those of each finding in one line of their own."""
    for name, value in metrics.items():
        if isinstance(value, dict):
            for key, each in value.items():
                print(f"{key}: {'  '.join(f'{metric} {number:.6f}' for metric, number in each.items())}")
            continue
        print(f"{name:10} {value:.6f}" if isinstance(value, float) else f"{name:10} {value}")


def warn_of_test(split: str, what: str) -> None:
    """Whoever compares test metrics and chooses by them has no test data left."""
    if split == "test":
        print(f"Test metrics of several {what}, compared, are no longer test metrics: choose on validation.")
