"""Runs the notebooks of the tutorial and keeps their outputs in them: `make notebooks`.

Each runs in an empty folder. A cell tagged `parameters` sets the size; a test runs the same notebooks smaller.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent / "notebooks"
SECONDS = 600  # of one cell
CLEAR = "\x1b[2K"  # clears a line, which only progress bars do
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")  # colours, and moves of the cursor
FOLDER = re.compile(re.escape(f"{tempfile.gettempdir()}/{tempfile.gettempprefix()}") + r"\w+/")


def main() -> None:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if sys.argv[1:] and not any(name in path.name for name in sys.argv[1:]):
            continue
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            run(notebook, Path(folder))
        without_traces(notebook)
        nbformat.write(notebook, path)


def run(notebook: Any, folder: Path, parameters: str = "") -> None:
    """Execute every cell in `folder`, after `parameters` replaced what the cell of this tag sets."""
    for cell in notebook.cells:
        if parameters and "parameters" in cell.metadata.get("tags", []):
            cell.source += f"\n{parameters}"
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()


def without_traces(notebook: Any) -> None:
    """Drop what differs between two runs or names this machine: times, progress bars, warnings, temporary folders."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_cleaned, _joined(cell.outputs)) if output]


def _joined(outputs: list[Any]) -> list[Any]:
    """The outputs, with what was printed in several pieces as one."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.get("name") and output.get("name") == joined[-1].get("name"):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _cleaned(output: Any) -> Any:
    """The output as it is kept; None where nothing of it is."""
    if output.output_type == "stream":
        lines = [line.rpartition(CLEAR)[2] for line in output.text.splitlines()]
        lines = [line for line in lines if not ("\u2501" in line and "%" in line)]
        output.text = FOLDER.sub("", CONTROL.sub("", "\n".join(lines))).strip("\n") + "\n"
        return None if output.name == "stderr" or not output.text.strip() else output
    output.get("metadata", {}).clear()
    html = output.get("data", {}).get("text/html", "")
    is_bar = output.output_type == "display_data" and "image/png" not in output.data and "<table" not in html
    return None if is_bar else output


if __name__ == "__main__":
    main()
