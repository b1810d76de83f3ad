"""Run the study, vary its settings, and see what a change would cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xraylab.cli.common import ExperimentName, Run, print_lines, read_study

if TYPE_CHECKING:
    from xraylab.jobs.cluster import Call
    from xraylab.jobs.engines.engine import Resources

app = typer.Typer()
PANEL = "Run and search"
ON = "On a cluster (--on)"
JOB = "What each job gets, here and on a cluster"

Engine = Annotated[
    str | None,
    typer.Option(metavar="ENGINE", help="Run each of them as a job of a cluster: slurm or ray.", rich_help_panel=ON),
]
GpusPerJob = Annotated[
    int, typer.Option(min=0, help="GPUs of each job; here one in turn unless this is set.", rich_help_panel=JOB)
]
JobsPerGpu = Annotated[int, typer.Option(min=1, help="Small jobs that share one GPU.", rich_help_panel=JOB)]
Cpus = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Cores of each job, and threads in which it computes; by default 1 on a cluster, and here all cores"
        " divided by the jobs at once.",
        rich_help_panel=JOB,
    ),
]
Minutes = Annotated[
    int | None, typer.Option(min=1, help="Minutes of each job; one that needs more goes on.", rich_help_panel=ON)
]
Partition = Annotated[str | None, typer.Option(help="SLURM's partition.", rich_help_panel=ON)]
SlurmOptions = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Any option of sbatch, such as qos=long; repeatable.", rich_help_panel=ON),
]
RayOptions = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="An option of Ray's, such as address=URL; repeatable.", rich_help_panel=ON),
]
GitRemote = Annotated[str, typer.Option(help="The git remote that the jobs clone from.", rich_help_panel=ON)]
Scratch = Annotated[
    str | None,
    typer.Option(
        help="A folder on each node for the clones and for a cache that its jobs share; by default a temporary one per"
        " job.",
        rich_help_panel=ON,
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        help="A folder for the engine's files, if its nodes do not see the study's .xraylab/jobs.", rich_help_panel=ON
    ),
]
Commit = Annotated[bool, typer.Option("--commit", help="Commit what is not.", rich_help_panel=ON)]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for another caller.", rich_help_panel=ON)]
Cancel = Annotated[
    bool, typer.Option("--cancel", help="End the jobs that an earlier call has submitted.", rich_help_panel=ON)
]


@app.command("run", hidden=True)
@app.command(rich_help_panel=PANEL)
def repro(
    context: typer.Context,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Experiments at once; by default one per GPU, or one. Several jobs share the cores: each computes in"
            " (cores / N) threads. The number of threads changes the last bits of a result, is written to its"
            " model.json, and must stay the same for a stopped training to resume.",
        ),
    ] = None,
    on: Engine = None,
    gpus_per_job: GpusPerJob = 0,
    jobs_per_gpu: JobsPerGpu = 1,
    cpus: Cpus = None,
    time: Minutes = None,
    partition: Partition = None,
    slurm: SlurmOptions = None,
    ray: RayOptions = None,
    git_remote: GitRemote = "origin",
    scratch: Scratch = None,
    folder: Folder = None,
    commit: Commit = False,
    wait: Wait = False,
    attach: Annotated[
        bool, typer.Option("--attach", help="Watch the jobs that an earlier call has submitted.", rich_help_panel=ON)
    ] = False,
    cancel: Cancel = False,
) -> None:
    """Bring the study up to date like `dvc repro`, N experiments side by side (--jobs N) or on a cluster (--on)."""
    from xraylab.errors import DataError
    from xraylab.jobs import cluster, repro
    from xraylab.paths import Paths

    call = _cluster_call(context)
    if call is None:
        repro.run(Paths.here(), jobs, _resources(context))
        return
    if jobs is not None:
        raise DataError("--jobs is of this machine alone, and --on of a cluster: give one of them")
    command = cluster.attach if attach else cluster.cancel if cancel else cluster.run
    command(Paths.here(), call)


@app.command(rich_help_panel=PANEL)
def cluster_file(
    kind: Annotated[str, typer.Argument(metavar="sky|kubernetes", help="SkyPilot or Kubernetes.")],
    nodes: Annotated[int, typer.Option(min=1, help="Machines, or pods at once.")] = 2,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of each machine or pod.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="Cores of each run, and threads in which it computes.")] = 4,
    git_remote: Annotated[str, typer.Option(help="The git remote that the runs clone from.")] = "origin",
) -> None:
    """Print a commented YAML file with which SkyPilot or Kubernetes trains the study's runs."""
    from xraylab.jobs import cluster_files
    from xraylab.paths import Paths

    print(cluster_files.text(Paths.here(), kind, nodes, gpus, cpus, git_remote), end="")


def _cluster_call(context: typer.Context) -> "Call | None":
    """The call that the options of a cluster describe; None without --on. Errors: DataError where they do not fit."""
    from xraylab.errors import DataError
    from xraylab.jobs.cluster import Call

    given = context.params
    if given["on"] is None:
        if cluster_flags := _flags_used(context, ON):
            raise DataError(f"{cluster_flags[0]} is for a cluster: add --on slurm or --on ray")
        return None
    flags = {name for name in ("slurm", "ray") if given[name]}
    if others := sorted(flags - {given["on"]}):
        raise DataError(f"--{others[0]} is not for --on {given['on']}")
    where = {name: given[name] for name in ("git_remote", "commit", "wait", "scratch", "folder")}
    return Call(given["on"], _resources(context), **where)


def _resources(context: typer.Context) -> "Resources":
    """What each job gets. Errors: DataError for options of an engine that cannot be read."""
    from xraylab.jobs.engines.engine import Resources

    given, engine = context.params, context.params["on"]
    options = parse_options(f"--{engine}", given.get(engine) or []) if engine else {}
    return Resources(
        given["gpus_per_job"], given["jobs_per_gpu"], given["cpus"], given["time"], given["partition"], options
    )


def _flags_used(context: typer.Context, panel: str) -> list[str]:
    """The flags of a panel of the help that stand on the command line."""
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if getattr(parameter, "rich_help_panel", None) == panel
        and (source := context.get_parameter_source(str(parameter.name)))
        and source.name == "COMMANDLINE"
    ]


def parse_options(flag: str, pairs: list[str]) -> dict[str, str]:
    """Options of an engine, from KEY=VALUE. Errors: DataError."""
    from xraylab.errors import DataError

    parted = [pair.partition("=") for pair in pairs]
    if wrong := [pair for pair, (key, sign, _) in zip(pairs, parted, strict=True) if not (key and sign)]:
        raise DataError(f"{flag} {wrong[0]}: write {flag} KEY=VALUE")
    return {key: value for key, _, value in parted}


@app.command(rich_help_panel=PANEL)
def search(
    context: typer.Context,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trials at once; by default search.workers.")] = None,
    on: Engine = None,
    gpus_per_job: GpusPerJob = 0,
    jobs_per_gpu: JobsPerGpu = 1,
    cpus: Cpus = None,
    time: Minutes = None,
    partition: Partition = None,
    slurm: SlurmOptions = None,
    ray: RayOptions = None,
    git_remote: GitRemote = "origin",
    scratch: Scratch = None,
    folder: Folder = None,
    commit: Commit = False,
    wait: Wait = False,
    cancel: Cancel = False,
) -> None:
    """Try the settings under `search` in params.yaml, each trial a DVC experiment; resumes where it stopped."""
    from importlib.util import find_spec

    from xraylab.errors import MissingError

    if find_spec("optuna") is None:
        raise MissingError("xraylab search needs Optuna, which is not installed: pip install 'optuna>=4'")
    from xraylab.jobs import cluster
    from xraylab.search import command

    call = _cluster_call(context)
    params, paths = read_study()
    if call and cancel:
        cluster.cancel(paths, call, "search")
        return
    resources = _resources(context)
    command.run(params if jobs is None else command.with_workers(params, jobs), paths, call, resources)


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
    experiment: ExperimentName,
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
