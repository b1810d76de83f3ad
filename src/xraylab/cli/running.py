"""Run the study, vary its settings, and see what a change would cost."""

from pathlib import Path
from typing import Annotated

import typer

from xraylab.cli.common import Run, print_lines, read_study

app = typer.Typer()
PANEL = "Run and search"


@app.command("run", hidden=True)
@app.command(rich_help_panel=PANEL)
def repro(
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Experiments at once; by default one per GPU, or one. Several jobs share the cores: each computes in"
            " (cores / N) threads. The number of threads changes the last bits of a result, is written to its"
            " model.json, and must stay the same for a stopped training to resume.",
        ),
    ] = None,
) -> None:
    """Bring the study up to date like `dvc repro`, with N experiments side by side (--jobs N)."""
    from xraylab.jobs import repro
    from xraylab.paths import Paths

    repro.run(Paths.here(), jobs)


@app.command(rich_help_panel=PANEL)
def search() -> None:
    """Try the settings under `search` in params.yaml, each trial a DVC experiment; resumes where it stopped."""
    from importlib.util import find_spec

    from xraylab.errors import MissingError

    if find_spec("optuna") is None:
        raise MissingError("xraylab search needs Optuna, which is not installed: pip install 'optuna>=4'")
    from xraylab.search import command

    command.run(*read_study())


@app.command(rich_help_panel=PANEL)
def dry_run(
    set_param: Annotated[
        list[str], typer.Option("--set-param", "-S", metavar="KEY=VALUE", help="As for `dvc exp run`; repeatable.")
    ],
) -> None:
    """List what `dvc exp run -S KEY=VALUE` would retrain; runs and writes nothing."""
    from xraylab.studies import dry_run

    print_lines(dry_run.lines(Path.cwd(), set_param))


@app.command(rich_help_panel=PANEL)
def fit_batch(
    experiment: Annotated[str, typer.Argument(help="A name under `experiments` in params.yaml.")],
    memory: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="GIB", help="By default the GPU's, or 80 % of what a processor has left."),
    ] = None,
) -> None:
    """Find the largest train.batch_size that fits in memory; changes nothing, needs `dvc repro configure` first."""
    from xraylab.train import fit_batch

    print_lines(fit_batch.run(*read_study(), experiment, memory))


@app.command(rich_help_panel=PANEL)
def lr_find(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="Write the curve (lr, loss) to this CSV file.")] = None,
) -> None:
    """Suggest a learning rate, the one that `train.lr: find` would take; needs `dvc repro configure` first."""
    from xraylab import tables
    from xraylab.paths import parse_run
    from xraylab.stages import train

    experiment, repeat = parse_run(run)
    curve, suggestion = train.find_rate(*read_study(), experiment, repeat or 0)
    if out:
        tables.write(curve, out)
    print(f"train.lr: {suggestion:.2g}")
