"""The health of a machine and of a study."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from xraylab.integrity.verify import Verdict

app = typer.Typer()
PANEL = "Health"
Deep = Annotated[bool, typer.Option("--deep", help="Also read what takes long, such as every object of DVC's cache.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a list of objects: check, level, text, advice.")]


@app.command(rich_help_panel=PANEL)
def doctor(deep: Deep = False, as_json: AsJson = False) -> None:
    """Look for what would stop or spoil a run, and mend what a killed process has left.

    Versions, devices, disk space, limits, permissions, git and DVC, locks and temporary folders, params.yaml and saved
    states of trainings; outside of a study the machine alone. Exits with 1 where something needs you.
    """
    from xraylab.doctor import examine, text

    findings = list(examine.examine(Path.cwd(), deep))
    width = text.WIDTH if sys.stdout.isatty() else None
    print(text.as_json(findings) if as_json else "\n".join([*text.lines(findings, width), text.summary(findings)]))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def verify(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a list of objects: stage, path, state, level, text.")
    ] = False,
) -> None:
    """Check from raw data to report what does not follow from what: exit 1 where something is wrong.

    Every output is hashed anew and compared with dvc.lock: damaged, edited or absent ones, and stages that ran with
    other inputs, parameters or code than those of now. Parts that were not pulled, or not run yet, are no error.
    """
    import json

    from xraylab.errors import XraylabError
    from xraylab.integrity import verify
    from xraylab.paths import Paths

    try:
        verdicts = verify.verify(Paths.here())
    except (XraylabError, OSError) as error:
        if not as_json:
            raise
        verdicts = [verify.Verdict("", "", "unreadable", str(error))]
    if as_json:
        print(json.dumps(verify.as_rows(verdicts), indent=2))
    else:
        _print_verdicts(verdicts)
    if any(each.level == "error" for each in verdicts):
        raise typer.Exit(1)


def _print_verdicts(verdicts: "list[Verdict]") -> None:
    from rich.table import Table
    from rich.text import Text

    from xraylab import terminal

    rows = [(each.stage, each.path, f"{each.state}: {each.text}" if each.text else each.state) for each in verdicts]
    console = terminal.Console()
    if console.is_terminal:
        table = Table("stage", "what", "state", box=None)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    else:  # for other programs: a line for each, with whole names
        print(*("\t".join(cell.replace("\t", " ") for cell in row) for row in rows), sep="\n")
    wrong = [each for each in verdicts if each.level == "error"]
    stages = ", ".join(dict.fromkeys(each.stage for each in wrong))
    if any(each.state == "changed" for each in wrong):
        console.print("what was damaged: `dvc checkout --force PATH` brings it back, after `xraylab doctor --deep`")
    console.print(
        f"{stages}: `dvc repro` makes it good" if wrong else "everything that is here follows from its inputs"
    )
