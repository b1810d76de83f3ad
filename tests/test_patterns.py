"""Patterns of users: the same matches as Python's own, and an end to those that would search for ever."""

import re
import time

import pytest

from xraylab import patterns
from xraylab.errors import DataError
from xraylab.params.data import pattern
from xraylab.studies.detect import PATIENT_PATTERNS

NAMES = ("patient12_3.png", "PAT-7 a.dcm", "0042_1.png", "person9_virus_1.jpeg", "scan.png", "12345-67.png")
OWN = (r"(?P<patient>\d+)", r"^(?P<patient>[^_]+)_", r"(?P<patient>.*?)_\d(?!\d)")


@pytest.mark.parametrize("text", [*PATIENT_PATTERNS, *OWN])
def test_a_pattern_matches_as_in_python(text: str) -> None:
    for name in NAMES:
        match, expected = patterns.search(text, name), re.search(text, name)
        assert (match and match.span("patient")) == (expected and expected.span("patient"))


def test_a_pattern_that_would_search_for_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.02)
    start = time.process_time()
    with pytest.raises(DataError, match=r"is still searching 'a{60}!' after 0\.02 s: a repetition stands within"):
        patterns.search(r"(?P<patient>(a|aa)+)$", "a" * 60 + "!")
    assert time.process_time() - start < 1


WRONG = {
    "(?P<patient>": r"not a regular expression: missing \)",
    "x" * 1001: "has 1001 characters, and may have 1000",
    r"\d+": r"has no group \(\?P<patient>\.\.\.\)",
}


@pytest.mark.parametrize(("text", "reason"), WRONG.items(), ids=["open", "long", "no group"])
def test_a_wrong_pattern(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pattern(text)
