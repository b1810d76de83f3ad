"""What the report says of each experiment, of how it was made, and where names are hidden."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import finished_study
import numpy as np
import pandas as pd
import pytest
import small

from xraylab import files, tables
from xraylab.paths import Paths
from xraylab.report import artefacts, checklist, metric_tables, pictures, provenance, study_facts, text
from xraylab.report.records import Comparison, Estimate, Metric, Spread, Summary
from xraylab.stages import evaluate, report


def _reported(root: Path, changes: dict[str, Any] | None = None, **more: Any) -> str:
    given, paths = finished_study.make(root, changes or {}, **more)
    index = tables.read(paths.index)
    tables.write(index.assign(sex=np.where(np.arange(len(index)) % 2, "F", "M")), paths.index)
    evaluate.run(given, paths)
    report.run(given, paths)
    return paths.report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    _reported(folder)
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return Paths(root).report.read_text(encoding="utf-8")


def _article(page: str, experiment: str) -> str:
    start = page.index(f'<article id="experiment-{experiment}">')
    return page[start : page.index("</article>", start)]


def test_each_experiment_has_its_metrics_with_intervals(page: str, root: Path) -> None:
    table = tables.read(Paths(root).evaluation / "metrics.csv")
    for experiment in ("baseline", "l2"):
        mean = (table["experiment"] == experiment) & (table["checkpoint"] == "best") & (table["kind"] == "mean")
        row = table[mean & (table["class"] == "TB") & (table["metric"] == "sensitivity")].iloc[0]
        value, low, high = (100 * float(row[name]) for name in ("value", "ci_low", "ci_high"))
        shown = f'Sensitivity %</th><td>{value:.1f}</td><td class="quiet">{low:.1f} to {high:.1f}</td>'
        assert shown in _article(page, experiment)


def test_operating_points_calibration_and_subgroups_are_shown(page: str, root: Path) -> None:
    article = _article(page, "l2")
    points = tables.read(Paths(root).evaluation / "operating_points.csv")
    for point in points.loc[points["experiment"] == "l2", "point"]:
        assert f'scope="row">{point}</th>' in article
    found = files.read_json(Paths(root).evaluation / "calibration.json")
    own = next(row for row in found if row["experiment"] == "l2")
    for when, named in (("before", "as predicted"), ("after", f"after temperature scaling ({own['temperature']:.2f})")):
        row = article[article.index(f'scope="row">{named}</th>') :].split("</tr>")[0]
        chance = f"{own[when]['ece_by_chance']:.3f} ({own[when]['ece_by_chance_p95']:.3f})"
        assert f'<td>{own[when]["ece"]:.3f}</td><td class="quiet">{chance}</td>' in row
        assert own[when]["why"] in row  # 8 images of each class are no basis for a slope
    assert article.count('colspan="7">not shown</td>') == 2  # 8 of the 16 test images are of each sex
    assert 'aria-label="l2: observed share over predicted probability on the test images"' in article


def test_every_picture_and_chart_says_what_it_is(page: str) -> None:
    assert re.findall(r"<svg (?![^>]*aria-label=\"[^\"]+\")", page) == []
    assert re.findall(r"<img (?![^>]*alt=\"[^\"]+\")", page) == []


def test_contents_lead_to_the_sections(page: str) -> None:
    links = re.findall(r'<li><a href="#([^"]+)">', page)
    assert links == re.findall(r'<section id="([^"]+)">', page)


def test_names_are_hidden_everywhere(tmp_path: Path) -> None:
    html = _reported(tmp_path, {"report": {"hide_names": True}})
    assert re.findall(r"(?:train|valid|test)\d+\.png", html) == []
    index = list(tables.read(Paths(tmp_path).index)["id"])
    shown = {int(number) for number in re.findall(r"Radiograph image (\d+)", html)}
    assert shown
    assert shown <= set(range(1, len(index) + 1))


def test_a_hidden_image_is_its_row_in_the_index() -> None:
    hidden = pictures.Names.of(["a/1.png", "b/1.png", "b/2.png"], hidden=True)
    assert [hidden.whole("b/1.png"), hidden.file("b/2.png"), hidden.file("2.png")] == ["image 2", "image 3", "image 3"]
    assert [hidden.file("1.png"), hidden.whole("c.png")] == ["an image", "an image"]  # two have that file name; none
    assert hidden.finding({"says": "x", "examples": ["a/1.png"]}) == {"says": "x", "examples": []}
    shown = pictures.Names.of(["a/1.png"], hidden=False)
    assert [shown.whole("a/1.png"), shown.file("a/1.png")] == ["a/1.png", "1.png"]


def test_a_card_per_experiment_without_those_of_former_ones(root: Path, page: str) -> None:
    folder = Paths(root).cards
    assert sorted(path.name for path in folder.iterdir()) == ["baseline.md", "l2.md"]
    card = (folder / "l2.md").read_text(encoding="utf-8")
    assert card.startswith(
        "# l2\n\nTuberculosis on chest radiographs\n\n## Network\n\n- resnet18, 11\u202f171\u202f266"
    )
    for line in re.findall(r"^- (.*)$", card, re.MULTILINE):
        assert f"<dd>{line}</dd>".replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in page


def test_a_card_escapes_what_users_name() -> None:
    card = study_facts.markdown("l2", "<script>", {"Data": ["<img onerror=x>"]})
    assert card == "# l2\n\n&lt;script&gt;\n\n## Data\n\n- &lt;img onerror=x&gt;\n"


def test_the_checklists_are_shown_whole_and_say_what_is_unknown(page: str) -> None:
    assert [item.number for item in checklist.CLAIM] == [str(number) for number in range(1, 45)]
    items = [item for items in checklist.CHECKLISTS.values() for item in items]
    unknown = [item for item in items if item.fact is None]
    assert all(item.missing for item in unknown)
    section = page[page.index('<section id="checklist">') :].split("</section>", maxsplit=1)[0]
    assert re.findall(r"<tr><td>(\d+\w?)</td><th", section) == [item.number for item in items]
    assert section.count('<td class="left wrap quiet">not known to the pipeline: ') >= len(unknown)
    assert section.count("<tbody>") == section.count("</tbody>") > 10


def test_the_checklists_know_the_sexes_that_the_index_has_and_the_groups(page: str) -> None:
    section = page[page.index('<section id="checklist">') :]
    assert section.count("sex of the images of each split, under “Data”</td>") == 3
    assert section.count("metrics by sex, with the differences from the largest group</td>") == 2
    assert "not addressed</td>" in section


def test_commit_and_data_are_named(tmp_path: Path, page: str, root: Path) -> None:
    assert files.sha256(Paths(root).index) in page
    assert "unknown: the study is not in a git repository with a commit" in page
    (tmp_path / "a").write_text("1")
    small.commit(tmp_path)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert provenance.commit(tmp_path) == head.stdout.strip()
    (tmp_path / "a").write_text("2")
    assert provenance.commit(tmp_path) == f"{head.stdout.strip()}, with uncommitted changes"


@pytest.mark.parametrize(("seconds", "said"), [(192.4, ("3 min 12 s", "20")), (0.0, ("0 s", "not available"))])
def test_images_per_second_count_every_epoch(root: Path, seconds: float, said: tuple[str, str]) -> None:
    run = Summary.of(files.read_json(Paths(root).evaluation / "summary.json")).runs[0]
    assert run.last_epoch == 5
    speed = provenance.speed(replace(run, train_seconds=seconds), 640)
    assert (speed.time, speed.rate) == said


def test_images_that_one_alone_gets_right_are_shown_as_the_other_sees_them() -> None:
    columns = ["id", "actual", "predicted", "probability"]
    first = pd.DataFrame([("a", "TB", "TB", 0.9), ("b", "TB", "H", 0.8), ("c", "H", "H", 0.7)], columns=columns)
    second = pd.DataFrame([("c", "H", "TB", 0.6), ("b", "TB", "TB", 0.9), ("a", "TB", "H", 0.7)], columns=columns)
    ours, theirs = pictures.alone_right(first, second)
    assert ours.to_numpy().tolist() == [["a", "TB", "H", 0.7], ["c", "H", "TB", 0.6]]
    assert theirs.to_numpy().tolist() == [["b", "TB", "H", 0.8]]


def test_the_two_best_are_compared_in_their_order(root: Path) -> None:
    shown = {"checkpoint": "best", "split": "test", "kind": "repeat"}
    keys = [("overall", "accuracy"), *(("TB", metric) for metric in metric_tables.PAIR_METRICS[1:])]
    own = [(name, key) for name in ("baseline", "l2") for key in keys]
    metrics = [Metric(experiment=name, class_=key[0], metric=key[1], **shown) for name, key in own]
    tested = {"kind": "top two", "role": "exploratory", "about": "", "first": "l2", "second": "baseline"}
    row = Comparison(**tested, metric="f1", difference=0.1, ci_low=-0.05, ci_high=0.2, p_holm=0.5)
    summary = Summary.of(files.read_json(Paths(root).evaluation / "summary.json"))
    summary = replace(summary, top_two=["baseline", "l2"], comparisons=[row])
    differences = {each.metric: each.difference for each in metric_tables.pair_rows(summary, metrics, [])}
    assert differences["f1"] == replace(row, difference=-0.1, ci_low=-0.2, ci_high=0.05)
    assert differences["auroc"] is None
    turned = replace(summary, top_two=["l2", "baseline"])
    assert metric_tables.pair_rows(turned, metrics, [])[3].difference == row
    spread = {"mean": 0.9, "sd": 0.01, "n": 2, **shown}
    means = [Spread(experiment=name, class_=key[0], metric=key[1], **spread) for name, key in own]
    twice = replace(summary, runs=[*summary.runs, replace(summary.runs[0], repeat=1)])
    several = metric_tables.pair_rows(twice, [], means)
    assert several[0].estimates == [Estimate(value=0.9, sd=0.01)] * 2


def test_metrics_as_people_read_them() -> None:
    assert [text.format_metric(0.98913, name) for name in ("accuracy", "f1")] == ["98.9", "0.989"]
    assert text.interval(Estimate(ci_low=-0.0123, ci_high=0.5), "f1") == "−0.012 to 0.500"
    assert text.interval(Estimate(), "f1") == ""
    assert text.format_metric(None, "f1") == "not available"
    names = ("auroc", "f1", "balanced_accuracy", "loss", "ppv", "kappa")
    assert [text.metric_name(name) for name in names] == [
        "AUROC", "F1", "balanced accuracy", "loss", "PPV", "Cohen’s kappa",
    ]  # fmt: skip


def test_differences_at_thresholds_stand_under_the_operating_points(page: str, root: Path) -> None:
    summary = files.read_json(Paths(root).evaluation / "summary.json")
    assert len(summary["at_thresholds"]) == 6  # two metrics at three points
    article = _article(page, "l2")
    table = article[article.index('aria-label="Differences at fixed thresholds"') :].split("</table>", maxsplit=1)[0]
    assert table.count("fixed for 90 % sensitivity on validation") == 2
    assert 'aria-label="Differences at fixed thresholds"' not in _article(page, "baseline")


def test_the_limitations_name_the_sources_that_the_test_images_come_from(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path)
    evaluate.run(given, paths)
    unknown = "performance at other hospitals is unknown"

    def first_limit(sources: list[str], external: list[Any], test_sources: list[str]) -> str:
        data = artefacts.read(given, paths, str, lambda cfg, images: [], None, artefacts.explanation(paths))
        index = data.index.assign(source=np.resize(sources, len(data.index)))
        summary = replace(data.summary, test_sources=test_sources)
        return study_facts.limits(replace(data, index=index, external=external, summary=summary)).split("; ")[0]

    assert first_limit([""], [], []) == f"all images come from one source, so {unknown}"
    two = "come from the same 2 sources as the training images"
    assert first_limit(["Anna", "Mercy"], [], []) == f"the test images {two}, so {unknown}"
    assert first_limit(["Anna", "Mercy"], [{}], []).startswith(f"the test images of this study {two}")
    left_out = "performance at hospitals other than these 2 sources is unknown"
    assert first_limit(["Anna", "Mercy"], [], ["Anna", "Mercy"]) == left_out


def test_a_difference_that_rounds_to_zero_has_no_minus_sign() -> None:
    assert (text.signed(-0.0001), text.decimal(-0.00001), text.percent(-0.00001)) == ("+0.000", "0.0000", "0.00")
