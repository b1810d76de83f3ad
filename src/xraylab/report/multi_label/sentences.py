"""The answer of a multi-label study in sentences: means over findings, and which findings are the easy ones."""

from xraylab.report import summary as general
from xraylab.report.artefacts import Artefacts
from xraylab.report.multi_label.tables import Keyed, test_estimates
from xraylab.report.records import MACRO, Summary
from xraylab.report.text import decimal, interval, listed, metric_name, plural

COMPARED = ("auroc", "auprc")


def answer(data: Artefacts) -> list[str]:
    """Who comes first, its test metrics, the baseline's, findings without metrics, and which images chose."""
    summary = data.summary
    first = summary.top_two[0]
    others = [name for name in (summary.baseline, *summary.top_two) if name != first][:1]
    return [
        general.ranked(summary),
        _scores(data, first),
        *(_against(summary, first, other) for other in others),
        *_left_out(summary),
        general.chosen(summary),
    ]


def _scores(data: Artefacts, experiment: str) -> str:
    summary, estimates = data.summary, test_estimates(data, experiment)
    dagger, auroc = summary.mark(experiment), estimates[MACRO, "auroc"]
    between = interval(auroc, "auroc")
    sure = f" ({100 * summary.confidence:g} % interval {between})" if between else ""
    over = f"over {plural(len(summary.macro_over), 'finding')}{_range(summary, estimates)}"
    auprc = f"{decimal(estimates[MACRO, 'auprc'].value, 3)}{dagger}{general.averaged(summary)}"
    return (
        f"On the {data.tested} test images, {experiment} reaches a mean AUROC of {decimal(auroc.value, 3)}{dagger}"
        f"{sure} {over}, and a mean AUPRC of {auprc}."
    )


def _range(summary: Summary, estimates: Keyed) -> str:
    """`, from 0.61 (Infiltration) to 0.92 (Hernia)`; empty of one finding."""
    aurocs = {name: estimates[name, "auroc"].value for name in summary.macro_over}
    known = sorted((value, name) for name, value in aurocs.items() if value is not None)
    if len(known) < 2:
        return ""
    (low, worst), (high, best) = known[0], known[-1]
    return f", from {decimal(low, 3)} ({worst}) to {decimal(high, 3)} ({best})"


def _against(summary: Summary, first: str, other: str) -> str:
    means, others = summary.test_mean(first), summary.test_mean(other)
    dagger = summary.mark(other)
    values = listed([f"{decimal(getattr(others, name), 3)}{dagger}" for name in COMPARED])
    who = f"The second, {other}," if other != summary.baseline else "The baseline"
    named = f" ({other})" if other == summary.baseline != "baseline" else ""
    return f"{who}{named} reaches {values}: {first} has {_directions(means, others)}."


def _directions(means: object, others: object) -> str:
    """`a higher mean AUROC (+0.0125) and the same mean AUPRC`."""
    parts = []
    for name in COMPARED:
        value, other = getattr(means, name), getattr(others, name)
        if value is None or other is None:
            continue
        difference = round(value - other, 4)
        article = "a higher" if difference > 0 else "a lower" if difference < 0 else "the same"
        parts.append(f"{article} mean {metric_name(name)}" + (f" ({difference:+z.4f})" if difference else ""))
    return listed(parts).replace("-", "−")


def _left_out(summary: Summary) -> list[str]:
    """Findings that no mean counts, and why."""
    return [f"{name} is in no mean: {why}." for name, why in summary.not_evaluated.items()]
