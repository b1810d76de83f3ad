"""Hand a trained model to others: as a bundle, in a registry, in other formats."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from xraylab.cli import completion
from xraylab.cli.common import print_lines

app = typer.Typer()
PANEL = "Share models"


@app.command(rich_help_panel=PANEL)
def bundle(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT[/REPEAT]", help="A run, such as baseline/0.", autocompletion=completion.runs
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; by default <experiment>-<repeat>.zip.")
    ] = None,
    training_hashes: Annotated[
        bool,
        typer.Option(
            "--training-hashes",
            help="Include the perceptual hashes of the training images, so that users are warned of copies of them.",
        ),
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check a bundle here instead: its hashes, and its expected outputs."),
    ] = None,
) -> None:
    """Write a trained run as one file that others can check and run, with its model card."""
    from xraylab.paths import Paths
    from xraylab.predict import cards

    if (run is None) == (check is None):
        raise typer.BadParameter("name either a run, or a bundle with --check")
    if check:
        print_lines(cards.check(check))
    elif run:
        print_lines(cards.bundle(Paths.here(), run, to, training_hashes))


@app.command(rich_help_panel=PANEL)
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|BUNDLE", help="A run, such as baseline/0, or a bundle's file.", autocompletion=completion.runs
        ),
    ],
    to: Annotated[Literal["onnx", "pt2"], typer.Option(help="ONNX, or the format of torch.export.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; by default <experiment>-<repeat>.onnx.")
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Quantize an ONNX file, and measure what that costs in AUROC and gains in speed."),
    ] = False,
) -> None:
    """Write a trained network for other runtimes, with its preprocessing; refused unless it gives the same there."""
    from xraylab.export import command

    print_lines(command.run(source, to, output, int8))
