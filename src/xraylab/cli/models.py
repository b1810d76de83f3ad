"""Use trained models: on any kept epoch, on another data set, on images without labels."""

from pathlib import Path
from typing import Annotated

import typer

from xraylab.cli import completion
from xraylab.cli.common import Layout, Run, Split, print_lines, print_metrics, read_study, warn_of_test

app = typer.Typer()
PANEL = "Use trained models"


@app.command("score", hidden=True)
@app.command(rich_help_panel=PANEL)
def evaluate_checkpoint(
    run: Run,
    epoch: Annotated[int | None, typer.Option(help="Counted from 0; by default the best one.")] = None,
    split: Split = "valid",
) -> None:
    """Score any kept epoch: accuracy, F1, precision, recall and confusion, or AUROC and AUPRC of findings."""
    from xraylab.predict import checkpoints

    params, paths = read_study()
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
    from xraylab.predict import external

    print_lines(external.run(*read_study(), run, folder, layout, label or [], json))


@app.command("classify", hidden=True)
@app.command(rich_help_panel=PANEL)
def predict_images(
    run: Annotated[
        str,
        typer.Argument(
            help="A trained run: experiment/repeat, or an experiment with all its repeats.",
            autocompletion=completion.runs,
        ),
    ],
    path: Annotated[Path, typer.Argument(help="An X-ray, or a folder of them, at any depth.", metavar="PATH")],
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="RUN",
            help="Another run to average with; repeatable.",
            autocompletion=completion.runs,
        ),
    ] = None,
    csv: Annotated[Path, typer.Option(help="Where to write the table.")] = Path("classified.csv"),
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
    """Classify X-rays without labels, by the mean probabilities of trained runs; also called `classify`.

    With several findings per image: the probability of each, and whether it reaches the threshold from validation.
    """
    from xraylab.predict import classify

    print_lines(classify.run(*read_study(), [run, *(others or [])], path, csv, submission, numbers))
