"""One command per stage of dvc.yaml."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xraylab import processes, progress
from xraylab.cli.common import ExperimentName, read_study
from xraylab.errors import DataError, XraylabError

if TYPE_CHECKING:
    from xraylab.paths import Paths

app = typer.Typer()
PANEL = "Stages, in the order of dvc.yaml"
STAGES = {
    "code": "Fingerprint the code that each stage runs, on which DVC makes it depend (code).",
    "source": "Record what the data source holds now (data/source.json).",
    "fetch": "Copy, download or unpack the source's files (data/raw).",
    "index": "Read every image once; list the images and what is wrong with them (data/index.csv, data/audit.json).",
    "split": "Assign images to train, validation and test (data/split).",
    "cache": "Decode every image once, at the size images.size (data/cache).",
    "configure": "Resolve each experiment's configuration (configs).",
    "features": "Precompute the features of frozen backbones (features).",
    "train": "Train one experiment, resuming after its last finished epoch (models).",
    "predict": "Predict class probabilities with the best and the last epoch (predictions).",
    "evaluate": "Compute metrics from the predictions (reports/metrics.json, comparison.csv, evaluation).",
    "explain": "Show where chosen experiments look, and what they recognize with parts of the image hidden "
    "(reports/explain).",
    "report": "Write the report, one self-contained page (reports/index.html), and the gallery of test images.",
}
OLD_NAMES = {"plan": "configure"}  # they still work, and are left out of the help
PER_RUN = ("train", "predict")  # the others are for the whole study
IN_PARTS = ("index", "cache")  # many images: several processes or machines, and then the stage, which joins the parts
PartOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Make this part of the shards alone, such as 2/8, and leave it in .xraylab/shards for the whole stage.",
    ),
]
ForPaper = Annotated[
    bool,
    typer.Option(
        "--for-paper",
        help="Write every figure (PNG, SVG) and table (LaTeX, HTML for Word) with captions, and a methods section, in"
        " the place of the page.",
    ),
]
PaperFolder = Annotated[
    Path | None, typer.Option("--to", metavar="DIR", help="Folder of --for-paper; by default reports/paper.")
]
Repeat = Annotated[int, typer.Argument(help="One of study.repeats; it is the seed.")]


def _command(stage: str) -> Callable[..., None]:
    def of_study() -> None:
        run(stage)

    def of_run(experiment: ExperimentName, repeat: Repeat = 0) -> None:
        run(stage, experiment, repeat)

    def in_parts(part: PartOption = None) -> None:
        run(stage, part=part)

    def of_report(for_paper: ForPaper = False, to: PaperFolder = None) -> None:
        run_report(for_paper, to)

    kinds = dict.fromkeys(PER_RUN, of_run) | dict.fromkeys(IN_PARTS, in_parts) | {"report": of_report}
    return kinds.get(stage, of_study)


for name, text in STAGES.items():
    app.command(name, help=text, rich_help_panel=PANEL)(_command(name))
for old, name in OLD_NAMES.items():
    app.command(old, help=STAGES[name], hidden=True)(_command(name))


def run(stage: str, *arguments: str | int, part: str | None = None) -> None:
    """Run a stage, or a part of one. It is announced before its libraries are imported, which takes seconds.

    Where it fails, params.yaml gets a new time, so that git sees what `dvc exp run -S` changed in it.
    """
    try:
        _announced(stage, *arguments, part=part)
    except XraylabError:
        _touch_params()
        raise


def _touch_params() -> None:
    from xraylab import files

    if Path("params.yaml").is_file():
        files.touch(Path("params.yaml"))


def _announced(stage: str, *arguments: str | int, part: str | None) -> None:
    from xraylab import code, running
    from xraylab.integrity.check import require_intact

    params, paths = read_study()
    launched = processes.LAUNCHER in os.environ  # one of several for a training, whose launcher has done all this
    if not launched:
        _mend(paths)
    code.check(stage, paths.code, in_repository=paths.has_code)
    run = "-".join(map(str, arguments)) or part or ""
    if not launched:
        progress.say(f"{stage} {run}".rstrip() + ": starting")
    with running.recorded(paths.running, f"{stage}@{run}" if run else stage):
        if not launched:
            require_intact(paths, stage)
            _require_runs(paths, stage, *arguments)
        module = import_module(f"xraylab.stages.{stage}")
        if part is None:
            module.run(params, paths, *arguments)
        else:
            from xraylab import shards

            module.run_part(params, paths, shards.parse_part(part))


def _require_runs(paths: "Paths", stage: str, *arguments: str | int) -> None:
    """The trained networks of stages that are run by hand; of those that DVC runs, all inputs are checked already."""
    from xraylab.integrity.check import STAGE, require_outputs

    if STAGE not in os.environ and stage in ("predict", "explain"):
        require_outputs(paths, [paths.models.joinpath(*map(str, arguments))])


def _mend(paths: "Paths") -> None:
    """Remove what killed stages have left, here and in the user's own checkout."""
    from xraylab import leftovers

    for root in dict.fromkeys((paths.root, paths.home)):
        for line in leftovers.mend(root):
            progress.say(line)


def run_report(for_paper: bool, to: Path | None) -> None:
    """The stage `report`, or in its place the report for a paper."""
    if for_paper:
        _write_paper(to)
    elif to is None:
        run("report")
    else:
        raise DataError("--to is the folder of --for-paper: give both, or neither")


def _write_paper(to: Path | None) -> None:
    from xraylab.report.paper import write
    from xraylab.stages import report

    params, paths = read_study()
    folder = to or paths.paper
    write.refuse_foreign(folder)
    counts = write.write(report.read(params, paths), folder)
    print(f"{folder}: {counts['figures']} figures, {counts['tables']} tables, and the methods (main.tex, word.html)")
