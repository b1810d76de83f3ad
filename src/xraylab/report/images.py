"""Radiographs for the page."""

import base64
import io

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

LARGEST = 160  # pixels a side


def right(table: pd.DataFrame, label: str, count: int) -> pd.DataFrame:
    """`count` images of the class that were predicted so, evenly from the surest to the least sure."""
    found = table[(table["actual"] == label) & (table["predicted"] == label)]
    ordered = found.sort_values("probability", ascending=False, kind="stable")
    return ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).astype(int))]


def mistakes(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` images that were predicted wrong with the highest probability."""
    wrong = table[table["actual"] != table["predicted"]]
    return wrong.sort_values("probability", ascending=False, kind="stable").head(count)


def data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """A PNG of a grey image (height, width), made smaller where it is larger than the page needs."""
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
