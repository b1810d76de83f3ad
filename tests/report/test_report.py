"""The page: what it says, what it escapes, and that it needs nothing but itself."""

import base64
import hashlib
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import finished_study
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xraylab import files, tables
from xraylab.data.split import leakage
from xraylab.errors import MissingError
from xraylab.params.split import Split
from xraylab.paths import Paths
from xraylab.report import artefacts, charts, pictures, provenance, summary, text
from xraylab.report.records import Ranked, Result, Run, Summary
from xraylab.stages import evaluate, report

NO_VALIDATION = {split: {"Healthy": count, "TB": count} for split, count in [("train", 8), ("valid", 0), ("test", 8)]}
PUBLISHED = {"split": {"valid_pct": 0.0}, "train": {"monitor": "test_f1"}}
SCRIPT = "<script>alert(1)</script>"


def _page(
    root: Path, changes: dict[str, Any] | None = None, edit: Callable[[Paths], None] | None = None, **more: Any
) -> str:
    given, paths = finished_study.make(root, changes, **more)
    evaluate.run(given, paths)
    if edit:
        edit(paths)
    report.run(given, paths)
    return paths.report.read_text(encoding="utf-8")


def _edit_json(path: Path, **values: Any) -> None:
    files.write_json(files.read_json(path) | values, path)


class _Cells(HTMLParser):
    """The comparison table's bodies: one list of cell texts per row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        start = html.index("</thead>", html.index('id="comparison"'))
        self.feed(html[start : html.index("</table>", start)])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _page(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _page(tmp_path_factory.mktemp("published"), PUBLISHED, images=NO_VALIDATION)


def test_the_page_loads_nothing(page: str) -> None:
    loads = re.findall(
        r'(?:\ssrc|href|srcset|data)="(?!data:image/png;base64,|#|gallery/index.html")[^"]*"|url\((?!#)[^)]*\)|@import|<link',
        page,
    )
    assert loads == []
    assert "http:" not in page
    assert "https:" not in page


def test_the_page_allows_its_own_script_and_nothing_else(page: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == page.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy[1] == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )


def test_no_two_elements_share_an_id(page: str) -> None:
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) > 10
    assert len(ids) == len(set(ids))


def test_the_page_is_the_same_bytes_wherever_the_study_lies(page: str, tmp_path: Path) -> None:
    assert _page(tmp_path / "elsewhere") == page


def test_what_users_name_is_escaped(tmp_path: Path) -> None:
    def edit(paths: Paths) -> None:
        split = files.read_json(paths.split / "summary.json")
        split["splits"]["test"]["TB"]["first"] = SCRIPT
        files.write_json(split, paths.split / "summary.json")
        found = {"kind": "patients_across_splits", "severity": "accepted", "count": 1, "says": SCRIPT}
        leak = found | {"examples": [SCRIPT], "fold": None}
        files.write_json([leak], paths.split / "audit.json")
        _edit_json(paths.split / "summary.json", removed=[SCRIPT])
        tables.write(pd.DataFrame([dict.fromkeys(leakage.COLUMNS, SCRIPT)]), paths.split / "removed.csv")
        shortcuts = {"cramers_v": {SCRIPT: 0.5}, "model": None, "warning": SCRIPT, "remedy": SCRIPT}
        _edit_json(paths.audit, patients=SCRIPT, why=SCRIPT, layout=SCRIPT, findings=[leak], shortcuts=shortcuts)
        for path in [*(paths.evaluation / "images").iterdir(), *paths.predictions.rglob("*.csv")]:
            path.write_text(path.read_text().replace("/test", f"/{SCRIPT}"))
        for path in (paths.cache / "rows.csv", paths.index):
            path.write_text(path.read_text().replace("/test", f"/{SCRIPT}"))

    html = _page(tmp_path, {"study": {"title": SCRIPT}, "data": {"source": SCRIPT}}, edit)
    assert html.count("<script") == 1
    escaped = html.count("&lt;script&gt;alert(1)&lt;/script&gt;")
    assert escaped > 2 * 10  # title twice, source twice, the data's names, and two per sample


def test_a_chart_escapes_its_text() -> None:
    history = pd.DataFrame({"epoch": [0, 1], "valid_loss": [0.5, 0.4]})
    chart = charts.learning_curve([(history, 1)], "loss", "valid", (0, 1), f'"{SCRIPT}')
    assert 'aria-label="&#34;&lt;script&gt;alert(1)&lt;/script&gt;"' in chart
    assert "<script" not in chart


def test_the_comparison_shows_the_evaluated_metrics(tmp_path: Path) -> None:
    rows = _Cells(_page(tmp_path)).rows
    table = tables.read(Paths(tmp_path).comparison).set_index(["experiment", "checkpoint", "split"])
    best, last = table.loc[("l2", "best", "test")], table.loc[("l2", "last", "test")]
    shown = next(row for row in rows if row[0].startswith("l2"))
    assert shown[1] == f"{table.loc[('l2', 'best', 'valid')]['f1']:.3f}"
    confusions = ["".join(str(row[name]) for name in ("tn", "fp", "fn", "tp")) for row in (best, last)]
    low, high = (100 * float(best[f"accuracy_{end}"]) for end in ("ci_low", "ci_high"))
    assert shown[2:4] == [str(best["epoch"]), f"{100 * best['accuracy']:.1f}{low:.1f} to {high:.1f}"]
    assert shown[4].startswith(f"{100 * best['recall']:.1f}")
    assert shown[5].startswith(f"{100 * best['specificity']:.1f}")
    for cell, name in zip(shown[6:8], ("f1", "auroc"), strict=True):
        low, high = best[f"{name}_ci_low"], best[f"{name}_ci_high"]
        ends = f"{float(low):.3f} to {float(high):.3f}" if low and high else "no interval"
        assert cell == f"{best[name]:.3f}{ends}"
    metrics = [f"{100 * last['accuracy']:.1f}", *(f"{last[name]:.3f}" for name in ("f1", "auroc"))]
    assert shown[8:] == [confusions[0], str(last["epoch"]), *metrics, confusions[1]]


def test_published_mode_marks_every_metric_that_was_chosen(published: str) -> None:
    assert '<div class="box" role="note"><p><strong>Selected on test data.</strong>' in published
    for row in _Cells(published).rows:
        assert all(cell.endswith("†") for cell in row[:8])
        assert not any(cell.endswith("†") for cell in row[8:])
    assert len(re.findall(r"AUROC \d\.\d{3}†", published)) == 2
    assert published.count("<figcaption>Confusion†") == 2
    assert len(re.findall(r"<figcaption>(?:baseline|l2)†", published)) == 2
    assert re.search(r"with the predictions of (baseline|l2)†", published)


def test_nothing_is_marked_when_validation_chose(page: str) -> None:
    assert "†" not in page
    assert "Selected on test data" not in page
    assert "All epochs were selected on the validation images" in page


def test_repeats_have_a_row_each_under_their_mean(tmp_path: Path) -> None:
    rows = _Cells(_page(tmp_path, {"study": {"repeats": [0, 7]}})).rows
    assert [row[0] for row in rows if not row[0].startswith(("baseline", "l2"))] == ["repeat 0", "repeat 7"] * 2
    mean, deviation = map(float, rows[0][3].split("SD"))
    each = [float(row[3].split(" to ")[0][:4]) for row in rows[1:3]]
    assert mean == pytest.approx(np.mean(each), abs=0.11)
    assert deviation == pytest.approx(np.std(each, ddof=1), abs=0.11)


def test_folds_are_pooled(tmp_path: Path) -> None:
    html = _page(tmp_path, {"split": {"strategy": "folds", "test_pct": None, "folds": 2}, "study": {"repeats": [0, 1]}})
    summary = files.read_json(Paths(tmp_path).evaluation / "summary.json")
    pooled = {(row["experiment"], row["checkpoint"]): row for row in summary["pooled"]}
    images = sum(map(sum, pooled["l2", "best"]["confusion"]))
    assert f"{images} images, each tested in one of 2 folds, of 2 classes" in html
    assert "(test images of 2 folds pooled)" in html
    assert _Cells(html).rows[0][3].startswith(f"{100 * pooled['baseline', 'best']['accuracy']:.1f}")
    assert "The table and the chart show the first of 2 folds." in html


def test_three_classes_have_means_and_a_chart_each(tmp_path: Path) -> None:
    html = _page(tmp_path, {"data": {"classes": ["Normal", "Opacity", "Viral Pneumonia"], "positive": None}})
    assert "F1, sensitivity and specificity are means over the classes" in html
    assert html.count("against the rest on the test images, upper-left corner") == 3
    start = html.index('id="comparison"')
    assert "TN FP" not in html[start : html.index("</table>", start)]


def test_a_test_split_of_one_class_says_so(tmp_path: Path) -> None:
    splits = {"train": {"Healthy": 4, "TB": 4}, "valid": {"Healthy": 4, "TB": 4}, "test": {"Healthy": 4, "TB": 0}}
    html = _page(tmp_path, images=splits)
    assert "AUROC not available" in html
    assert "<p>Not available: the test images are all of one class.</p>" in html
    assert "no AUROC" in html


LEAK = {
    "kind": "patients_across_splits",
    "severity": "accepted",
    "count": 23,
    "says": "patients have images in two splits",
    "examples": [f"p{number} (train+test)" for number in range(20)],
    "fold": None,
}


def test_accepted_leakage_stands_on_top_and_in_the_audit(page: str, tmp_path: Path) -> None:
    html = _page(tmp_path, edit=lambda paths: files.write_json([LEAK], paths.split / "audit.json"))
    top = html[: html.index('<div class="answer">')]
    assert "<strong>Leakage between splits was accepted.</strong>" in top
    assert "23 patients have images in two splits." in top
    assert "<li>p19 (train+test)</li>" in html
    assert "20 of them" in html
    assert "is in more than one split" not in html
    assert "Leakage" not in page
    assert "No patient, image or near duplicate is in more than one split, as far as can be told" in page


def test_what_left_so_that_nothing_leaks_is_counted_and_named_unless_names_are_hidden(tmp_path: Path) -> None:
    row = {"id": "TB/tb9.png", "label": "TB", "split": "train", "reason": "duplicate", "copy_of": "TB/tb1.png"}

    def edit(paths: Paths) -> None:
        _edit_json(paths.split / "summary.json", removed=["1 training image is a copy"])
        tables.write(pd.DataFrame([row]), paths.split / "removed.csv")

    html = _page(tmp_path / "shown", edit=edit)
    assert "the test images were not changed: 1 training image is a copy.</p>" in html
    assert "<li>TB/tb9.png (train): duplicate of TB/tb1.png</li>" in html
    hidden = _page(tmp_path / "hidden", {"report": {"hide_names": True}}, edit=edit)
    assert "1 training image is a copy" in hidden
    assert "tb9" not in hidden


def test_the_audit_is_shown_with_severity_and_examples(tmp_path: Path) -> None:
    found = {"kind": "tiny", "severity": "warning", "count": 1, "says": "image is smaller", "examples": ["a.png"]}
    shortcuts = {"cramers_v": {"format": 0.91}, "model": {"auroc": 0.87, "images": 9, "facts": ["format"]}}
    shortcuts |= {"warning": None, "remedy": ""}
    html = _page(tmp_path, edit=lambda paths: _edit_json(paths.audit, findings=[found], shortcuts=shortcuts))
    assert '<td class="left severity warning">warning</td><td>1</td>' in html
    assert "<summary>Show</summary>" in html
    assert "format 0.91." in html
    assert "cross-validated AUROC of <b>0.87</b>" in html


def test_every_class_is_shown_and_counted(page: str) -> None:
    for label in ("Healthy", "TB"):
        assert len(re.findall(rf'alt="Radiograph {label}/[^"]*: {label}" decoding', page)) == 6
    assert 'aria-label="Number of images per split and class"' in page
    assert f"All images are {finished_study.PIXELS} × {finished_study.PIXELS} pixels." in page


def test_sizes_are_drawn_where_they_differ(tmp_path: Path) -> None:
    def stretch(paths: Paths) -> None:
        index = tables.read(paths.index)
        tables.write(index.assign(width=range(100, 100 + len(index))), paths.index)

    html = _page(tmp_path, edit=stretch)
    assert 'aria-label="Width and height of the images of each class"' in html
    assert "All images are" not in html


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "within each class, sorted by name, the first 20 % form the test set; of the rest, 15 % form the "
             "validation set, drawn at random by patient."),
        ({"strategy": "random", "test_pct": 0.125, "valid_pct": 0.0},
         "about 12.5 % of each class, drawn at random by patient, form the test set; there is no validation set."),
        ({"strategy": "given", "test_pct": None, "valid_pct": None, "max_train_per_class": "smallest"},
         "the data set's own splits were kept; this includes the validation set. No class has more training images "
         "than the smallest one."),
        ({"strategy": "given", "test_pct": None, "files": "lists", "max_train_per_class": 1500},
         "the splits were taken from the lists in lists; of the rest, 15 % form the validation set, drawn at random by "
         "patient. At most 1\u202f500 training images per class were used."),
        ({"strategy": "folds", "test_pct": None, "folds": 5},
         "the patients are divided into 5 folds, each of which is the test set of one repeat; of the rest, 15 % form "
         "the validation set, drawn at random by patient."),
    ],
)  # fmt: skip
def test_the_split_in_words(changes: dict[str, Any], said: str) -> None:
    shipped = files.read_yaml(finished_study.SHIPPED)["split"]
    assert provenance.split_sentences(Split.model_validate(shipped | changes)) == said


def test_only_a_resnet50_brings_the_note_on_counting(page: str, tmp_path: Path) -> None:
    assert "4.087 G" not in page
    assert "4.087 G" in _page(tmp_path, {"experiments": {"l2": {"model": {"arch": "resnet50"}}}})


def test_a_missing_evaluation_is_named_with_the_remedy(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path)
    with pytest.raises(MissingError) as error:
        report.run(given, paths)
    assert str(error.value) == f"{paths.evaluation / 'summary.json'} does not exist: `dvc repro` makes it"


RUN = {
    "parameters": 11_171_266,
    "multiply_adds": 566_231_040,
    "multiply_adds_counted": "",
    "frozen": {},
    "monitor": "valid_f1",
    "lr_found": None,
    "best_epoch": 4,
    "last_epoch": 5,
    "train_seconds": 192.4,
    "hardware": {},
}
MEANS = {
    "baseline": {"accuracy": 0.97, "f1": 0.92, "auroc": 0.985},
    "l2": {"accuracy": 0.985, "f1": 0.9611, "auroc": 0.99},
}


def _summary(means: dict[str, dict[str, float]] = MEANS, **changes: Any) -> Summary:
    return Summary(
        **{
            "classes": ["Healthy", "TB"],
            "positive": "TB",
            "baseline": "baseline",
            "primary": "auroc",
            "ranked_on": "valid",
            "ranked_by": "f1",
            "ranking": [Ranked("l2", 0.98), Ranked("baseline", 0.95)],
            "top_two": ["l2", "baseline"],
            "chosen_on_test": [],
            "runs": [Run(experiment=name, repeat=0, **RUN) for name in ("baseline", "l2")],
            "results": [],
            "means": [Result(experiment=name, checkpoint="best", split="test", **row) for name, row in means.items()],
            "comparisons": [],
            "at_thresholds": [],
            "goals": [],
            "folds": None,
            "test_sources": [],
            "confidence": 0.95,
            "rests_on": "",
            "interval_methods": [],
            "predictions": {},
        }
        | changes
    )


def test_the_answer() -> None:
    assert summary.answer(_summary(), 200) == [
        "On the validation images, l2 has the highest F1 of TB (0.9800), followed by baseline (0.9500).",
        "On the 200 test images, l2 reaches an accuracy of 98.50 %, an F1 of 0.9611 and an AUROC of 0.9900; "
        "3 images misclassified.",
        "The baseline reaches 97.00 %, 0.9200 and 0.9850 (6 images misclassified): l2 has a higher accuracy (+0.0150), "
        "a higher F1 (+0.0411) and a higher AUROC (+0.0050).",
        "All epochs were selected on the validation images; the test images were used once, for the metrics above.",
    ]


def test_the_answer_in_published_mode() -> None:
    chosen = _summary(ranked_on="test", chosen_on_test=["baseline", "l2"])
    assert summary.answer(chosen, 200) == [
        "On the test images, l2 has the highest F1 of TB (0.9800†), followed by baseline (0.9500†).",
        "On the 200 test images, l2 reaches an accuracy of 98.50 %†, an F1 of 0.9611† and an AUROC of 0.9900†; "
        "3 images misclassified.",
        "The baseline reaches 97.00 %†, 0.9200† and 0.9850† (6 images misclassified): l2 has a higher accuracy "
        "(+0.0150), "
        "a higher F1 (+0.0411) and a higher AUROC (+0.0050).",
        "All epochs were selected on the test images themselves, and the experiments were ranked on them: "
        "the metrics marked † are too optimistic.",
    ]


def test_the_answer_where_the_baseline_wins_and_two_are_equal() -> None:
    ranking = [Ranked("baseline", 0.05), Ranked("l2", 0.05)]
    tied = _summary(top_two=["baseline", "l2"], ranked_by="loss", ranking=ranking)
    said = summary.answer(tied, 200)
    assert said[0] == "On the validation images, baseline has the lowest loss (0.0500); l2 has the same."
    assert said[2] == (
        "The second, l2, reaches 98.50 %, 0.9611 and 0.9900 (3 images misclassified): baseline has a lower "
        "accuracy (−0.0150), "
        "a lower F1 (−0.0411) and a lower AUROC (−0.0050)."
    )


def test_the_answer_gives_every_difference_its_direction() -> None:
    means = MEANS | {"l2": {"accuracy": 0.985, "f1": 0.92, "auroc": 0.96}}
    assert summary.answer(_summary(means), 200)[2] == (
        "The baseline reaches 97.00 %, 0.9200 and 0.9850 (6 images misclassified): l2 has a higher accuracy (+0.0150), "
        "a lower AUROC (−0.0250) and the same F1."
    )


def test_the_answer_where_the_loss_decides() -> None:
    said = summary.answer(_summary(ranking=[Ranked("l2", 0.95), Ranked("baseline", 0.95)]), 200)[0]
    assert (
        said == "On the validation images, l2 has the highest F1 of TB (0.9500); baseline has the same, but not a "
        "lower loss."
    )


def test_the_answer_where_one_experiment_chose_on_test() -> None:
    said = summary.answer(_summary(chosen_on_test=["l2"]), 200)
    assert (
        said[-1]
        == "The epoch of l2 was selected on the test images themselves: the metrics marked † are too optimistic."
    )


def test_what_an_experiment_changes() -> None:
    baseline = {"model": {"dropout": 0.0, "arch": "resnet18"}, "loss": {"l2": 0.0}}
    cfg = {"model": {"dropout": 0.5, "arch": "resnet18"}, "loss": {"l2": 0.001}}
    assert artefacts.differences(cfg, baseline) == [("model.dropout", 0.0, 0.5), ("loss.l2", 0.0, 0.001)]


def test_samples_run_from_the_surest_to_the_least_sure() -> None:
    table = pd.DataFrame(
        [
            ("a", "TB", "TB", 0.7),
            ("b", "TB", "TB", 0.9),
            ("c", "TB", "Healthy", 0.6),
            ("d", "TB", "TB", 0.8),
            ("e", "Healthy", "TB", 0.99),
        ],
        columns=["id", "actual", "predicted", "probability"],
    )
    assert list(pictures.right(table, "TB", 2)["id"]) == ["b", "a"]
    assert list(pictures.right(table, "TB", 9)["id"]) == ["b", "d", "a"]
    assert list(pictures.right(table, "Healthy", 2)["id"]) == []
    assert list(pictures.mistakes(table, 9)["id"]) == ["e", "c"]


def test_small_images_are_shown_pixel_by_pixel_and_large_ones_smaller() -> None:
    def shown(pixels: Any) -> Any:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures.data_uri(pixels).split(",")[1]))))

    pixels = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    assert (shown(pixels) == pixels).all()
    assert shown(np.zeros((400, 300), np.uint8)).shape == (160, 120)


def test_limits_pass_over_what_is_not_a_number() -> None:
    table = pd.DataFrame({"train_loss": [0.4, 0.2], "valid_loss": ["", "inf"], "valid_f1": [0.5, 0.9]})
    assert charts.limits([table], "loss") == pytest.approx((0, 0.408))
    assert charts.limits([table], "f1") == pytest.approx((0.484, 1.008))


def test_numbers_as_people_read_them() -> None:
    assert [text.percent(0.98913), text.percent(None), text.decimal(0.96857)] == ["98.91", "not available", "0.9686"]
    assert text.grouped(23512130) == "23\u202f512\u202f130"
    assert [text.duration(seconds) for seconds in (40.6, 192.4, 3839.7)] == ["41 s", "3 min 12 s", "1 h 4 min"]
    assert [text.listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert [text.plural(count, "image") for count in (0, 1, 2.5)] == ["0 images", "1 image", "2.5 images"]
