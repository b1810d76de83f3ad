"""The command line: one command per stage of dvc.yaml, and the tools around them.

A command imports the libraries that it needs when it runs, so that `--help` answers at once.
"""

import sys
import warnings
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from xraylab.cli import failures, health, models, results, running, serving, shards, sharing, stages, start, weights
from xraylab.errors import XraylabError
from xraylab.text import printable_streams


class Commands(TyperGroup):
    """The commands, whose failures for reasons of the system are sentences."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; click itself would call the end of a damaged file an abort."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if reason := failures.describe(error):
                raise XraylabError(reason) from error
            raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Rapid, honest and versioned experiments with X-ray classifiers. "
    "`dvc repro` runs the stages; each can also be run alone in a study's top folder.",
)
for part in (
    start.app,
    stages.app,
    running.app,
    shards.app,
    results.app,
    models.app,
    serving.app,
    sharing.app,
    weights.app,
    health.app,
):
    app.add_typer(part)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"xraylab {version('xraylab')}")
        raise typer.Exit


@app.callback()
def options(
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
    with printable_streams():
        try:
            app(prog_name="xraylab")
        except XraylabError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
