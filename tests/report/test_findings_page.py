"""The page of a multi-label study: what it says of each finding, computed another way from the study's own tables."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import finished_findings
import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import average_precision_score, roc_auc_score

from xraylab import files, tables, targets
from xraylab.params.split import Split
from xraylab.paths import Paths
from xraylab.report import provenance, summary
from xraylab.report.multi_label import tables as of_findings
from xraylab.report.records import Summary
from xraylab.stages import evaluate, report

FINDINGS = list(finished_findings.FINDINGS)
COMPARISON: dict[str, Any] = {
    "kind": "baseline", "role": "primary", "about": "trained networks", "first": "l2", "second": "baseline",
    "chosen_on_test": False, "metric": "auroc", "class": "macro", "difference": -0.02, "ci_low": -0.05, "ci_high": 0.01,
    "p": 0.2, "p_holm": 0.2, "p_at_most": False, "tests": 1, "test": "DeLong over findings", "why": None,
    "sentence": "l2 scores 0.020 lower.",
}  # fmt: skip


class _Rows(HTMLParser):
    """The rows of the tables of a section: lists of the texts of their cells, parts apart by a space."""

    def __init__(self, html: str, section: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        start = html.index(f'<section id="{section}">')
        self.feed(html[start : html.index("</section>", start)])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()

    def of(self, heading: str) -> list[list[str]]:
        return [row for row in self.rows if row and row[0] == heading]


def _study(root: Path, edit: Callable[[Paths], None] = lambda paths: None, **more: Any) -> Paths:
    given, paths = finished_findings.make(root, **more)
    evaluate.run(given, paths)
    edit(paths)
    report.run(given, paths)
    return paths


def _edit_json(path: Path, **values: Any) -> None:
    files.write_json(files.read_json(path) | values, path)


def _external(paths: Paths) -> dict[str, Any]:
    """An external test of l2/0 as `external-test` writes it, of two common findings."""
    predictions = files.read_json(paths.evaluation / "summary.json")["predictions"]["l2/0"]
    empty = {"ci_low": None, "ci_high": None, "ci_method": None, "n": 50, "why": None}
    values = {("Effusion", "auroc"): 0.7123, ("Mass", "auroc"): 0.6011, ("macro", "auroc"): 0.6567}
    return {
        "predictions": predictions, "experiment": "l2", "repeat": 0, "folder": "/data/elsewhere", "images": 50,
        "task": "multi-label", "classes": {"Effusion": 12, "Mass": 5}, "known": {"Effusion": 41, "Mass": 50},
        "mapping": {
            "labels": {"Effusion": ["Pleural Effusion"], "Mass": ["Mass"]}, "only_model": ["Atelectasis", "Hernia"],
            "only_data": {"Fracture": 3}, "remarks": [],
        },
        "overlap": {"train": 1, "valid": 2}, "intervals": "a patient counts once", "seen": [], "operating_points": [],
        "metrics": [
            {"class": name, "metric": metric, "value": value, **empty} for (name, metric), value in values.items()
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Three experiments, compared, one of them with other uncertain labels in training."""

    def compare(paths: Paths) -> None:
        mass = COMPARISON | {"class": "Mass", "role": "exploratory", "difference": 0.0314}
        pooled = COMPARISON | {"class": "micro", "role": "exploratory", "difference": 0.0271}
        _edit_json(paths.evaluation / "summary.json", comparisons=[COMPARISON, mass, pooled])
        files.write_json(_external(paths), paths.external / "l2-0-elsewhere.json")

    changes = {"experiments": {"l2": {"loss": {"uncertain": "smooth"}}}}
    return _study(tmp_path_factory.mktemp("findings"), compare, changes=changes, keep=("baseline", "l2"))


@pytest.fixture(scope="module")
def page(study: Paths) -> str:
    return study.report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def unevaluated(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Hernia is in no image; a label No Finding is learnt; the labels are fixed in folds."""
    classes = ["No Finding", "Effusion", "Hernia"]
    changes = {
        "data": {
            "classes": classes, "uncertain": {"No Finding": "ignore", "Effusion": "positive", "Hernia": "negative"}
        }
    }  # fmt: skip
    return _study(tmp_path_factory.mktemp("absent"), changes=changes, absent=("Hernia",))


def test_the_sections_are_those_of_findings(page: str) -> None:
    assert re.findall('<section id="(.*?)">', page) == [
        "data", "findings", "curves", "comparison", "finding_curves", "finding_details", "finding_pictures", "explain",
        "finding_external", "made", "checklist", "cards",
    ]  # fmt: skip
    assert "of 4 findings: Atelectasis, Effusion, Hernia and Mass." in page


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_findings_row_has_its_images_and_what_scikit_learn_gives(study: Paths, page: str, finding: str) -> None:
    test = tables.read(study.split / "test_data.csv").set_index("id")[f"y_{finding}"]
    known = test[test.isin([0, 1])].astype(int)
    scores = {}
    for name in ("baseline", "l2"):
        rows = tables.read(study.prediction(name, 0))
        rows = rows[(rows["split"] == "test") & (rows["checkpoint"] == "best")].set_index("id")
        scores[name] = rows.loc[known.index, f"p_{finding}"]
    shown = [each["experiment"] for each in files.read_json(study.evaluation / "summary.json")["ranking"]]
    (row,) = _Rows(page, "findings").of(finding)[:1]
    assert row[1] == f"{known.sum()} / {len(known)}"
    for cell, name in zip(row[2:4], shown, strict=True):
        assert cell.split()[0] == f"{roc_auc_score(known, scores[name]):.3f}"
        assert re.fullmatch(r"0\.\d{3} 0\.\d{3} to [01]\.\d{3}", cell)
    assert row[4].split()[0] == f"{average_precision_score(known, scores[shown[0]]):.3f}"


def test_the_last_rows_are_means(page: str) -> None:
    rows = _Rows(page, "findings")
    aurocs = [float(rows.of(name)[0][2].split()[0]) for name in FINDINGS]
    (mean,) = rows.of("Mean over 4 findings (macro)")
    assert float(mean[2].split()[0]) == pytest.approx(sum(aurocs) / 4, abs=0.0011)
    assert len(rows.of("All labels pooled (micro)")) == 1


def test_findings_that_go_together_are_counted_in_the_test_images(study: Paths, page: str) -> None:
    values = targets.values(tables.read(study.split / "test_data.csv"), FINDINGS)
    rows = _Rows(page, "findings")
    for at, finding in enumerate(FINDINGS):
        cells = rows.of(finding)[-1][1:]
        assert [int(cell.split()[0]) for cell in cells] == [
            int(((values[:, at] == 1) & (values[:, other] == 1)).sum()) for other in range(len(FINDINGS))
        ]
    one, other = values[:, 0], values[:, 1]
    both = targets.known(values[:, :2]).all(axis=1)
    expected = (one[both] == 1).sum() * (other[both] == 1).sum() / both.sum()
    together = ((one == 1) & (other == 1)).sum()
    assert rows.of("Atelectasis")[-1][2] == f"{together} ×{together / expected:.1f}"


def test_each_split_says_how_each_finding_is_labelled(study: Paths, page: str) -> None:
    rows = _Rows(page, "data")
    for at, finding in enumerate(FINDINGS):
        (cells,) = rows.of(finding)
        counted = []
        for split in ("train", "valid", "test"):
            column = targets.values(tables.read(study.split / f"{split}_data.csv"), FINDINGS)[:, at]
            counted += [(column == value).sum() for value in (1, 0, targets.UNCERTAIN)] + [np.isnan(column).sum()]
        assert [int(cell.split()[0]) for cell in cells[1:]] == counted


def test_the_page_says_what_was_made_of_uncertain_labels(study: Paths, page: str) -> None:
    without = (tables.read(study.index)["label"] == targets.NO_FINDING).sum()
    assert (
        "An image without findings is one in which all are absent: “No Finding” is no label of its own; no finding is "
        f"marked present in {without} images."
    ) in page
    assert "left out of training in baseline; trained as present with a target drawn from 0.55 to 0.85 in l2." in page
    assert "Metrics count known labels alone" in page


def test_no_finding_as_a_label_and_a_policy_per_finding(unevaluated: Paths) -> None:
    page = unevaluated.report.read_text(encoding="utf-8")
    assert "“No Finding” is a label of its own, which the networks learn like any other." in page
    assert "left out of training (No Finding), trained as present (Effusion) and trained as absent (Hernia)." in page


def test_a_finding_without_metrics_says_why(unevaluated: Paths) -> None:
    page = unevaluated.report.read_text(encoding="utf-8")
    why = files.read_json(unevaluated.evaluation / "summary.json")["not_evaluated"]["Hernia"]
    assert _Rows(page, "findings").of("Hernia")[0][2] == why
    assert f"Hernia is in no mean: {why}." in page
    assert "over 2 findings, from 0." in page


def test_every_finding_has_its_small_charts(page: str) -> None:
    for kind in ("ROC", "Precision and recall", "Calibration"):
        charts = re.findall(f'aria-label="{kind} of (.*?) on the test images"', page)
        assert charts == FINDINGS


def test_means_are_compared_and_single_findings_folded_away(page: str) -> None:
    start = page.index('<section id="comparison">')
    comparison = page[start : page.index("</section>", start)]
    open_part, folded = comparison.split("<details><summary>Exploratory: each finding</summary>")
    assert "<td>−0.020</td>" in open_part
    assert "Pooled AUROC</td><td>+0.027</td>" in open_part
    assert "+0.031" not in open_part
    assert "+0.031" in folded
    assert "Mass" in folded
    assert (
        "No experiment is shown to be better than the baseline in mean AUROC over findings: none scores higher." in page
    )
    assert "+0.031" not in page[: page.index("<nav")]


def test_the_checklists_speak_of_findings(page: str) -> None:
    checklist = page[page.index('<section id="checklist">') :]
    assert "to detect Atelectasis, Effusion, Hernia and Mass, each by itself" in checklist
    assert "to distinguish between" not in checklist
    assert "a probability for each finding, independent of the others" in checklist
    assert "the primary metric, mean AUROC over findings, tested with Holm’s correction" in checklist


def test_an_external_test_has_a_row_for_each_common_finding(study: Paths, page: str) -> None:
    rows = _Rows(page, "finding_external")
    metrics = tables.read(study.evaluation / "metrics.csv", ("experiment", "class", "kind", "split"))
    own = metrics.query("experiment == 'l2' and kind == 'repeat' and split == 'test' and checkpoint == 'best'")
    here = own[(own["class"] == "Effusion") & (own["metric"] == "auroc")]["value"].astype(float).item()
    (effusion,), (mean,) = rows.of("Effusion"), rows.of("Mean over these findings (macro)")
    assert effusion[1:2] + effusion[3:5] == ["Pleural Effusion", "12 / 41", "0.712"]
    assert effusion[2].split()[0] == f"{here:.3f}"
    assert mean[4] == "0.657"
    assert "not labelled for: Atelectasis and Hernia. Labels that the network does not know: Fracture." in page


def test_examples_name_what_was_found_missed_and_false_but_no_unknown_label(study: Paths, page: str) -> None:
    first = files.read_json(study.evaluation / "summary.json")["top_two"][0]
    called = tables.read(study.evaluation / f"images/{first}-0.csv").set_index("id")["predicted"]
    labels = tables.read(study.index).set_index("id")
    start = page.index('<section id="finding_pictures">')
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page[start : page.index("</section>", start)])
    assert captions
    for caption in captions:
        *parts, name = caption.split("<br>")
        found = set(called[name].split("|"))
        said = {
            "found": {each for part in parts if part.startswith("<b>") for each in part[3:-4].split(", ")},
            "missed": {each for part in parts if part.startswith("missed: ") for each in part[8:].split(", ")},
            "false": {each for part in parts if part.startswith("false: ") for each in part[7:].split(", ")},
        }
        truth = dict(zip(FINDINGS, targets.values(labels.loc[[name]], FINDINGS)[0], strict=True))
        present, absent = ({each for each in FINDINGS if truth[each] == value} for value in (1, 0))
        assert said == {"found": present & found, "missed": present - found, "false": absent & found}


def test_the_card_has_the_means_and_the_auroc_of_each_finding(study: Paths) -> None:
    card = (study.cards / "l2.md").read_text(encoding="utf-8")
    assert "- Means over 4 findings: AUROC: 0." in card
    for finding in FINDINGS:
        assert f"- AUROC of {finding}: 0." in card


def test_dvc_plots_are_small_charts_of_every_finding(study: Paths) -> None:
    assert sorted(path.name for path in study.plots.iterdir()) == [
        "calibration.csv", "loss.csv", "monitor.csv", "precision_recall.svg", "roc.csv"
    ]  # fmt: skip
    panels = set(tables.read(study.plots / "roc.csv")["panel"])
    assert panels == {f"{finding}, {experiment}" for experiment in ("baseline", "l2") for finding in FINDINGS}
    drawn = (study.plots / "precision_recall.svg").read_text(encoding="utf-8")
    assert all(f">{finding}<" in drawn for finding in FINDINGS)


def test_the_terminal_shows_means_over_findings(study: Paths) -> None:
    tree = files.read_json(study.evaluation / "summary.json")
    console = Console(width=120)
    with console.capture() as capture:
        console.print(summary.for_terminal(Summary.of(tree)))
    shown = capture.get()
    assert "means over 4 findings" in shown
    best = next(
        row for row in tree["means"] if (row["experiment"], row["split"], row["checkpoint"]) == ("l2", "test", "best")
    )
    assert all(f"{best[name]:.4f}" in shown for name in ("auroc", "auprc", "f1"))


@pytest.mark.parametrize("strategy", ["random", "folds", "sorted-id", "leave-one-source-out"])
def test_sentences_of_the_split_name_findings_and_no_class(strategy: str) -> None:
    split = Split.model_construct(
        strategy=strategy, files=None, folds=3, test_pct=0.2, valid_pct=0.1, max_train_per_class="all"
    )
    sentence = provenance.split_sentences(split, findings=True)
    assert "class" not in sentence
    assert "each finding has its share (iterative stratification)" in sentence


def test_more_than_three_experiments_are_shown_as_the_two_best_and_the_baseline(study: Paths) -> None:
    tree = files.read_json(study.evaluation / "summary.json")
    names = ["c", "a", "b", "baseline", "d"]
    tree["ranking"] = [{"experiment": name, tree["ranked_by"]: 0.5} for name in names]
    assert of_findings.shown(Summary.of(tree | {"top_two": ["c", "a"]})) == ["c", "a", "baseline"]
    tree["ranking"] = tree["ranking"][:3]
    assert of_findings.shown(Summary.of(tree)) == ["c", "a", "b"]
