"""What reporting guidelines ask for, and what the pipeline can answer; their items are named here in our own words.

CLAIM, 2024 update: Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300; 44 items.
TRIPOD+AI: Collins et al., BMJ 2024;385:e078378; 27 items, some in parts, of which those on updated models are left out.
"""

from collections.abc import Mapping
from typing import NamedTuple

UNKNOWN = "not known to the pipeline"


class Item(NamedTuple):
    """One item; `missing` says what the authors must add where no fact answers it."""

    number: str
    part: str
    asks: str
    fact: str | None
    missing: str


class Answer(NamedTuple):
    """`known` is false where the authors must give the answer."""

    item: Item
    text: str
    known: bool


CLAIM = (
    Item("1", "Title and abstract", "Named as a study of AI, and of which kind", "kind", ""),
    Item("2", "Title and abstract", "Structured summary", "summary", ""),
    Item("3", "Introduction", "Background, intended use and clinical role", None, "what the classifier is for"),
    Item("4", "Introduction", "Aims and hypotheses", None, "the question that the study asks"),
    Item("5", "Design", "Prospective or retrospective", None, "how the images were collected"),
    Item("6", "Design", "Goal of the study", "goal", ""),
    Item("7", "Data", "Sources", "source", ""),
    Item("8", "Data", "Inclusion and exclusion", "excluded", ""),
    Item("9", "Data", "Preprocessing", "preprocessing", ""),
    Item("10", "Data", "Selection of subsets", "subsets", ""),
    Item("11", "Data", "De-identification", None, "how the images were de-identified; the page shows file names unless "
         "report.hide_names is true"),
    Item("12", "Data", "Missing data", "unreadable", ""),
    Item("13", "Data", "Acquisition protocol", None, "scanners, projections and settings"),
    Item("14", "Reference standard", "How it is defined", "labels", ""),
    Item("15", "Reference standard", "Why it was chosen", None, "why the labels can be trusted"),
    Item("16", "Reference standard", "Who annotated", None, "the readers and their experience"),
    Item("17", "Reference standard", "Annotation of the test set", None, "whether readings differed from the rest"),
    Item("18", "Reference standard", "Variability between and within readers", None, "agreement of the readers"),
    Item("19", "Partitions", "How images were assigned", "split", ""),
    Item("20", "Partitions", "At which level they are disjoint", "disjoint", ""),
    Item("21", "Testing data", "Intended size of the sample", None, "whether a sample size was calculated"),
    Item("22", "Model", "Description", "model", ""),
    Item("23", "Model", "Software", "software", ""),
    Item("24", "Model", "Initial parameters", "start", ""),
    Item("25", "Training", "Details of the training", "training", ""),
    Item("26", "Training", "How the final model was chosen", "selection", ""),
    Item("27", "Training", "Ensembles", "ensembles", ""),
    Item("28", "Evaluation", "Metrics", "metrics", ""),
    Item("29", "Evaluation", "Statistical methods", "statistics", ""),
    Item("30", "Evaluation", "Robustness", "robustness", ""),
    Item("31", "Evaluation", "Explainability", "explained", "no experiment was explained"),
    Item("32", "Evaluation", "Internal test", "internal", ""),
    Item("33", "Evaluation", "External test", "external", "xraylab external-test tests a run on another data set"),
    Item("34", "Evaluation", "Trial registration", None, "whether the study is registered"),
    Item("35", "Results", "Numbers included and excluded", "numbers", ""),
    Item("36", "Results", "Patients’ characteristics in each partition", "people", "sex and age in each partition"),
    Item("37", "Results", "Performance with uncertainty", "performance", ""),
    Item("38", "Results", "Diagnostic accuracy and its precision", "accuracy", ""),
    Item("39", "Results", "Analysis of failures", "failures", ""),
    Item("40", "Discussion", "Limitations", "limits", ""),
    Item("41", "Discussion", "Implications for practice", None, "what the results mean for practice"),
    Item("42", "Other", "Protocol and further details", "protocol", ""),
    Item("43", "Other", "Availability of software, model and data", "available", ""),
    Item("44", "Other", "Funding", None, "funders and their role"),
)  # fmt: skip


TRIPOD_AI = (
    Item("1", "Title and abstract", "Named as the development or evaluation of a model", "kind", ""),
    Item("2", "Title and abstract", "Structured abstract", "summary", ""),
    Item("3a", "Introduction", "Health-care context, and existing models", None, "what the classifier is for"),
    Item("3b", "Introduction", "Target population and intended users", None, "for which patients and users it is"),
    Item("3c", "Introduction", "Known health inequalities", None, "inequalities between groups of the population"),
    Item("4", "Introduction", "Objectives", "goal", ""),
    Item("5a", "Data and participants", "Sources of the data, and why they represent the population", "source", ""),
    Item("5b", "Data and participants", "Dates", None, "when the images were taken"),
    Item("6a", "Data and participants", "Setting, number and place of centres", None, "the hospitals"),
    Item("6b", "Data and participants", "Eligibility", "excluded", ""),
    Item("6c", "Data and participants", "Treatments", None, "treatments before imaging, if relevant"),
    Item("7", "Data and participants", "Preparation and quality of the data", "preprocessing", ""),
    Item("8a", "Outcome and predictors", "Definition of the outcome", "labels", ""),
    Item("8b", "Outcome and predictors", "Who assessed the outcome", None, "the readers and their experience"),
    Item("8c", "Outcome and predictors", "Blinding of the assessment", None, "what the readers knew"),
    Item("9a", "Outcome and predictors", "Choice of predictors", "predictors", ""),
    Item("9b", "Outcome and predictors", "Definition of predictors", None, "scanners, projections and settings"),
    Item("9c", "Outcome and predictors", "Who assessed predictors", "predictors", ""),
    Item("10", "Methods", "Sample size", None, "how the number of images was determined"),
    Item("11", "Methods", "Missing data", "unreadable", ""),
    Item("12a", "Methods", "Use of the data, and their partition", "split", ""),
    Item("12b", "Methods", "Handling of predictors", "preprocessing", ""),
    Item("12c", "Methods", "Type of model, its building, and selection", "training", ""),
    Item("12d", "Methods", "Heterogeneity between clusters, such as hospitals", "robustness", ""),
    Item("12e", "Methods", "Measures of performance", "metrics", ""),
    Item("12g", "Methods", "How predictions are made", "output", ""),
    Item("13", "Methods", "Imbalance of the classes", "imbalance", ""),
    Item("14", "Methods", "Fairness", "fairness", "sex, age, view or source of the images"),
    Item("15", "Methods", "Output of the model, and its thresholds", "output", ""),
    Item("16", "Methods", "Differences between development and evaluation data", "internal", ""),
    Item("17", "Methods", "Ethical approval", None, "the approval, or why there is none"),
    Item("18a", "Open science", "Funding", None, "funders and their role"),
    Item("18b", "Open science", "Conflicts of interest", None, "conflicts of interest"),
    Item("18c", "Open science", "Protocol", "protocol", ""),
    Item("18d", "Open science", "Registration", None, "whether the study is registered"),
    Item("18e", "Open science", "Availability of the data", "source", ""),
    Item("18f", "Open science", "Availability of the code", "available", ""),
    Item("19", "Open science", "Involvement of patients and the public", None, "whether they were involved"),
    Item("20a", "Results", "Flow of participants", "flow", ""),
    Item("20b", "Results", "Characteristics of participants", "people", "sex and age in each split"),
    Item("20c", "Results", "Development and evaluation data compared", "people", "sex and age in each split"),
    Item("21", "Results", "Numbers of participants and outcomes in each analysis", "numbers", ""),
    Item("22", "Results", "The full model", "available", ""),
    Item("23a", "Results", "Performance with intervals, in subgroups, too", "performance", ""),
    Item("23b", "Results", "Heterogeneity of performance", "fairness", "sex, age, view or source of the images"),
    Item("25", "Discussion", "Interpretation, with fairness", None, "what the results mean"),
    Item("26", "Discussion", "Limitations", "limits", ""),
    Item("27a", "Discussion", "Handling of poor or missing input when used", "unreadable", ""),
    Item("27b", "Discussion", "What users must know and do", None, "the expertise that users need"),
    Item("27c", "Discussion", "Next steps of research", None, "what comes next"),
)  # fmt: skip

CHECKLISTS = {"CLAIM, 2024 update": CLAIM, "TRIPOD+AI": TRIPOD_AI}


def answered(item: Item, facts: Mapping[str, str | None]) -> Answer:
    """`facts`: by the items' names."""
    fact = facts[item.fact] if item.fact else None
    return Answer(item, f"{UNKNOWN}: {item.missing}" if fact is None else fact, fact is not None)
