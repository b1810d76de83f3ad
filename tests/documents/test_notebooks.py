"""The notebooks of the tutorial run from the first to the last cell, at a small size, and are kept with outputs."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
import run_notebooks
import small
from under_dvc import environment

FOLDER = small.REPOSITORY / "docs/notebooks"
SMALL = {
    "1-first-study": "n_healthy, n_tb, epochs = 60, 30, 1",
    "2-your-own-data": "n_healthy, n_tb, epochs, pixels = 60, 30, 1, 48",
    "3-right-for-the-right-reason": "n_healthy, n_tb, epochs, pixels = 60, 40, 1, 48",
}


def code_cells(name: str) -> list[Any]:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment(TMPDIR=str(tmp_path)).items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    run_notebooks.run(notebook, tmp_path, SMALL[name])
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "Running stage 'cache'" in printed
    assert "ERROR" not in printed
    assert "error:" not in printed


def test_every_notebook_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_is_kept_with_its_outputs_and_names_no_machine(name: str) -> None:
    cells = code_cells(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) >= 2
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert re.findall(r"/tmp/|/home/|/root/|/work/|\\u001b", text) == []
    assert len(text) < 600_000


def test_what_a_run_leaves_behind_is_dropped() -> None:
    output = nbformat.v4.new_output
    bar = "reading \u2501\u2501 0%\r\x1b[2Kreading \u2501\u2501 100%\n\x1b[1A\x1b[2K"
    cell = nbformat.v4.new_code_cell(
        "x",
        outputs=[
            output("stream", name="stdout", text=bar),
            output(
                "stream", name="stdout", text=f"{run_notebooks.tempfile.gettempdir()}/tmpab_1/films: \x1b[31m3\x1b[0m\n"
            ),
            output("stream", name="stderr", text="a warning\n"),
            output("display_data", data={"text/html": "<progress value=3>"}),
            output("display_data", data={"text/html": "<table></table>"}),
        ],
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    run_notebooks.without_traces(notebook)
    assert [each.get("text", each.get("data")) for each in cell.outputs] == [
        "films: 3\n",
        {"text/html": "<table></table>"},
    ]
