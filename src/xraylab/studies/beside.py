"""What a study published, beside what was measured."""

from typing import Any

from xraylab.studies.presets import Preset

Means = dict[tuple[str, str, str], dict[str, Any]]  # (experiment, checkpoint, side) -> figures
Counts = dict[str, int]  # class -> images


def published(preset: Preset, images: Counts, means: Means) -> dict[str, Any]:
    """The preset's table; `images` of the side that the preset names tell whether the data are the published ones.

    Where a row begins with the name of an experiment that was run, its accuracy and F1 on the test side at the best
    epoch stand with it.
    """
    theirs = preset.data["images"]
    return {
        "name": preset.name,
        "summary": preset.summary,
        "comparable": theirs and images == theirs,
        "counts": _counts(theirs, images, preset.data.get("side")),
        "heading": preset.results["heading"],
        "columns": preset.results["columns"],
        "rows": [{"cells": row, **_measured(str(row[0]), means)} for row in preset.results["rows"]],
        "pivot": _pivot(preset.pivot, means) if preset.pivot else None,
        "deviations": preset.deviations,
    }


def _counts(theirs: Counts | None, ours: Counts, side: str | None) -> str:
    if theirs is None:
        return "How many images of each class it used is not published, so nothing tells whether these are its data."
    where = f" on the {side} side" if side else ""
    if theirs == ours:
        return f"There are as many images of each class{where} as it published, so its figures can stand beside these."
    return (
        f"It had {_said(theirs)}{where}; here are {_said(ours)}. "
        "These are other data, and its figures cannot be compared with those above."
    )


def _said(images: Counts) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in images.items())


def _measured(experiment: str, means: Means) -> dict[str, float | None]:
    figures = means.get((experiment, "best", "test"), {})
    return {name: figures.get(name) for name in ("accuracy", "f1")}


def _pivot(pivot: dict[str, Any], means: Means) -> dict[str, Any]:
    """The measured accuracies where the preset places its experiments."""
    rows = {
        name: [None if experiment is None else _measured(experiment, means)["accuracy"] for experiment in experiments]
        for name, experiments in pivot["rows"].items()
    }
    return {"heading": pivot["heading"], "columns": pivot["columns"], "rows": rows}
