"""Hand a trained model to others: as a bundle, in a registry, in other formats."""

from pathlib import Path
from typing import Annotated

import typer

from xraylab.cli.common import Run, print_lines

app = typer.Typer()
PANEL = "Share models"


@app.command(rich_help_panel=PANEL)
def bundle(
    run: Run,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; by default <experiment>-<repeat>.zip.")
    ] = None,
) -> None:
    """Write a trained run as one file that others can check and run, with its model card."""
    from xraylab.paths import Paths
    from xraylab.predict import cards

    print_lines(cards.bundle(Paths.here(), run, to))
