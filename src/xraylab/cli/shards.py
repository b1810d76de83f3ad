"""Many images: their index and their cache as jobs of a cluster."""

from typing import Annotated

import typer

from xraylab.cli.common import print_lines
from xraylab.cli.running import parse_options

app = typer.Typer()
PANEL = "Run and search"


@app.command(rich_help_panel=PANEL)
def shards(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="index or cache.")],
    on: Annotated[str, typer.Option(metavar="ENGINE", help="The cluster: slurm or ray, as far as it is installed.")],
    parts: Annotated[int, typer.Option(min=1, help="How many jobs share the shards.")],
    cpus: Annotated[int, typer.Option(min=1, help="Cores of each job.")] = 1,
    time: Annotated[int | None, typer.Option(min=1, help="Minutes of each job.")] = None,
    partition: Annotated[str | None, typer.Option(help="SLURM's partition.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Any option of the engine, such as qos=long.")
    ] = None,
) -> None:
    """Make the shards of `index` or `cache` as jobs of a cluster whose nodes see this folder; then `dvc repro`."""
    from xraylab.errors import DataError
    from xraylab.jobs import parts as jobs
    from xraylab.jobs.engines import ENGINES
    from xraylab.jobs.engines.engine import Resources
    from xraylab.paths import Paths

    if on not in ENGINES:
        raise DataError(f"--on {on} is no engine: write {' or '.join(ENGINES)}")
    options, paths = parse_options("--option", option or []), Paths.here()
    resources = Resources(cpus=cpus, minutes=time, partition=partition, options=options)
    commands = jobs.commands(paths, stage, parts)
    jobs.run(commands, ENGINES[on](), resources, paths.state / "jobs" / f"{stage}-shards", print)
    print_lines([f"all shards are finished: `dvc repro {stage}` puts them together"])
