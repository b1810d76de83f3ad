"""The study's answer: what its tests allow to be said, who comes first, and the same for a terminal.

Imports nothing that takes time, neither pandas nor matplotlib: `xraylab show` answers at once.
"""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from xraylab import files
from xraylab.report.records import DAGGER, MACRO, Comparison, Result, Summary, Tree, where
from xraylab.report.text import SPLIT_NAMES, decimal, listed, metric_name, minus, p_value, percent, plural

COMPARED = ("accuracy", "f1", "auroc")
ONCE = "trained networks"  # what a comparison is about where every experiment was trained once
PROBES = {
    "border": "with the image border blackened",
    "centre": "with the image centre blackened",
    "metadata": "by a model that sees only file properties",
}
OPENING = "These results may not hold at other hospitals."
NO_AUDIT: Tree = {"warning": None, "remedy": ""}


def shortcut_warning(audit: Tree | None, explained: Tree | None) -> str | None:
    """What in the data or in a network speaks for a shortcut, and what to do; None where nothing does.

    `audit`: data/audit.json; `explained`: reports/explain/summary.json; None where there is none.
    """
    shortcuts = audit["shortcuts"] if audit else NO_AUDIT
    probes = [probe for probe in PROBES if not (probe == "metadata" and shortcuts["warning"])]  # that says as much
    retained = [f"{shares} {PROBES[probe]}" for probe in probes if (shares := _retained(explained, probe))]
    probed = f"Retained of the AUROC above chance: {'; '.join(retained)}." if retained else None
    reasons = [reason for reason in (shortcuts["warning"], probed) if reason]
    return " ".join([*reasons, shortcuts["remedy"]]).strip() if reasons else None


def _retained(explained: Tree | None, probe: str) -> str:
    """`42 % (baseline)` of each network for which the probe is a warning."""
    networks = explained["experiments"] if explained else []
    probed = {record["experiment"]: record["probes"][probe] for record in networks}
    shortcuts = {name: each for name, each in probed.items() if each["shortcut"]}
    return listed([f"{percent(each['kept'], 0)} % ({name})" for name, each in shortcuts.items()])


def read_for_terminal(evaluation: Path, audit: Path, explanation: Path) -> RenderableType:
    """What `xraylab show` prints, of the folder or file that each stage wrote. Errors: MissingError, DataError."""
    path = evaluation / "summary.json"
    tree, others = files.read_json(path), (audit, explanation / "summary.json")
    audited, explained = (files.read_json(each) if each.is_file() else None for each in others)
    with files.parsing(path):
        summary = Summary.of(tree)
        return for_terminal(summary, shortcut_warning(audited, explained))


def headline(summary: Summary) -> str:
    """Which experiments are shown to be better than the baseline in the primary metric; else that none is, and why."""
    rows, name = _primary(summary), mean_name(summary, summary.primary)
    if not rows:
        return f"There is only one experiment, {summary.ranking[0].experiment}, so nothing to compare it with."
    none = f"No experiment is shown to be better than {_baseline(summary)}"
    if summary.chosen_on_test:
        return f"{none}: the test images were used for selection, so they say nothing about new images."
    significant = [row for row in rows if row.is_shown(summary.confidence)]
    better, worse = _above(significant), [row for row in significant if (row.difference or 0) < 0]
    if rows[0].about == ONCE and better:
        return f"{none}: each was trained only once, and another seed could reverse the difference in {name}."
    if better:
        verb = "is" if len(better) == 1 else "are"
        text = f"{_differences(better)} {verb} shown to be better than {_baseline(summary)} in {name}"
        return f"{text}{_also_worse(worse, '; ')}."
    return f"{none} in {name}{_why_not(rows, worse, summary.confidence)}."


def conclusions(summary: Summary) -> list[str]:
    """The sentences of what differs, else of the experiment that comes first; then of all others in one.

    With one repeat it ends with what that leaves open, with several with the spread between them.
    """
    rows = _primary(summary)
    if not rows:
        return []
    first = summary.top_two[0]
    reported = [row for row in rows if row.is_shown(summary.confidence) or row.not_worse or row.first == first] or rows[
        :1
    ]
    rest = len(rows) - len(reported)
    sentences = [row.sentence for row in reported]
    if rest:
        who = "The other is not" if rest == 1 else f"None of the other {rest} is"
        sentences.append(f"{who} shown to differ from {_baseline(summary)}.")
    return [*sentences, *_detectable(rows), _seeds(summary, rows)]


def _detectable(rows: list[Comparison]) -> list[str]:
    """Which true differences this test would have shown."""
    differences = sorted(row.detectable for row in rows if row.detectable is not None)
    if not differences:
        return []
    span = " to ".join(dict.fromkeys([f"{differences[0]:.3f}", f"{differences[-1]:.3f}"]))
    which = "" if len(differences) == 1 else ", depending on the experiment"
    return [f"This test had 80 % power to detect a true difference in {metric_name(rows[0].metric)} of {span}{which}."]


def largest_differences(summary: Summary, count: int = 5) -> list[str]:
    """Of a multi-label study: for each experiment the findings that differ most from the baseline; else nothing."""
    rows = [row for row in where(summary.comparisons, kind="baseline") if row.class_ not in (None, MACRO)]
    sentences = []
    for experiment in dict.fromkeys(row.first for row in rows):
        of_findings = [row for row in rows if row.first == experiment and row.difference is not None]
        most = sorted(of_findings, key=lambda row: -abs(row.difference or 0))[:count]
        values = [f"{row.class_} ({row.difference:+z.3f}, p {p_value(row.p_holm)})" for row in most]
        name = metric_name(summary.primary)
        sentences.append(
            f"Exploratory: largest differences in {name}, {experiment} less {summary.baseline}: {listed(values)}."
        )
    return sentences


def _why_not(rows: list[Comparison], worse: list[Comparison], confidence: float) -> str:
    """The largest difference that may be chance; why there is no test; who is shown to be worse."""
    undecided = [row for row in rows if row.p_holm is not None and not row.is_shown(confidence)]
    above = _above(undecided)
    if worse and not above:
        return _also_worse(worse, ": ")
    if above:
        most = max(above, key=lambda row: row.difference or 0)
        chance = f": the largest difference, {most.difference:+z.3f} ({most.first}), may be due to chance"
        return chance + _also_worse(worse, "; ")
    if undecided:
        return ": none scores higher"
    untested = next((row.why for row in rows if row.why), "no difference could be tested")
    return f": {untested}"


def _above(rows: list[Comparison]) -> list[Comparison]:
    return [row for row in rows if row.difference is not None and row.difference > 0]


def _also_worse(worse: list[Comparison], joint: str) -> str:
    if not worse:
        return ""
    networks = f"the {'network' if len(worse) == 1 else 'networks'} of " if worse[0].about == ONCE else ""
    return f"{joint}{networks}{_differences(worse)} {'is' if len(worse) == 1 else 'are'} shown to be worse"


def _seeds(summary: Summary, rows: list[Comparison]) -> str:
    if rows[0].about == ONCE:
        return (
            "Every experiment was trained once: this is about these trained networks, and another seed "
            "could reverse it."
        )
    sds = {summary.baseline: rows[0].second_sd} | {row.first: row.first_sd for row in rows}
    spreads = [f"{experiment} {sd:.3f}" for experiment, sd in sds.items() if sd is not None]
    over = plural(len({run.repeat for run in summary.runs}), "fold" if summary.folds else "repeat")
    return f"The standard deviation of {mean_name(summary, summary.primary)} over {over} is {listed(spreads)}."


def _primary(summary: Summary) -> list[Comparison]:
    """The primary metric of every experiment against the baseline."""
    return where(summary.comparisons, kind="baseline", role="primary")


def _differences(rows: list[Comparison]) -> str:
    return listed([f"{row.first} ({row.difference:+z.3f})" for row in rows])


def _baseline(summary: Summary) -> str:
    return "the baseline" if summary.baseline == "baseline" else f"the baseline ({summary.baseline})"


def answer(summary: Summary, test_images: int) -> list[str]:
    """Who comes first, its test metrics, the baseline's, and which images chose."""
    first = summary.top_two[0]
    others = [name for name in (summary.baseline, *summary.top_two) if name != first][:1]
    sentences = [ranked(summary), _scores(summary, first, test_images)]
    return [*sentences, *(_against(summary, first, other, test_images) for other in others), chosen(summary)]


def f1_name(summary: Summary) -> str:
    of_several = mean_name(summary, "f1") if summary.multi else "mean F1 over the classes"
    return f"F1 of {summary.positive}" if summary.positive else of_several


def mean_name(summary: Summary, metric: str) -> str:
    """What a metric is called in a sentence; of a multi-label study it is the mean over findings."""
    return f"mean {metric_name(metric)} over findings" if summary.multi else metric_name(metric)


def ranked(summary: Summary) -> str:
    """Who comes first on the images that rank, and who second."""
    ranking, lowest = summary.ranking, summary.ranked_by == "loss"
    if len(ranking) == 1:
        return f"The study has one experiment, {ranking[0].experiment}."
    first, second = ranking[:2]
    values = [decimal(each.value) + summary.mark(each.experiment) for each in (first, second)]
    name = f1_name(summary) if summary.ranked_by == "f1" else metric_name(summary.ranked_by)
    if summary.multi and not lowest:
        name = mean_name(summary, summary.ranked_by)
    images = f"On the {SPLIT_NAMES[summary.ranked_on]} images"
    best = f"{images}, {first.experiment} has the {'lowest' if lowest else 'highest'} {name}"
    if first.value == second.value:
        same = "the same" if lowest else "the same, but not a lower loss"
        return f"{best} ({values[0]}); {second.experiment} has {same}."
    return f"{best} ({values[0]}), followed by {second.experiment} ({values[1]})."


def _scores(summary: Summary, experiment: str, images: int) -> str:
    mean, dagger = summary.test_mean(experiment), summary.mark(experiment)
    wrong = _wrong(summary, mean, images, "; {} misclassified")
    auroc = "no AUROC" if mean.auroc is None else f"an AUROC of {decimal(mean.auroc)}{dagger}"
    return (
        f"On the {images} test images, {experiment} reaches an accuracy of {percent(mean.accuracy)} %{dagger}, "
        f"an F1 of {decimal(mean.f1)}{dagger} and {auroc}{wrong}{averaged(summary)}."
    )


def _against(summary: Summary, first: str, other: str, images: int) -> str:
    """Every difference with its direction; whether it is more than chance, the tests say."""
    first_mean, other_mean = summary.test_mean(first), summary.test_mean(other)
    dagger = summary.mark(other)
    name = f"The second, {other},"
    if other == summary.baseline:
        name = f"T{_baseline(summary)[1:]}"
    auroc = "no AUROC" if other_mean.auroc is None else f"{decimal(other_mean.auroc)}{dagger}"
    wrong = _wrong(summary, other_mean, images, " ({} misclassified)")
    return (
        f"{name} reaches {percent(other_mean.accuracy)} %{dagger}, {decimal(other_mean.f1)}{dagger} and {auroc}"
        f"{wrong}: {first} has {_directions(first_mean, other_mean)}."
    )


def _directions(first: Result, second: Result) -> str:
    """`a higher accuracy (+0.0125), a lower AUROC (-0.0210) and the same F1`."""
    differing, same = [], []
    for metric in COMPARED:
        value, other = getattr(first, metric), getattr(second, metric)
        if value is None or other is None:
            continue
        difference = round(value - other, 4)
        if difference:
            differing.append(f"a {'higher' if difference > 0 else 'lower'} {metric_name(metric)} ({difference:+z.4f})")
        else:
            same.append(metric_name(metric))
    also = [f"the same {listed(same)}"] if same else []
    return listed(differing + also).replace("-", "−")


def _wrong(summary: Summary, mean: Result, images: int, template: str) -> str:
    """How many images, in the words of `template`; nothing of a mean over sources, which counts no images."""
    return "" if summary.test_sources else template.format(plural((1 - mean.accuracy) * images, "image"))


def averaged(summary: Summary) -> str:
    """What a metric is the mean of, or pooled over; empty where it is of one run."""
    if summary.test_sources:
        return f" ({_tested_sources(summary)})"
    if summary.folds:
        tested = {repeat % summary.folds for repeat in summary.repeats}
        return f" (test images of {plural(len(tested), 'fold')} pooled)"
    return f" (each metric is the mean of {len(summary.repeats)} repeats)" if summary.several else ""


def _tested_sources(summary: Summary) -> str:
    """Which sources the repeats tested, and by what."""
    sources = summary.test_sources
    used = list(dict.fromkeys(sources[repeat % len(sources)] for repeat in summary.repeats))
    if len(used) == 1:
        return f"tested on {used[0]} alone, by networks trained without it"
    return f"mean over {plural(len(used), 'source')}, {listed(used)}, each tested by networks trained without it"


def chosen(summary: Summary) -> str:
    """Which images selected the epochs, and what that means for the metrics."""
    on_test = summary.chosen_on_test
    if not on_test:
        return (
            "All epochs were selected on the validation images; the test images were used once, for the metrics above."
        )
    subject = "All epochs were" if set(on_test) == set(summary.experiments) else f"The epoch of {listed(on_test)} was"
    order = ", and the experiments were ranked on them" if summary.ranked_on == "test" else ""
    return f"{subject} selected on the test images themselves{order}: the metrics marked {DAGGER} are too optimistic."


def for_terminal(summary: Summary, shortcut: str | None = None) -> RenderableType:
    """The experiments in their order on validation: test metrics of the best epochs, and the test against the baseline.

    `shortcut`: why its metrics may not hold at other hospitals, said before them.
    """
    sentences = [headline(summary), *conclusions(summary), *largest_differences(summary)]
    notes = [f"{DAGGER} selected on the test images, so too optimistic"] if summary.chosen_on_test else []
    lines = [Text(minus(sentence)) for sentence in [*sentences, *notes]]
    before = [Text(f"warning: {OPENING} {shortcut}", style="bold")] if shortcut else []
    return Group(*before, _table(summary), *lines)


def _table(summary: Summary) -> Table:
    p = {row.first: row.p_holm for row in where(summary.comparisons, role="primary")}
    if summary.multi:
        return _table_of_findings(summary, p)
    heads = (f"{summary.ranked_on} F1", "accuracy %", "F1", "AUROC", f"p of {metric_name(summary.primary)}")
    table = Table("experiment", *(Column(head, justify="right") for head in heads))
    for name, _ in summary.ranking:
        test, ranked, dagger = summary.test_mean(name), summary.mean(name, summary.ranked_on), summary.mark(name)
        values = [decimal(ranked.f1 if ranked else None), percent(test.accuracy), decimal(test.f1), decimal(test.auroc)]
        tested = "baseline" if name == summary.baseline else p_value(p.get(name))
        table.add_row(Text(name), *(value + dagger for value in values), tested)
    return table


def _table_of_findings(summary: Summary, p: dict[str, float | None]) -> Table:
    """Means over findings."""
    heads = (f"{summary.ranked_on} AUROC", "AUROC", "AUPRC", "F1", f"p of {metric_name(summary.primary)}")
    title = f"means over {plural(len(summary.macro_over), 'finding')}"
    table = Table("experiment", *(Column(head, justify="right") for head in heads), title=title)
    for name, _ in summary.ranking:
        test, valid, dagger = summary.test_mean(name), summary.mean(name, summary.ranked_on), summary.mark(name)
        values = [decimal(valid.auroc if valid else None), *map(decimal, (test.auroc, test.auprc, test.f1))]
        tested = "baseline" if name == summary.baseline else p_value(p.get(name))
        table.add_row(Text(name), *(value + dagger for value in values), tested)
    return table
