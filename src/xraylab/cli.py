"""The command line: one command per stage of dvc.yaml, and what a user asks for besides.

A stage's libraries are imported when it runs, so that `--help` answers at once.
"""

import sys
import warnings
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperGroup

from xraylab import code as fingerprints
from xraylab import progress
from xraylab.errors import XraylabError

if TYPE_CHECKING:
    from typer._click.core import Command, Context

    from xraylab.params.config import Params
    from xraylab.paths import Paths

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Rapid, honest and versioned experiments with X-ray classifiers. "
    "Usually `dvc repro` runs the stages; each can be run alone in a study's top folder.",
)

data = typer.Typer(no_args_is_help=True, help="The study's images.")
app.add_typer(data, name="data", rich_help_panel="Tools")


class Studies(TyperGroup):
    """`xraylab study NAME` is short for `xraylab study use NAME`."""

    def resolve_command(self, ctx: "Context", args: list[str]) -> "tuple[str | None, Command | None, list[str]]":
        return super().resolve_command(ctx, args if args[0] in self.commands else ["use", *args])


study = typer.Typer(no_args_is_help=True, cls=Studies, help="Published studies: list, show, use.")
app.add_typer(study, name="study", rich_help_panel="Tools")

Experiment = Annotated[str, typer.Argument(help="A name under `experiments` in params.yaml.")]
Repeat = Annotated[int, typer.Argument(help="One of study.repeats; it is the seed.")]

Run = Annotated[
    str, typer.Argument(metavar="EXPERIMENT[/REPEAT]", help="A run, such as baseline/0; without a repeat it is 0.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="WHAT=NAME", help="data.columns, such as label=Befund or patient=Pat-Nr; repeatable."),
]
Recipe = Annotated[
    str | None, typer.Option(help="robust: settings for films of other hospitals, and an experiment that uses them.")
]

STAGES = "Stages, in the order of dvc.yaml"
TOOLS = "Tools"


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"xraylab {version('xraylab')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run a command; a user's mistake is printed without a traceback and exits with 1."""
    # fastai and torchvision still call torch.jit.script, which is no news to the user
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log shows each line at once, not all of them at the end
    try:
        app(prog_name="xraylab")
    except XraylabError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


@app.command(rich_help_panel=STAGES)
def code() -> None:
    """Fingerprint the code that each stage runs, on which DVC makes it depend (code)."""
    _run("code")


@app.command(rich_help_panel=STAGES)
def source() -> None:
    """Note what the data source holds now (data/source.json)."""
    _run("source")


@app.command(rich_help_panel=STAGES)
def fetch() -> None:
    """Bring the source's files to data/raw."""
    _run("fetch")


@app.command(rich_help_panel=STAGES)
def index() -> None:
    """Read every image once: data/index.csv and data/audit.json."""
    _run("index")


@app.command(rich_help_panel=STAGES)
def split() -> None:
    """Decide who trains, who chooses the epoch, and who is tested (data/split)."""
    _run("split")


@app.command(rich_help_panel=STAGES)
def cache() -> None:
    """Decode every image once, to the size of images.pixels (data/cache)."""
    _run("cache")


@app.command(rich_help_panel=STAGES)
def plan() -> None:
    """Resolve each experiment's configuration (plans)."""
    _run("plan")


@app.command(rich_help_panel=STAGES)
def features() -> None:
    """Compute once what frozen parts of networks make of the images (features)."""
    _run("features")


@app.command(rich_help_panel=STAGES)
def train(experiment: Experiment, repeat: Repeat = 0) -> None:
    """Train one experiment, from its last finished epoch if it was stopped (models)."""
    _run("train", experiment, repeat)


@app.command(rich_help_panel=STAGES)
def predict(experiment: Experiment, repeat: Repeat = 0) -> None:
    """Class probabilities of the best and the last epoch (predictions)."""
    _run("predict", experiment, repeat)


@app.command(rich_help_panel=STAGES)
def evaluate() -> None:
    """Figures from the predictions (reports/metrics.json, comparison.csv, evaluation)."""
    _run("evaluate")


@app.command(rich_help_panel=STAGES)
def explain() -> None:
    """Where chosen experiments look, and what they could do without looking there (reports/explain)."""
    _run("explain")


@app.command(rich_help_panel=STAGES)
def report() -> None:
    """One page of it all (reports/index.html)."""
    _run("report")


@app.command(rich_help_panel=TOOLS)
def new(
    folder: Annotated[Path, typer.Argument(help="Where the study shall be; it must not exist yet.")],
    study: Annotated[str | None, typer.Option(help="A published study; `xraylab study list` names them.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="data.source: a folder, an archive or an address; repeatable.")
    ] = None,
    published: Annotated[bool, typer.Option("--published", help="Choose epochs as the published study did.")] = False,
    column: Columns = None,
    recipe: Recipe = None,
) -> None:
    """Begin a study of your own in a new folder."""
    from xraylab.studies import begin

    for line in begin.new(folder, study, data or [], published, column or [], recipe):
        print(line)


@app.command(rich_help_panel=TOOLS)
def init(
    data: Annotated[
        list[str] | None, typer.Option(help="data.source, where it is to be another folder; repeatable.")
    ] = None,
    column: Columns = None,
    recipe: Recipe = None,
) -> None:
    """Fit params.yaml to its images: classes, positive class, patients and sizes, as they are detected."""
    from xraylab.studies import begin

    for line in begin.init(Path.cwd(), data or [], column or [], recipe):
        print(line)


@app.command(rich_help_panel=TOOLS)
def watch() -> None:
    """Have DVC watch the folders and files of this machine that params.yaml names, and no others (dvc.yaml)."""
    from xraylab.studies import watch

    given, paths = _study()
    for path in watch.write(given, paths.root) or ["nothing: params.yaml names no folder or file of this machine"]:
        print(f"DVC watches {path}")


@study.command("list")
def study_list() -> None:
    """Name the published studies, and what each needs."""
    from xraylab.studies import tell

    print(*tell.listed(), sep="\n")


@study.command("show")
def study_show(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Without one, all are listed.")] = None,
) -> None:
    """Tell all about a published study: data, values and whose they are, results."""
    from xraylab.studies import presets, tell

    print(*(tell.shown(presets.read(name)) if name else tell.listed()), sep="\n")


@study.command("use")
def study_use(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A published study.")],
    data: Annotated[str | None, typer.Option(help="data.source: a folder, an archive or an address.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Choose epochs as the published study did.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an edited params.yaml.")] = False,
) -> None:
    """Make params.yaml that of a published study; `xraylab study NAME` does the same."""
    from xraylab.studies import begin

    print(*begin.here(Path.cwd(), name, data, published, force), sep="\n")


@app.command(rich_help_panel=TOOLS)
def show() -> None:
    """Print the comparison of the experiments, and what the paired tests say."""
    from rich.console import Console

    from xraylab import files
    from xraylab.paths import Paths
    from xraylab.report import shortcuts, terminal

    paths = Paths.here()
    summary = files.read_json(paths.evaluation / "summary.json")
    others = (paths.audit, paths.explanation / "summary.json")
    audit, explained = (files.read_json(path) if path.is_file() else None for path in others)
    Console().print(terminal.comparison(summary, shortcuts.warning(audit, explained)))


@app.command(rich_help_panel=TOOLS)
def experiments(
    commits: Annotated[int, typer.Option(min=1, help="How many commits, and the experiments that began there.")] = 1,
) -> None:
    """Print the runs of the workspace, of commits and of DVC's experiments, the best first, and how they differ."""
    import asyncio
    import json

    from rich.console import Console

    from xraylab.jobs import experiments
    from xraylab.jobs.dvc import Dvc

    given, paths = _study()
    shown = asyncio.run(Dvc(paths.root).output("exp", "show", "--json", "--num", str(commits)))
    rows = experiments.rows(json.loads(shown))
    Console().print(experiments.table(rows, experiments.reference(rows, given.study.baseline)))


@app.command(rich_help_panel=TOOLS)
def dry_run(
    set_param: Annotated[
        list[str], typer.Option("--set-param", "-S", metavar="KEY=VALUE", help="As `dvc exp run` takes it; repeatable.")
    ],
) -> None:
    """Say what `dvc exp run -S KEY=VALUE` would train again; nothing is run or written."""
    from xraylab.studies import dry_run

    for line in dry_run.lines(Path.cwd(), set_param):
        print(line)


@app.command(rich_help_panel=TOOLS)
def plan_size(
    difference: Annotated[
        float | None, typer.Option(help="In evaluate.primary; evaluate.margin where not given.")
    ] = None,
    power: Annotated[float, typer.Option(help="The chance to show it, if it is there.")] = 0.8,
) -> None:
    """Say how many test patients would show a difference, by this study's own agreement between networks."""
    from xraylab import files
    from xraylab.evaluate import power as planning

    given, paths = _study()
    summary = files.read_json(paths.evaluation / "summary.json")
    for line in planning.plan(summary, given.evaluate.margin if difference is None else difference, power):
        print(line)


@app.command(rich_help_panel=TOOLS)
def score(
    run: Run,
    epoch: Annotated[int | None, typer.Option(help="Counted from 0; the best one where not given.")] = None,
    side: Annotated[Literal["valid", "test"], typer.Option(help="The images to score.")] = "valid",
) -> None:
    """Score any kept epoch: accuracy, precision, recall, F1 and confusion."""
    from xraylab.predict import elsewhere, score

    given, paths = _study()
    model = elsewhere.run(paths, run).model
    figures = score.epoch(paths, model["experiment"], model["repeat"], epoch, side, given.predict.tta)
    if side == "test":
        print("Test figures of several epochs, compared, are no longer test figures: choose on validation.")
    print(f"{'run':10} {model['experiment']}/{model['repeat']}")
    print(f"{'split':10} {side}")
    for name, value in figures.items():
        print(f"{name:10} {value:.6f}" if isinstance(value, float) else f"{name:10} {value}")


@app.command(rich_help_panel=TOOLS)
def external(
    run: Run,
    folder: Annotated[Path, typer.Argument(help="A folder of X-rays that the study has not seen.", metavar="PATH")],
    layout: Annotated[str, typer.Option(help="As data.layout in params.yaml.")] = "auto",
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=LABEL", help="What PATH calls a class, where it is another name; repeatable."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Where to write it all, instead of reports/external/.")] = None,
) -> None:
    """Score a trained run on another data set, without the images that it has seen."""
    from xraylab.predict import external

    for line in external.run(*_study(), run, folder, layout, label or [], json):
        print(line)


@app.command(rich_help_panel=TOOLS)
def classify(
    run: Annotated[
        str, typer.Argument(help="A trained run: experiment/repeat, or an experiment with all its repeats.")
    ],
    place: Annotated[Path, typer.Argument(help="An X-ray, or a folder of them, at any depth.", metavar="PATH")],
    together: Annotated[
        list[str] | None, typer.Option("--with", metavar="RUN", help="Another run to average with; repeatable.")
    ] = None,
    csv: Annotated[Path, typer.Option(help="Where to write the table.")] = Path("classified.csv"),
    submission: Annotated[
        str | None,
        typer.Option(metavar="COLUMN,COLUMN", help="Write file name and class alone, under this header: Id,Label."),
    ] = None,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Write classes as their place in data.classes, from 0.")
    ] = False,
) -> None:
    """Classify X-rays that nobody has labelled, by the mean probabilities of trained runs."""
    from xraylab.predict import classify

    for line in classify.run(*_study(), [run, *(together or [])], place, csv, submission, numbers):
        print(line)


@app.command(rich_help_panel=TOOLS)
def lr_find(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="Write the curve (lr, loss) to this CSV file.")] = None,
) -> None:
    """Suggest a learning rate: what `train.lr: find` would take. The experiment must be planned (`dvc repro plan`)."""
    from xraylab import tables
    from xraylab.paths import parse_run
    from xraylab.stages import train

    experiment, repeat = parse_run(run)
    curve, suggestion = train.find_rate(*_study(), experiment, repeat or 0)
    if out:
        tables.write(curve, out)
    print(f"train.lr: {suggestion:.2g}")


@app.command(rich_help_panel=TOOLS)
def ensemble(
    runs: Annotated[
        list[str], typer.Argument(help="An experiment (all its repeats), or one run as experiment/repeat.")
    ],
    side: Annotated[Literal["valid", "test"], typer.Option(help="The images to score.")] = "valid",
    checkpoint: Annotated[Literal["best", "last"], typer.Option(help="Which of each run.")] = "best",
) -> None:
    """Score runs together: the mean of their predicted probabilities. It must be predicted already (`dvc repro`)."""
    from xraylab.evaluate import ensemble

    given, paths = _study()
    figures = ensemble.figures(paths, runs, given.data.classes, given.data.positive, checkpoint, side)
    if side == "test":
        print("Test figures of several ensembles, compared, are no longer test figures: choose on validation.")
    for name, value in figures.items():
        print(f"{name:10} {value:.6f}" if isinstance(value, float) else f"{name:10} {value}")


@app.command(rich_help_panel=TOOLS)
def audit(
    folders: Annotated[
        list[Path], typer.Argument(help="Any folder of X-rays, or several, each a source.", metavar="FOLDER...")
    ],
    layout: Annotated[str, typer.Option(help="As data.layout in params.yaml.")] = "auto",
    patient: Annotated[str | None, typer.Option(help="A regular expression with a group (?P<patient>...).")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the whole audit to this file.")] = None,
) -> None:
    """Say what is in folders of X-rays and what is wrong with it: duplicates, labels, patients, shortcuts."""
    from xraylab import files
    from xraylab.data.audit import folder as read

    record = read.with_given_sides(read.any_folders(folders, layout, patient))
    if json:
        files.write_json(record, json)
    for line in read.lines(record):
        print(line)


@data.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    link: Annotated[bool, typer.Option("--link", help="Links to the files below data/raw instead of copies.")] = False,
    fold: Annotated[int, typer.Option(help="With split.strategy folds: which one.")] = 0,
) -> None:
    """Write the used images as class folders below train, valid and test, for other tools."""
    from xraylab.data import export

    _, paths = _study()
    counts = export.write(folder, paths, link, fold)
    print(f"{folder}: {', '.join(f'{count} {side}' for side, count in counts.items())} images")


@app.command(rich_help_panel=TOOLS)
def run(
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many experiments at once; without it one per GPU, or one. More than one job shares the cores out:"
            " each computes in (cores / N) threads. The number of threads changes the last bits of a result,"
            " is written to its model.json, and must stay the same for a stopped training to go on where it was.",
        ),
    ] = None,
) -> None:
    """Bring the study up to date like `dvc repro`, with its experiments side by side."""
    from xraylab.jobs import run
    from xraylab.paths import Paths

    run.run(Paths.here(), jobs)


@app.command(rich_help_panel=TOOLS)
def search() -> None:
    """Try the settings under `search` in params.yaml, each trial a DVC experiment; goes on where it stopped."""
    from importlib.util import find_spec

    from xraylab.errors import MissingError

    if find_spec("optuna") is None:
        raise MissingError("xraylab search needs Optuna, which is not installed: pip install 'optuna>=4'")
    from xraylab.search import command

    command.run(*_study())


def _study() -> "tuple[Params, Paths]":
    from xraylab.params import config
    from xraylab.paths import Paths

    paths = Paths.here()
    return config.read(paths.params), paths


def _run(stage: str, *arguments: str | int) -> None:
    """Run a stage. It is announced before its libraries are imported, which takes seconds.

    Where it fails, git sees that params.yaml is another than before `dvc exp run -S`.
    """
    try:
        _announced(stage, *arguments)
    except XraylabError:
        _touch_params()
        raise


def _touch_params() -> None:
    from xraylab import files

    if Path("params.yaml").is_file():
        files.touch(Path("params.yaml"))


def _announced(stage: str, *arguments: str | int) -> None:
    study = _study()
    if not study[1].has_code:
        fingerprints.check(stage, study[1].code)
    run = "-".join(map(str, arguments))
    progress.say(f"{stage} {run}".rstrip() + ": starting")
    import_module(f"xraylab.stages.{stage}").run(*study, *arguments)
