"""File names that published data sets gave their images, which tell source and patient wherever copies of them lie."""

import re

import pandas as pd

NAMES = {
    "NIH ChestX-ray14": re.compile(r"(?P<patient>\d{8})_\d{3}\."),
    "Kermany": re.compile(r"(?P<patient>person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d{4})[_-]\d"),
    "Shenzhen": re.compile(r"CHNCXR_\d{4}_[01]\."),
    "Montgomery": re.compile(r"MCUCXR_\d{4}_[01]\."),
}


def recognised(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table with source and patient from such names where unknown, and which data sets told patients."""
    files = table["path"].str.rsplit("/", n=1).str[-1]
    told = []
    for source, pattern in NAMES.items():
        named = files.str.match(pattern)
        table = table.assign(source=table["source"].mask(named & (table["source"] == ""), source))
        if named.any() and "patient" in pattern.groupindex:
            patient = files.str.extract(pattern)["patient"]
            table = table.assign(patient=table["patient"].mask(named & (table["patient"] == ""), patient))
            told.append(source)
    return table, told
