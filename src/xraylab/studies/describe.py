"""What the studies and the recipes are, in words."""

from xraylab.studies import presets, recipes
from xraylab.studies.presets import Preset, leaves


def list_studies() -> list[str]:
    """One line per study, and what it needs; then the recipes."""
    studies = [presets.read(name) for name in presets.names()]
    width = max(len(preset.name) for preset in studies)
    lines = [
        line
        for preset in studies
        for line in (
            f"{preset.name:{width}}  {preset.summary}",
            f"{'':{width}}  needs {preset.data['what']} ({preset.data['where']})",
        )
    ]
    lines += ["", "Recipes, laid over any study (`xraylab study use NAME`; --recipe of `xraylab new` and `init`):"]
    return lines + [f"{name:{width}}  {recipe.summary}" for name, recipe in recipes.RECIPES.items()]


def show(name: str) -> list[str]:
    """A recipe's purpose, or everything about a study. Errors: ParamsError where there is neither."""
    if name in recipes.RECIPES:
        return [f"{name}: {recipes.RECIPES[name].summary}", f"`xraylab study use {name}` lays it over params.yaml"]
    return show_study(presets.read(name))


def show_study(preset: Preset) -> list[str]:
    """Everything about one study: data, values and whose they are, modes, deviations, published results."""
    counts = preset.data["images"] or {}
    images = ", ".join(f"{label} {count:,}" for label, count in counts.items()) or "image counts not published"
    lines = [preset.title, preset.summary, "", f"Data: {preset.data['what']}", f"      {preset.data['where']}"]
    lines += [f"      {images}", "", "Values:"]
    lines += [
        f"  {key} = {value}  ({preset.origin(key, value)})" for key, value in leaves(preset.values(published=False))
    ]
    if preset.as_published:
        lines += ["", "With --published, the study's own way of selecting:"]
        lines += [f"  {key} = {value}" for key, value in leaves(preset.as_published)]
    lines += ["", "Differences from the study:", *(f"  - {text}" for text in preset.deviations)]
    lines += ["", f"Published: {preset.results['heading']}"]
    return lines + [f"  {line}" for line in _table([preset.results["columns"], *preset.results["rows"]])]


def _table(rows: list[list[object]]) -> list[str]:
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
