"""The report for a paper: nothing in it breaks LaTeX, HTML or Markdown, and every number is the page's own."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import finished_findings
import finished_study
import pytest
from PIL import Image

from xraylab import files
from xraylab.cli import stages as commands
from xraylab.errors import DataError
from xraylab.paths import Paths
from xraylab.report.paper import latex, tables, write
from xraylab.report.paper.tables import Cell, Table
from xraylab.stages import evaluate, report

HOSTILE, SOURCE = "T_B", "a_b & c%"  # a class, whose name is a folder's, and where the images are
SVG = "{http://www.w3.org/2000/svg}"
UNESCAPED = re.compile(r"(?<!\\)[_%#^~]|(?<!\\)\$(?![^$]*\$)")


def _written(root: Path, make: Callable[..., Any], changes: dict[str, Any], **more: Any) -> tuple[Paths, Path]:
    params, paths = make(root, changes, **more)
    evaluate.run(params, paths)
    folder = root / "paper"
    write.write(report.read(params, paths), folder)
    return paths, folder


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[Paths, Path]:
    classes = {"data": {"classes": ["Healthy", HOSTILE], "positive": HOSTILE, "source": SOURCE}}
    return _written(tmp_path_factory.mktemp("single"), finished_study.make, classes)


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Paths, Path]:
    return _written(tmp_path_factory.mktemp("findings"), finished_findings.make, {})


@pytest.fixture(params=["single", "findings"])
def paper(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)[1]
    return folder


def _tex(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.rglob("*.tex")}


def test_every_figure_is_a_png_of_300_dpi_at_a_column_s_width_and_an_svg_with_text(paper: Path) -> None:
    pictures = sorted((paper / "figures").glob("*.png"))
    assert {"all-loss", "all-roc", "curves-baseline-loss", "curves-l2-loss", "summary-auroc"} <= {
        path.stem for path in pictures
    }
    for path in pictures:
        with Image.open(path) as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
            assert image.width / 300 * 25.4 == pytest.approx(
                min((85, 180), key=lambda mm: abs(mm - image.width / 11.81)), abs=0.2
            )
        assert list(ET.parse(path.with_suffix(".svg")).iter(f"{SVG}text"))


def test_a_chart_whose_key_was_beside_it_on_the_page_has_it_within(single: tuple[Paths, Path]) -> None:
    picture = ET.parse(next((single[1] / "figures").glob("roc-*-1.svg")))
    texts = {"".join(each.itertext()) for each in picture.iter(f"{SVG}text")}
    assert {"baseline", "l2", "chance"} <= texts


def test_latex_is_balanced_and_escaped(paper: Path) -> None:
    for name, text in _tex(paper).items():
        begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
        assert sorted(begun) == sorted(ended), name
        bare = re.sub(r"\\[{}\\]", "", text)
        assert bare.count("{") == bare.count("}"), name
        assert text.isascii() or not re.search("[−±×≤≥→↓†…–—“”‘’\u202f]", text), name
        prose = re.sub(r"\\(label|input|includegraphics(\[[^]]*\])?){[^}]*}|\$[^$]*\$", "", text)
        assert not UNESCAPED.search(prose), (name, UNESCAPED.search(prose))


def test_each_row_of_a_table_has_as_many_cells_as_the_table_has_columns(paper: Path) -> None:
    for name, text in _tex(paper / "tables").items():
        columns = re.search(r"\\begin{(?:tabular|longtable)}{(.*)}\n", text)
        assert columns, name
        width = len(re.sub(r"p{[^}]*}", "p", columns[1]))
        rows = re.findall(r"^(.*) \\\\$", text, re.MULTILINE)
        assert rows
        for row in rows:
            spans = sum(int(span) - 1 for span in re.findall(r"\\multicolumn{(\d+)}", row))
            assert len(re.split(r"(?<!\\)&", row)) + spans == width, (name, row)


def test_hostile_names_are_text_in_every_format(single: tuple[Paths, Path]) -> None:
    _, folder = single
    assert r"between Healthy and T\_B" in (folder / "methods.tex").read_text(encoding="utf-8")
    assert r"a\_b \& c\%" in (folder / "methods.tex").read_text(encoding="utf-8")
    assert r"a\_b & c%" in (folder / "methods.md").read_text(encoding="utf-8")
    assert r"& T\_B &" in _tex(folder / "tables")["data"]
    assert "a_b &amp; c%" in (folder / "word.html").read_text(encoding="utf-8")


def test_main_tex_shows_every_file(paper: Path) -> None:
    inputs = re.findall(r"\\input{(.*)}", (paper / "main.tex").read_text(encoding="utf-8"))
    there = {path.relative_to(paper).with_suffix("").as_posix() for path in paper.rglob("*.tex")} - {"main"}
    assert set(inputs) == there
    packages = re.findall(r"\\usepackage(?:\[.*\])?{(\w+)}", (paper / "main.tex").read_text(encoding="utf-8"))
    assert {"booktabs", "longtable", "adjustbox", "graphicx"} <= set(packages)


class _Cells(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.inside = tag in ("td", "th")
        self.cells += [""] if self.inside else []

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


def test_a_table_has_the_metrics_of_the_evaluation(single: tuple[Paths, Path]) -> None:
    paths, folder = single
    summary = files.read_json(paths.evaluation / "summary.json")
    means = {
        row["experiment"]: row for row in summary["means"] if row["checkpoint"] == "best" and row["split"] == "test"
    }
    text = (folder / "tables/comparison-comparison-of-the-experiments.html").read_text(encoding="utf-8")
    rows = [_Cells(row).cells for row in text.split("<tr>")[3:]]
    assert {row[0].split()[0] for row in rows} == set(means)
    for row in rows:
        assert row[7].split()[0] == f"{means[row[0].split()[0]]['auroc']:.3f}"


def test_captions_state_images_intervals_and_selection(
    single: tuple[Paths, Path], findings: tuple[Paths, Path]
) -> None:
    caption = _tex(single[1] / "tables")["comparison-comparison-of-the-experiments"]
    assert "Test set: 16 images (patients unknown)." in caption
    assert r"95 \% confidence intervals (" in caption
    assert "Best epoch: the epoch with the best F1 on the validation images." in caption
    curve = _tex(single[1] / "figures")["curves-baseline-loss"]
    assert "Training set: 16 images (patients unknown); Validation set: 16 images" in curve
    caption = _tex(findings[1] / "figures")["all-roc"]
    assert "Test set: 90 images of 45 patients." in caption


def test_methods_are_facts_and_what_is_unknown_is_left_to_the_authors(single: tuple[Paths, Path]) -> None:
    text = (single[1] / "methods.md").read_text(encoding="utf-8")
    assert "16 training, 16 validation and 16 test images." in text
    assert "The experiment l2 differs from baseline in loss.l2 = 0.001 (instead of 0.0)." in text
    assert r"\[TODO: Ethical approval: the approval, or why there is none\]" in text
    assert r"\[TODO: Conflicts of interest" in text
    assert "fastai 2." in text
    assert "cpu (AVX2), float32, 2 threads" in text


def test_methods_of_findings_name_their_thresholds(findings: tuple[Paths, Path]) -> None:
    text = (findings[1] / "methods.md").read_text(encoding="utf-8")
    assert "Detection of several findings in a radiograph" in text
    assert "a threshold for each, fixed on validation images by the highest Youden index" in text


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, single: tuple[Paths, Path]) -> None:
    (tmp_path / "thesis.tex").write_text("ten years")
    with pytest.raises(DataError, match="holds other files, which would be lost: name a new folder with --to"):
        write.refuse_foreign(tmp_path)
    write.refuse_foreign(single[1])
    write.refuse_foreign(tmp_path / "new")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b & c%", r"a\_b \& c\%"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("−0.1 ≤ p", r"$-$0.1 $\leq$ p"),
        ("23\u202f512 ± 2", r"23\,512 $\pm$ 2"),
    ],
)
def test_latex_prints_what_was_written(text: str, escaped: str) -> None:
    assert latex.escape(text) == escaped


def test_a_cell_that_reaches_down_leaves_empty_cells_below() -> None:
    rows = [[Cell("a", rowspan=2), Cell("b", colspan=2)], [Cell("c"), Cell("d")], [Cell("e")]]
    texts = [[cell.text for cell in row] for row in Table.filled(rows)]
    assert texts == [["a", "b"], ["", "c", "d"], ["e", "", ""]]


def test_a_table_of_the_page_keeps_headings_intervals_and_notes_and_leaves_out_what_is_folded_away() -> None:
    html = (
        '<h2>Data</h2><div aria-label="Splits"><table><thead><tr><th class="left">Split</th><th>AUROC</th></tr></thead>'
        "<tbody><tr><th class='left'>Test</th><td>0.9<small>0.8 to 1.0</small>"
        "<details><summary>Show</summary>h1.png</details></td></tr></tbody></table></div><p class='note'>Of all.</p>"
    )
    (table,) = tables.read(html)
    assert table.title == ["Data", "Splits"]
    assert table.notes == ["Of all."]
    assert table.body == [[Cell("Test", "l"), Cell("0.9 (0.8 to 1.0)")]]
    assert table.sides == ["l", "r"]


def test_the_folder_of_a_paper_needs_a_paper() -> None:
    with pytest.raises(DataError, match="--to is the folder of --for-paper: give both, or neither"):
        commands.run_report(for_paper=False, to=Path("elsewhere"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_compiles_everything_without_an_error_and_within_the_margins(paper: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(paper, tmp_path / "paper")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    log = (copy / "main.log").read_text(encoding="utf-8", errors="replace")
    assert not re.findall(r"undefined|multiply|Missing character.*", log.split("(./main.aux)")[-1])
    overfull = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(overfull, default=0.0) < 10
