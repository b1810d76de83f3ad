"""Hand a trained model to others: as a bundle, in a registry, in other formats."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from xraylab.cli import completion
from xraylab.cli.common import Run, print_lines

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
        Path | None,
        typer.Option(metavar="FILE", help="Where to write it; by default bundles/<experiment>-<repeat>.zip."),
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
    from xraylab.integrity.check import require_run
    from xraylab.paths import Paths
    from xraylab.predict import cards

    if (run is None) == (check is None):
        raise typer.BadParameter("name either a run, or a bundle with --check")
    if check:
        print_lines(cards.check(check))
    elif run:
        paths = Paths.here()
        require_run(paths, run, paths.index, paths.split, paths.cache, paths.evaluation)
        print_lines(cards.bundle(paths, run, to, training_hashes))


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
    from xraylab.inference import bundle as bundles
    from xraylab.integrity.check import require_run
    from xraylab.paths import Paths

    if not source.endswith(bundles.SUFFIX):
        paths = Paths.here()
        require_run(paths, source, paths.split, paths.cache, paths.evaluation)
    print_lines(command.run(source, to, output, int8))


registry = typer.Typer(no_args_is_help=True)
app.add_typer(registry, name="registry", rich_help_panel=PANEL, help="List, register or promote versions of models.")
Version = Annotated[str | None, typer.Option(metavar="VERSION", help="Such as v3 or v3.1.")]


@registry.command("list")
def list_versions() -> None:
    """List the registered versions, and the stages that they are in."""
    from xraylab.paths import Paths
    from xraylab.studies import model_registry

    print_lines(model_registry.show(Paths.here().root))


@registry.command()
def register(
    run: Run,
    name: Annotated[str | None, typer.Option(help="Of the model; by default <experiment>-<repeat>.")] = None,
    version: Version = None,
) -> None:
    """Make a run's bundle the next version of a model: tracked by DVC, named in dvc.yaml, committed and tagged."""
    from xraylab.integrity.check import require_run
    from xraylab.paths import Paths
    from xraylab.studies import model_registry

    paths = Paths.here()
    require_run(paths, run, paths.index, paths.split, paths.cache, paths.evaluation)
    print_lines(model_registry.register(paths, run, name, version))


@registry.command()
def promote(
    model: Annotated[str, typer.Argument(metavar="NAME|RUN", help="A registered model, or the run that it is.")],
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Such as production.")],
    version: Version = None,
) -> None:
    """Put a version of a model, by default the newest, into a stage."""
    from xraylab.paths import Paths
    from xraylab.studies import model_registry

    print_lines(model_registry.promote(Paths.here().root, model, stage, version))
