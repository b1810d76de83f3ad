"""Labels of the demo's films where each may have several findings: as in public sets, not all certain or there."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from xraylab.demo.findings import DRAW
from xraylab.targets import UNCERTAIN

SUBTLE = 0.5  # Of findings that are more subtle, part is labelled uncertain,
P_UNSURE = 0.3  # which is this chance;
P_SUSPECTED = 0.02  # so is that of a finding that is not there,
P_MISSING = 0.04  # and that of a label which nobody gave.


def names() -> list[str]:
    """The findings as data.classes calls them."""
    return [kind.capitalize() for kind in DRAW]


def labels(images: Sequence[str], subtlety_of: Sequence[Mapping[str, float]], seed: int) -> pd.DataFrame:
    """A row per image and a column per finding: 1, 0, -1 (uncertain) or <NA>; `subtlety_of`: what each film shows."""
    subtlety = np.array([[each.get(kind, np.nan) for kind in DRAW] for each in subtlety_of]).reshape(-1, len(DRAW))
    rng = np.random.default_rng([seed, 2])
    doubt, lost = rng.random(subtlety.shape), rng.random(subtlety.shape)
    present = ~np.isnan(subtlety)
    uncertain = doubt < np.where(present, P_UNSURE * (subtlety > SUBTLE), P_SUSPECTED)
    marks = np.where(uncertain, UNCERTAIN, present.astype(int))
    table = pd.DataFrame(marks, columns=names()).astype("Int64").mask(lost < P_MISSING)
    table.insert(0, "image", list(images))
    return table
