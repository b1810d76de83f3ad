"""What a reader of the Checklist for AI in Medical Imaging asks, and what the pipeline can answer.

After CLAIM, 2024 update (Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300), whose 44 items are named
here in our own words.
"""

from collections.abc import Mapping
from typing import NamedTuple

UNKNOWN = "not known to the pipeline"


class Item(NamedTuple):
    """One item; `missing` says what the authors must add where no fact answers it."""

    number: int
    part: str
    asks: str
    fact: str | None
    missing: str


ITEMS = (
    Item(1, "Title and abstract", "Named as a study of AI, and of which kind", "kind", ""),
    Item(2, "Title and abstract", "Structured summary", "summary", ""),
    Item(3, "Introduction", "Background, intended use and clinical role", None, "what the classifier is for"),
    Item(4, "Introduction", "Aims and hypotheses", None, "the question that the study asks"),
    Item(5, "Design", "Prospective or retrospective", None, "how the images were collected"),
    Item(6, "Design", "Goal of the study", "goal", ""),
    Item(7, "Data", "Sources", "source", ""),
    Item(8, "Data", "Inclusion and exclusion", "excluded", ""),
    Item(9, "Data", "Preprocessing", "preprocessing", ""),
    Item(10, "Data", "Selection of subsets", "subsets", ""),
    Item(11, "Data", "De-identification", None, "how the images were de-identified; the page shows file names unless "
         "report.hide_names is true"),
    Item(12, "Data", "Missing data", "unreadable", ""),
    Item(13, "Data", "Acquisition protocol", None, "devices, projections and settings"),
    Item(14, "Reference standard", "How it is defined", "labels", ""),
    Item(15, "Reference standard", "Why it was chosen", None, "why the labels can be trusted"),
    Item(16, "Reference standard", "Who annotated", None, "the readers and their experience"),
    Item(17, "Reference standard", "Annotation of the test set", None, "whether it was read otherwise than the rest"),
    Item(18, "Reference standard", "Variability between and within readers", None, "agreement of the readers"),
    Item(19, "Partitions", "How images were assigned", "split", ""),
    Item(20, "Partitions", "At which level they are disjoint", "disjoint", ""),
    Item(21, "Testing data", "Intended size of the sample", None, "whether a sample size was calculated"),
    Item(22, "Model", "Description", "model", ""),
    Item(23, "Model", "Software", "software", ""),
    Item(24, "Model", "Initial parameters", "start", ""),
    Item(25, "Training", "Details of the training", "training", ""),
    Item(26, "Training", "How the final model was chosen", "selection", ""),
    Item(27, "Training", "Ensembles", "ensembles", ""),
    Item(28, "Evaluation", "Metrics", "metrics", ""),
    Item(29, "Evaluation", "Statistical methods", "statistics", ""),
    Item(30, "Evaluation", "Robustness", "robustness", ""),
    Item(31, "Evaluation", "Explainability", "explained", "nothing was explained here"),
    Item(32, "Evaluation", "Internal test", "internal", ""),
    Item(33, "Evaluation", "External test", "external", "xraylab external tests a run on another data set"),
    Item(34, "Evaluation", "Trial registration", None, "whether the study is registered"),
    Item(35, "Results", "Numbers included and excluded", "numbers", ""),
    Item(36, "Results", "Patients’ characteristics in each partition", "people", "sex and age in each partition"),
    Item(37, "Results", "Performance with uncertainty", "performance", ""),
    Item(38, "Results", "Diagnostic accuracy and its precision", "accuracy", ""),
    Item(39, "Results", "Analysis of failures", "failures", ""),
    Item(40, "Discussion", "Limitations", "limits", ""),
    Item(41, "Discussion", "Implications for practice", None, "what follows for practice"),
    Item(42, "Other", "Protocol and further details", "protocol", ""),
    Item(43, "Other", "Availability of software, model and data", "available", ""),
    Item(44, "Other", "Funding", None, "who paid, and their role"),
)  # fmt: skip


def filled(facts: Mapping[str, str | None]) -> list[dict[str, object]]:
    """Every item with its answer; `known` is false where the authors must give it. `facts`: by the items' names."""
    rows: list[dict[str, object]] = []
    for item in ITEMS:
        answer = facts[item.fact] if item.fact else None
        said = f"{UNKNOWN}: {item.missing}" if answer is None else answer
        rows.append(
            {"number": item.number, "part": item.part, "asks": item.asks, "says": said, "known": answer is not None}
        )
    return rows
