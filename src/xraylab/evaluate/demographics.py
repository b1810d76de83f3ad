"""Who is in each split: images and patients in all, by class, and by what the index knows of sex, age and view."""

from typing import Any

import pandas as pd

from xraylab.evaluate.subgroups import groups, in_order, suppressed

COLUMNS = ["split", "grouping", "group", "images", "patients", "suppressed", "age_q1", "age_median", "age_q3"]
ALL = "all"


def table(index: pd.DataFrame, split: pd.Series, bounds: list[int], smallest: int) -> pd.DataFrame:
    """One row per split, grouping and group: images and known patients; of all of a split's images the ages, too.

    `split` names each image's split. Groups of fewer than `smallest` images in a split are suppressed there, with what
    would give them away; classes are not, since they are no secret. Ages are in years, of the images that have one.
    """
    named = {"class": index["label"].to_numpy(str)} | groups(index, bounds)
    rows: list[dict[str, Any]] = []
    for name, own in index.groupby(split, sort=False):
        ages = pd.to_numeric(own["age"], errors="coerce").dropna() if "age" in own else pd.Series(dtype=float)
        quartiles = dict(zip(COLUMNS[-3:], ages.quantile([0.25, 0.5, 0.75]), strict=True)) if len(ages) else {}
        rows.append({"split": name, "grouping": ALL, "group": "", **_counts(own), **quartiles})
        for grouping, each in named.items():
            members = {str(group): part for group, part in own.groupby(each[split == name])}
            sizes = {group: len(part) for group, part in members.items()}
            hidden = suppressed(sizes, smallest, set()) if grouping != "class" else set()
            for group in in_order(members):
                blank = {"images": None, "patients": None, "suppressed": True} if group in hidden else {}
                rows.append({"split": name, "grouping": grouping, "group": group, **_counts(members[group]), **blank})
    return pd.DataFrame(rows, columns=COLUMNS).astype({"images": "Int64", "patients": "Int64"})


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    """Images and known patients; no number of patients where none is known."""
    known = rows.loc[rows["patient"] != "", "patient"].nunique()
    return {"images": len(rows), "patients": known or None, "suppressed": False}
