"""Begin a study: look at images, write params.yaml, take a published study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from xraylab.cli.common import Layout, print_lines, read_study

if TYPE_CHECKING:
    from typer._click.core import Command, Context

app = typer.Typer()
PANEL = "Start a study"

Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="WHAT=NAME", help="data.columns, such as label=Befund or patient=Pat-Nr; repeatable."),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="robust: settings for films of other hospitals, and an experiment that uses them; backbones: a linear "
        "probe and a fine-tuning of all named weights on this machine."
    ),
]
Published = Annotated[bool, typer.Option("--published", help="Choose epochs as the published study did.")]


@app.command(rich_help_panel=PANEL)
def new(
    folder: Annotated[Path, typer.Argument(help="Folder to create.")],
    study: Annotated[str | None, typer.Option(help="A published study; `xraylab study list` names them.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="data.source: a folder, an archive or an address; repeatable.")
    ] = None,
    published: Published = False,
    column: Columns = None,
    recipe: Recipe = None,
) -> None:
    """Create a study in a new folder."""
    from xraylab.studies import scaffold

    print_lines(scaffold.new(folder, study, data or [], published, column or [], recipe))


@app.command(rich_help_panel=PANEL)
def init(
    data: Annotated[
        list[str] | None, typer.Option(help="data.source, if it is to be another folder; repeatable.")
    ] = None,
    column: Columns = None,
    recipe: Recipe = None,
) -> None:
    """Fit params.yaml to the study's images: detect classes, positive class, patients and sizes."""
    from xraylab.studies import scaffold

    print_lines(scaffold.init(Path.cwd(), data or [], column or [], recipe))


@app.command(rich_help_panel=PANEL)
def track_source() -> None:
    """Make DVC watch the local folders and files that params.yaml names, and no others (dvc.yaml)."""
    from xraylab.studies import watch

    params, paths = read_study()
    for path in watch.write(params, paths.root) or ["nothing: params.yaml names no folder or file of this machine"]:
        print(f"DVC watches {path}")


@app.command(rich_help_panel=PANEL)
def audit(
    folders: Annotated[
        list[Path], typer.Argument(help="A folder of X-rays, or several, each a source.", metavar="FOLDER...")
    ],
    layout: Layout = "auto",
    patient: Annotated[str | None, typer.Option(help="A regular expression with a group (?P<patient>...).")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the whole audit to this file.")] = None,
) -> None:
    """Check folders of X-rays: what is in them, duplicates, labels, patients, shortcuts; needs no study."""
    from xraylab import files
    from xraylab.data.audit.audit import audit_folders, lines

    record = audit_folders(folders, layout, patient).record
    if json:
        files.write_json(record.to_json(), json)
    print_lines(lines(record))


class Studies(TyperGroup):
    """`xraylab study NAME` is short for `xraylab study use NAME`."""

    def resolve_command(self, ctx: "Context", args: list[str]) -> "tuple[str | None, Command | None, list[str]]":
        return super().resolve_command(ctx, args if args[0] in self.commands else ["use", *args])


study = typer.Typer(no_args_is_help=True, cls=Studies)
app.add_typer(study, name="study", rich_help_panel=PANEL, help="List, show or use published studies and recipes.")


@study.command("list")
def list_studies() -> None:
    """List the published studies with what each needs, and the recipes."""
    from xraylab.studies import describe

    print_lines(describe.list_studies())


@study.command("show")
def show_study(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A published study or a recipe; without one, list all.")
    ] = None,
) -> None:
    """Show a published study: its data, values and their origin, and results; or what a recipe is for."""
    from xraylab.studies import describe

    print_lines(describe.show(name) if name else describe.list_studies())


@study.command("use")
def use_study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A published study, or a recipe.")],
    data: Annotated[str | None, typer.Option(help="data.source: a folder, an archive or an address.")] = None,
    published: Published = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an edited params.yaml.")] = False,
) -> None:
    """Replace params.yaml by that of a published study, or lay a recipe over it; `xraylab study NAME` does the same."""
    from xraylab.studies import scaffold

    print_lines(scaffold.use(Path.cwd(), name, data, published, force))


images = typer.Typer(no_args_is_help=True)
app.add_typer(images, name="data", rich_help_panel=PANEL, help="Export the study's images.")


@images.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to create.")],
    link: Annotated[bool, typer.Option("--link", help="Link to the files below data/raw instead of copying.")] = False,
    fold: Annotated[int, typer.Option(help="Which fold, where split.strategy is folds.")] = 0,
) -> None:
    """Export the used images as class folders below train, valid and test, for other tools."""
    from xraylab.data import export

    _, paths = read_study()
    counts = export.write(folder, paths, link, fold)
    print(f"{folder}: {', '.join(f'{count} {split}' for split, count in counts.items())} images")
