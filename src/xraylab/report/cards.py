"""A model card per experiment (after Mitchell et al., Model Cards for Model Reporting, 2019)."""

from collections.abc import Sequence
from html import escape
from typing import Any

from xraylab.params.config import Params, Plan
from xraylab.report import facts, training
from xraylab.report.checklist import UNKNOWN
from xraylab.report.comparison import COLUMNS, place
from xraylab.report.estimates import figure, interval, title, unit
from xraylab.report.records import Record, chosen, keyed
from xraylab.report.split import sentences
from xraylab.report.text import grouped, listed

Card = dict[str, list[str]]  # heading -> lines


def card(
    params: Params,
    summary: dict[str, Any],
    audit: dict[str, Any],
    plan: Plan,
    runs: list[dict[str, Any]],
    rows: Sequence[Record],
    built_by: str,
    shortcuts: Sequence[str] = (),
) -> Card:
    """What the network is, what it was trained and tested on, how well it did, and what it must not be used for.

    `built_by`: the library that builds the network; `shortcuts`: what its probes warn of.
    """
    experiment, model = runs[0]["experiment"], plan.model
    caution = ["Not a medical device; not validated for clinical use."]
    if experiment in summary["chosen_on_test"]:
        caution.append("Its epoch was chosen on the test images: its figures are too favourable.")
    return {
        "Network": [
            f"{model.arch}, {grouped(runs[0]['parameters'])} parameters; {model.channels}-channel images of "
            f"{model.pixels} × {model.pixels} pixels; puts out one probability each for {listed(summary['classes'])}."
        ],
        "Training": [
            *training.training(plan, runs, built_by),
            f"Selected: {training.selection(plan.train)}.",
        ],
        "Intended use": [f"{UNKNOWN}: what it is for, who uses it, and on whom."],
        "Data": [f"{params.data.source_text}; {sentences(params.split)} Images: {facts.preprocessing(params)}."],
        "Figures on the test images": _figures(summary, rows, experiment),
        "Cautions": [*caution, *shortcuts, f"{_begin(facts.limits(params, summary, audit))}."],
    }


def _figures(summary: dict[str, Any], rows: Sequence[Record], experiment: str) -> list[str]:
    own = keyed(chosen(rows, experiment=experiment, checkpoint="best", side="test", kind="mean"))
    found = [(name, own.get(place(summary, name))) for name in COLUMNS["best"]]
    return [f"{title(name)}: {_said(row, name)}" for name, row in found if row is not None]


def _said(row: Record, name: str) -> str:
    if row["value"] is None:
        return "not available"
    between = interval(row, name)
    return f"{figure(row['value'], name)}{unit(name)}" + (f" ({between})" if between else "")


def markdown(experiment: str, study: str, card: Card) -> str:
    """The card as a file; what users name is escaped, since Markdown may hold HTML."""
    parts = [f"# {experiment}", escape(study)]
    parts += [f"## {heading}\n\n" + "\n".join(f"- {escape(line)}" for line in lines) for heading, lines in card.items()]
    return "\n\n".join(parts) + "\n"


def _begin(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
