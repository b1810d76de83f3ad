"""Look at results: comparisons, DVC's experiments, ensembles, and the power of the test set."""

from typing import Annotated, Literal

import typer

from xraylab.cli import completion
from xraylab.cli.common import Split, print_lines, print_metrics, read_study, warn_of_test
from xraylab.task import is_multi

app = typer.Typer()
PANEL = "Results"


@app.command(rich_help_panel=PANEL)
def show() -> None:
    """Compare the experiments, with the paired tests."""
    from xraylab import terminal
    from xraylab.integrity.check import require_outputs
    from xraylab.paths import Paths
    from xraylab.report import summary

    paths = Paths.here()
    require_outputs(paths, [paths.evaluation, paths.audit, paths.explanation])
    terminal.Console().print(summary.read_for_terminal(paths.evaluation, paths.audit, paths.explanation))


@app.command(rich_help_panel=PANEL)
def experiments(
    commits: Annotated[int, typer.Option(min=1, help="Commits to list, with the experiments that began there.")] = 1,
) -> None:
    """List the runs of the workspace, commits and DVC experiments, best first, and how they differ."""
    import asyncio

    from xraylab import terminal
    from xraylab.jobs import experiments
    from xraylab.jobs.dvc import Dvc

    params, paths = read_study()
    terminal.Console().print(asyncio.run(experiments.show(Dvc(paths.root), params.study.baseline, commits)))


@app.command(rich_help_panel=PANEL)
def watch() -> None:
    """Follow the stages that run in this study, from another terminal; Ctrl-C ends the watching alone."""
    from xraylab import terminal
    from xraylab.jobs import follow
    from xraylab.paths import Paths

    follow.run(Paths.here(), terminal.Console())


@app.command(rich_help_panel=PANEL)
def ensemble(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="An experiment (all its repeats), or one run as experiment/repeat.", autocompletion=completion.runs
        ),
    ],
    split: Split = "valid",
    checkpoint: Annotated[Literal["best", "last"], typer.Option(help="The checkpoint of each run.")] = "best",
) -> None:
    """Score the mean of several runs' predicted probabilities; needs their predictions (`dvc repro`)."""
    from xraylab.evaluate import scores
    from xraylab.evaluate.config import EvalConfig
    from xraylab.evaluate.multi_label import ensemble as findings
    from xraylab.integrity.check import require_outputs

    params, paths = read_study()
    require_outputs(paths, [paths.split, paths.predictions])
    if is_multi(params.data.task):
        metrics = findings.score_ensemble(paths, runs, params.data.classes, checkpoint, split)
    else:
        metrics = scores.score_ensemble(paths, runs, EvalConfig.from_params(params), checkpoint, split)
    warn_of_test(split, "ensembles")
    print_metrics(metrics)


@app.command(rich_help_panel=PANEL)
def plan_size(
    difference: Annotated[
        float | None, typer.Option(help="Difference in evaluate.primary; by default evaluate.margin.")
    ] = None,
    power: Annotated[float, typer.Option(help="Probability of showing the difference if it is real.")] = 0.8,
) -> None:
    """Estimate how many test patients would show a difference, from the agreement between this study's models."""
    from xraylab.evaluate import power as planning
    from xraylab.integrity.check import require_outputs

    params, paths = read_study()
    require_outputs(paths, [paths.evaluation])
    margin = params.evaluate.margin if difference is None else difference
    print_lines(planning.read_and_plan(paths.evaluation / "summary.json", margin, power))
