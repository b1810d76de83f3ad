"""Why the figures of a study may not hold elsewhere, for a reader who has not seen them yet."""

from typing import Any

from xraylab.report.text import listed, percent

PROBES = {  # a probe, and whether it warns where nearly all is kept, or where it is not
    "border": (False, "with the border of every image black"),
    "centre": (True, "with the centre of every image black"),
    "metadata": (True, "by a model of facts about the files alone"),
}
NOTHING = {"warning": None, "remedy": ""}  # what audits of earlier versions say
OPENING = "These figures may not hold elsewhere."

Record = dict[str, Any]


def warning(audit: Record | None, explained: Record | None) -> str | None:
    """What in the data or in a network speaks for a shortcut, and what to do; None where nothing does.

    `audit`: data/audit.json; `explained`: reports/explain/summary.json; None where there is none.
    """
    found = NOTHING | (audit["shortcuts"] if audit else {})
    probes = [probe for probe in PROBES if not (probe == "metadata" and found["warning"])]  # that says as much
    kept = [f"{shares} {PROBES[probe][1]}" for probe in probes if (shares := _kept(explained, probe))]
    probed = f"Kept of the AUROC beyond chance: {'; '.join(kept)}." if kept else None
    reasons = [reason for reason in (found["warning"], probed) if reason]
    return " ".join([*reasons, found["remedy"]]).strip() if reasons else None


def of_experiment(explained: Record, experiment: str) -> list[str]:
    """What `explain` warns of in this experiment's network."""
    own = [record["probes"] for record in explained["experiments"] if record["experiment"] == experiment]
    return [text for probes in own for text in probes["warnings"]]


def _kept(explained: Record | None, probe: str) -> str:
    """`42 % (baseline)` of each network for which the probe is a warning."""
    probed = {
        record["experiment"]: record["probes"][probe] for record in (explained or {"experiments": []})["experiments"]
    }
    warned = {name: each for name, each in probed.items() if each["nearly"] is PROBES[probe][0]}
    return listed([f"{percent(each['kept'], 0)} % ({name})" for name, each in warned.items()])
