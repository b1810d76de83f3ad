"""Use trained models: on any kept epoch, on another data set, on images without labels."""

from pathlib import Path
from typing import Annotated

import typer

from xraylab.cli import completion
from xraylab.cli.common import Layout, Run, Split, print_lines, print_metrics, read_study, warn_of_test

app = typer.Typer()
PANEL = "Use trained models"
SOME_SKIPPED = 3
"""The exit code where some of the images could not be read."""


@app.command("score", hidden=True)
@app.command(rich_help_panel=PANEL)
def evaluate_checkpoint(
    run: Run,
    epoch: Annotated[int | None, typer.Option(help="Counted from 0; by default the best one.")] = None,
    split: Split = "valid",
) -> None:
    """Score any kept epoch: accuracy, F1, precision, recall and confusion, or AUROC and AUPRC of findings."""
    from xraylab.integrity.check import require_run
    from xraylab.predict import checkpoints

    params, paths = read_study()
    require_run(paths, run, paths.split, paths.cache)
    model = checkpoints.find_run(paths, run).record
    metrics = checkpoints.evaluate_checkpoint(
        paths, model["experiment"], model["repeat"], epoch, split, params.predict.tta
    )
    warn_of_test(split, "epochs")
    print_metrics({"run": f"{model['experiment']}/{model['repeat']}", "split": split, **metrics})


@app.command("external", hidden=True)
@app.command(rich_help_panel=PANEL)
def external_test(
    run: Run,
    folder: Annotated[Path, typer.Argument(help="A folder of X-rays that the study has not seen.", metavar="PATH")],
    layout: Layout = "auto",
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=LABEL", help="The label of a class or finding in PATH, if it differs; repeatable."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the result to this file instead of reports/external/.")
    ] = None,
) -> None:
    """Test a trained run on another data set, leaving out the images that it has seen."""
    from xraylab.integrity.check import require_run
    from xraylab.predict import external

    params, paths = read_study()
    require_run(paths, run, paths.index, paths.evaluation)
    print_lines(external.run(params, paths, run, folder, layout, label or [], json))


@app.command("classify", hidden=True)
@app.command(rich_help_panel=PANEL)
def predict_images(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|BUNDLE",
            help="A trained run: experiment/repeat, or an experiment with all its repeats; or the path of a bundle.",
            autocompletion=completion.runs,
        ),
    ],
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="X-rays, folders of them at any depth, archives, or patterns."),
    ],
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="RUN|BUNDLE",
            help="Another classifier to average with; repeatable.",
            autocompletion=completion.runs,
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            "--csv",
            metavar="FILE",
            help="Where to write the table: .csv, .jsonl, .parquet, or - for the screen.",
        ),
    ] = "classified.csv",
    point: Annotated[
        str | None, typer.Option(help="The operating point of the decisions, or part of its name; else Youden's.")
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each image with its Grad-CAM to this new folder.")
    ] = None,
    dicom_sr: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a structured report of each DICOM image to this new folder."),
    ] = None,
    submission: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN,COLUMN",
            help="Write only file name and class, under this header: Id,Label; or of several findings the "
            "probabilities: Id,Mass.",
        ),
    ] = None,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Write each class as its index in data.classes, from 0.")
    ] = False,
) -> None:
    """Predict X-rays without labels, by trained runs or bundles; also called `classify`.

    Writes probabilities, decisions and warnings. Files that cannot be read are named and left out, and the exit code is
    3.
    """
    from xraylab.integrity.check import require_runs
    from xraylab.predict import classify
    from xraylab.predict.ensemble import is_bundle

    names = [source, *(others or [])]
    runs = [name for name in names if not is_bundle(name)]
    study = read_study() if runs else None
    if study:
        require_runs(study[1], runs, study[1].evaluation)
    output = classify.Output(to, point, submission, numbers, explain, dicom_sr)
    summary = classify.run(study, names, paths, output)
    for line in summary.lines:
        typer.echo(line, err=to == "-")  # the table alone is on the standard output
    if summary.n_skipped:
        raise typer.Exit(SOME_SKIPPED)
