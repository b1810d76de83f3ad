"""Run the study, vary its settings, and see what a change would cost."""

from pathlib import Path
from typing import Annotated

import typer

from xraylab.cli.common import Run, print_lines, read_study

app = typer.Typer()
PANEL = "Run and search"
ON = "On a cluster (--on)"


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
    on: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE", help="Run each experiment as a job of a cluster: slurm or ray.", rich_help_panel=ON
        ),
    ] = None,
    gpus_per_job: Annotated[int, typer.Option(min=0, help="GPUs of each job.", rich_help_panel=ON)] = 0,
    jobs_per_gpu: Annotated[
        int, typer.Option(min=1, help="Small experiments that share one GPU.", rich_help_panel=ON)
    ] = 1,
    cpus: Annotated[
        int, typer.Option(min=1, help="Cores of each job, and threads in which it computes.", rich_help_panel=ON)
    ] = 1,
    time: Annotated[
        int | None, typer.Option(min=1, help="Minutes of each job; one that needs more goes on.", rich_help_panel=ON)
    ] = None,
    partition: Annotated[str | None, typer.Option(help="SLURM's partition.", rich_help_panel=ON)] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Any option of sbatch, such as qos=long; repeatable.", rich_help_panel=ON
        ),
    ] = None,
    ray: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="An option of Ray's, such as address=URL; repeatable.", rich_help_panel=ON
        ),
    ] = None,
    git_remote: Annotated[
        str, typer.Option(help="The git remote that the jobs clone from.", rich_help_panel=ON)
    ] = "origin",
    scratch: Annotated[
        str | None,
        typer.Option(
            help="A folder on each node for the clones and for a cache that its jobs share; by default a temporary one"
            " per job.",
            rich_help_panel=ON,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="A folder for the engine's files, if its nodes do not see the study's .xraylab/jobs.",
            rich_help_panel=ON,
        ),
    ] = None,
    commit: Annotated[bool, typer.Option("--commit", help="Commit what is not.", rich_help_panel=ON)] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another caller.", rich_help_panel=ON)] = False,
    attach: Annotated[
        bool, typer.Option("--attach", help="Watch the jobs that an earlier call has submitted.", rich_help_panel=ON)
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End the jobs that an earlier call has submitted.", rich_help_panel=ON)
    ] = False,
) -> None:
    """Bring the study up to date like `dvc repro`, N experiments side by side (--jobs N) or on a cluster (--on)."""
    from xraylab.errors import DataError
    from xraylab.jobs import cluster, repro
    from xraylab.jobs.engines.engine import Resources
    from xraylab.paths import Paths

    if on is None:
        if cluster_flags := _flags_used(context, ON):
            raise DataError(f"{cluster_flags[0]} is for a cluster: add --on slurm or --on ray")
        repro.run(Paths.here(), jobs)
        return
    if jobs is not None:
        raise DataError("--jobs is of this machine alone, and --on of a cluster: give one of them")
    flags = {"slurm": slurm or [], "ray": ray or []}
    if others := [f"--{name}" for name, pairs in flags.items() if pairs and name != on]:
        raise DataError(f"{others[0]} is not for --on {on}")
    options = parse_options(f"--{on}", flags.get(on, []))
    resources = Resources(gpus_per_job, jobs_per_gpu, cpus, time, partition, options)
    call = cluster.Call(on, resources, git_remote, commit, wait, scratch, folder)
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
