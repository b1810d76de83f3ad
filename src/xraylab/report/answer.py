"""The study's answer in a few plain sentences."""

from typing import Any

from xraylab.report.text import decimal, listed, percent, plural

DAGGER = "†"
SIDE_NAMES = {"valid": "validation", "test": "test"}
RANKED_BY = {"f1": "F1", "accuracy": "accuracy", "loss": "loss"}
COMPARED = {"accuracy": "accuracy", "f1": "F1", "auroc": "AUROC"}

Means = dict[tuple[str, str, str], dict[str, Any]]  # (experiment, checkpoint, side) -> figures


def sentences(summary: dict[str, Any], means: Means, test_images: int) -> list[str]:
    """Who comes first, its test figures, the baseline's, and which images chose."""
    first, baseline = summary["top_two"][0], summary["baseline"]
    others = [name for name in (baseline, *summary["top_two"]) if name != first][:1]
    said = [_first(summary), _scores(summary, means, first, test_images)]
    said += [_against(summary, means, first, other, test_images) for other in others]
    return [*said, _chosen(summary)]


def mark(summary: dict[str, Any], experiment: str) -> str:
    """A dagger for the figures of an experiment whose epoch was chosen on the test images."""
    return DAGGER if experiment in summary["chosen_on_test"] else ""


def f1_name(summary: dict[str, Any]) -> str:
    return f"F1 of {summary['positive']}" if summary["positive"] else "mean F1 over the classes"


def _first(summary: dict[str, Any]) -> str:
    by, side, ranking = summary["ranked_by"], SIDE_NAMES[summary["ranked_on"]], summary["ranking"]
    column = "log_loss" if by == "loss" else by
    figures = [decimal(row[column]) + mark(summary, row["experiment"]) for row in ranking]
    name = f1_name(summary) if by == "f1" else RANKED_BY[by]
    best = f"On the {side} images, {ranking[0]['experiment']} has the {'lowest' if by == 'loss' else 'highest'} {name}"
    if len(ranking) == 1:
        return f"The study has one experiment, {ranking[0]['experiment']}."
    if ranking[0][column] == ranking[1][column]:
        same = "the same" if by == "loss" else "the same, and no lower loss"
        return f"{best} ({figures[0]}); {ranking[1]['experiment']} has {same}."
    return f"{best} ({figures[0]}), followed by {ranking[1]['experiment']} ({figures[1]})."


def _scores(summary: dict[str, Any], means: Means, experiment: str, images: int) -> str:
    row, dagger = means[experiment, "best", "test"], mark(summary, experiment)
    wrong = _wrong(summary, row, images, "; {} wrong")
    auroc = "no AUROC" if row["auroc"] is None else f"an AUROC of {decimal(row['auroc'])}{dagger}"
    return (
        f"On the {images} test images, {experiment} reaches an accuracy of {percent(row['accuracy'])} %{dagger}, "
        f"an F1 of {decimal(row['f1'])}{dagger} and {auroc}{wrong}{_averaged(summary)}."
    )


def _against(summary: dict[str, Any], means: Means, first: str, other: str, images: int) -> str:
    """Every difference with its direction; whether it is more than chance, the tests say."""
    ours, theirs = means[first, "best", "test"], means[other, "best", "test"]
    dagger = mark(summary, other)
    name = f"The baseline ({other})" if other == summary["baseline"] else f"The next, {other},"
    name = "The baseline" if other == "baseline" == summary["baseline"] else name
    auroc = "no AUROC" if theirs["auroc"] is None else f"{decimal(theirs['auroc'])}{dagger}"
    return (
        f"{name} reaches {percent(theirs['accuracy'])} %{dagger}, {decimal(theirs['f1'])}{dagger} and {auroc}"
        f"{_wrong(summary, theirs, images, ' ({} wrong)')}: {first} has {_directions(ours, theirs)}."
    )


def _directions(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """`a higher accuracy (+0.0125), a lower AUROC (-0.0210) and the same F1`."""
    said, same = [], []
    for figure, name in COMPARED.items():
        if ours[figure] is None or theirs[figure] is None:
            continue
        difference = round(ours[figure] - theirs[figure], 4)
        if difference:
            said.append(f"a {'higher' if difference > 0 else 'lower'} {name} ({difference:+.4f})")
        else:
            same.append(name)
    also = [f"the same {listed(same)}"] if same else []
    return listed(said + also).replace("-", "−")


def _wrong(summary: dict[str, Any], row: dict[str, Any], images: int, shown: str) -> str:
    """How many images, in the words of `shown`; nothing of a mean over sources, which counts no images."""
    return "" if summary["test_sources"] else shown.format(plural((1 - row["accuracy"]) * images, "image"))


def _tested(summary: dict[str, Any]) -> str:
    """Which sources the repeats tested, and by what."""
    sources = summary["test_sources"]
    used = list(dict.fromkeys(sources[run["repeat"] % len(sources)] for run in summary["runs"]))
    if len(used) == 1:
        return f"tested on {used[0]} alone, by networks that were trained without it"
    many = f"{plural(len(used), 'source')}, {listed(used)}"
    return f"the mean over {many}, each tested by networks that were trained without it"


def _averaged(summary: dict[str, Any]) -> str:
    repeats = {run["repeat"] for run in summary["runs"]}
    if summary["test_sources"]:
        return f" ({_tested(summary)})"
    if summary["folds"]:
        tested = {repeat % summary["folds"] for repeat in repeats}
        return f" (the test sides of {plural(len(tested), 'fold')} taken together)"
    return f" (every figure is the mean of {len(repeats)} repeats)" if len(repeats) > 1 else ""


def _chosen(summary: dict[str, Any]) -> str:
    on_test = summary["chosen_on_test"]
    if not on_test:
        return "Every epoch was chosen on the validation images; the test images served once, for the figures above."
    whose = "Every epoch" if _all_on_test(summary) else f"The epoch of {listed(on_test)}"
    order = ", and so was the order of the experiments" if summary["ranked_on"] == "test" else ""
    return f"{whose} was chosen on the test images themselves{order}: the figures marked {DAGGER} are too favourable."


def _all_on_test(summary: dict[str, Any]) -> bool:
    return set(summary["chosen_on_test"]) == {run["experiment"] for run in summary["runs"]}
