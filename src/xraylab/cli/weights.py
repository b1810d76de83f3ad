"""Named pretrained weights: which there are, what is known of them, and pickled files made into safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from xraylab.cli.common import print_lines

app = typer.Typer()
PANEL = "Start a study"
weights = typer.Typer(no_args_is_help=True)
app.add_typer(weights, name="weights", rich_help_panel=PANEL, help="Weights for model.pretrained, by name.")


@weights.command("list")
def list_weights() -> None:
    """List the named weights: architecture, image size, and whether they are on this machine."""
    from xraylab.model import named
    from xraylab.registry import weights as registry

    print(f"{'name':26} {'architecture':36} {'pixels':>6}  file")
    for entry in registry.read().values():
        absent = "put it here by hand (weights show NAME)" if entry.hub is None else "downloaded at first use"
        file = "on this machine" if named.is_here(entry) else absent
        print(f"{entry.name:26} {entry.arch:36} {entry.img_size:6}  {file}")


@weights.command("show")
def show_weights(name: Annotated[str, typer.Argument(metavar="NAME", help="As in model.pretrained.")]) -> None:
    """Show what is known of named weights, where that stands, and where their file is looked for."""
    from xraylab.errors import WeightsError
    from xraylab.model import named
    from xraylab.registry import datasets
    from xraylab.registry import weights as registry

    entry = registry.find(name)
    if entry is None:
        raise WeightsError(f"there are no weights called {name}{registry.nearest(name)}: `xraylab weights list`")
    print_lines(datasets.describe(entry))
    path = named.local_file(entry)
    print(f"on this machine: {path or f'no; it is looked for at {named.folder() / entry.local_name}'}")


@weights.command()
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A network or state dict that torch.save wrote.")],
) -> None:
    """Write the tensors of a pickled file beside it as safetensors; none of the pickle's code runs."""
    from xraylab.model import unpickling

    print(f"written to {unpickling.convert(file)}")
