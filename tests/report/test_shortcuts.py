"""Metrics that may not hold at other hospitals: a warning before any of them, in log, terminal and report."""

import re
from pathlib import Path
from typing import Any

import finished_study
import pytest
import small
from conftest import load, run
from typer.main import get_command

from xraylab import files
from xraylab.cli import app
from xraylab.data.audit import confounding
from xraylab.data.split import strategies
from xraylab.paths import Paths
from xraylab.report import study_facts, summary
from xraylab.stages import evaluate, fetch, index, report, source
from xraylab.studies import recipes, scaffold
from xraylab.studies.presets import leaves

NOT_AT_OTHER_HOSPITALS = "may not hold at other hospitals"
AUDIT = {"shortcuts": {"warning": "The class goes with size (0.81).", "remedy": "Test it elsewhere."}}
CLEAN = {"shortcuts": {"warning": None, "remedy": "Test it elsewhere."}}
Record = dict[str, Any]


def probed(*records: tuple[str, Record]) -> Record:
    """reports/explain/summary.json of networks; a probe is the share that it keeps, the threshold being 0.8."""
    unknown = {"kept": None, "shortcut": None}
    return {
        "experiments": [
            {
                "experiment": name,
                "probes": dict.fromkeys(("centre", "border", "metadata"), unknown)
                | {
                    probe: {"kept": kept, "shortcut": (kept >= 0.8) is (probe != "border")}
                    for probe, kept in kept_of.items()
                }
                | {"warnings": [f"{name} leans on {probe}" for probe in kept_of]},
            }
            for name, kept_of in records
        ]
    }


@pytest.mark.parametrize(
    ("audit", "explained", "said"),
    [
        (CLEAN, None, None),
        (None, None, None),
        (CLEAN, probed(("baseline", {"centre": 0.2, "border": 0.95, "metadata": 0.1})), None),
        (AUDIT, None, "The class goes with size (0.81). Test it elsewhere."),
        (CLEAN, probed(("baseline", {"border": 0.424}), ("l2", {"border": 0.81})),
         "Retained of the AUROC above chance: 42 % (baseline) with the image border blackened. Test it elsewhere."),
        (CLEAN, probed(("baseline", {"centre": 0.9, "border": 0.1}), ("l2", {"centre": 0.85})),
         "Retained of the AUROC above chance: 10 % (baseline) with the image border blackened; 90 % (baseline) and "
         "85 % (l2) with the image centre blackened. Test it elsewhere."),
        (CLEAN, probed(("l2", {"metadata": 1.05})),
         "Retained of the AUROC above chance: 105 % (l2) by a model that sees only file properties. Test it "
         "elsewhere."),
        (AUDIT, probed(("l2", {"border": 0.5, "metadata": 1.05})),
         "The class goes with size (0.81). Retained of the AUROC above chance: 50 % (l2) with the image border "
         "blackened. Test it elsewhere."),
    ],
)  # fmt: skip
def test_one_line_says_what_speaks_for_a_shortcut_and_what_to_do(
    audit: Record | None, explained: Record | None, said: str | None
) -> None:
    assert summary.shortcut_warning(audit, explained) == said


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.confounded(tmp_path_factory.mktemp("confounded"))


def test_the_log_of_index_says_it(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = small.study(tmp_path, small.use(films, ["A", "B"], "B"))
    run(load(study), source, fetch, index)
    said = capsys.readouterr().out
    assert f"warning: metrics of these images {NOT_AT_OTHER_HOSPITALS}. The class goes with " in said
    assert f"    {confounding.REMEDY}\n" in said
    assert files.read_json(Paths(study).audit)["shortcuts"]["warning"].startswith("The class goes with ")


def test_a_new_study_says_it_and_one_of_like_films_does_not(films: Path, tmp_path: Path) -> None:
    said = scaffold.new(tmp_path / "confounded", None, [str(films)], published=False)
    at = next(number for number, line in enumerate(said) if NOT_AT_OTHER_HOSPITALS in line)
    assert said[at] == f"warning: metrics of these images {NOT_AT_OTHER_HOSPITALS} (from 80 of them)."
    assert said[at + 1].startswith("    The class goes with ")
    assert said[at + 1].endswith(confounding.REMEDY)
    small.write_images(tmp_path / "alike", [f"{label}/{n}.png" for label in "AB" for n in range(20)])
    clean = scaffold.new(tmp_path / "clean", None, [str(tmp_path / "alike")], published=False)
    assert not any(NOT_AT_OTHER_HOSPITALS in line for line in clean)


def test_a_new_study_says_that_its_sources_are_nearly_its_classes(tmp_path: Path) -> None:
    for seed, (place, rare) in enumerate((("one", "B"), ("other", "A"))):
        names = [f"{place}/{label}/{n}.png" for label in "AB" for n in range(1 if label == rare else 20)]
        small.write_images(tmp_path, names, seed=seed)
    said = scaffold.new(tmp_path / "s", None, [str(tmp_path / "one"), str(tmp_path / "other")], published=False)
    at = said.index(f"warning: metrics of these images {NOT_AT_OTHER_HOSPITALS} (from 42 of them).")
    assert said[at + 1].startswith(
        "    The class goes with source (Cramér's V 0.90); facts about the files alone tell it "
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A report of a study whose class goes with a fact called after a tag, and whose l2 leans on the border."""
    given, paths = finished_study.make(tmp_path_factory.mktemp("finished"), {})
    found = {"cramers_v": {}, "model": None, "warning": "The class goes with <b>x</b>.", "remedy": "Type `a <b`."}
    files.write_json(files.read_json(paths.audit) | {"shortcuts": found}, paths.audit)
    evaluate.run(given, paths)
    report.run(given, paths)
    return paths


def test_the_page_says_it_before_the_first_metric(finished: Paths) -> None:
    html = finished.report.read_text()
    reason = "The class goes with &lt;b&gt;x&lt;/b&gt;. Type <code>a &lt;b</code>."
    box = f'<div class="box" role="note"><p><strong>{summary.OPENING}</strong> {reason}</p></div>'
    assert html.index(box) < html.index('<p class="verdict">') < html.index("an AUROC of ")


def test_the_terminal_says_it_before_the_table(
    finished: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished.root)
    app(["show"], standalone_mode=False)
    said = capsys.readouterr().out.replace("\n", "")
    assert said.startswith(f"warning: {summary.OPENING} The class goes with <b>x</b>. Type `a <b`.")
    finished.audit.rename(finished.root / "elsewhere.json")  # before `dvc pull`
    app(["show"], standalone_mode=False)
    assert "warning" not in capsys.readouterr().out


def test_the_remedy_names_what_there_is() -> None:
    quoted = re.findall(r"`(.*?)`", confounding.REMEDY)
    commands = [text for text in quoted if text.startswith("xraylab ")]
    assert commands == ["xraylab external-test RUN FOLDER", "xraylab init --recipe robust"]
    assert {text.split()[1] for text in commands} <= set(get_command(app).commands)
    assert "robust" in recipes.RECIPES
    keys = dict(leaves(files.read_yaml(finished_study.SHIPPED)))
    assert {text.partition(":")[0] for text in quoted if text not in commands} <= set(keys)
    assert "leave-one-source-out" in strategies.STRATEGIES


def test_a_model_card_carries_the_warnings_of_its_own_network() -> None:
    explained = probed(("baseline", {"border": 0.4}), ("l2", {"centre": 0.9}))
    assert study_facts.shortcut_warnings(explained, "l2") == ["l2 leans on centre"]
    assert study_facts.shortcut_warnings(explained, "dropout") == [study_facts.NOT_EXPLAINED]
