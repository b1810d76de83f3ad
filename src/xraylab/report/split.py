"""How the images were split, in a few sentences."""

from xraylab.params.split import Split
from xraylab.report.text import grouped, percent

TEST = {
    "sorted-id": "within each class, ascending by name, the first {test} % are the test side",
    "random": "about {test} % of each class, drawn by whole patients, are the test side",
    "hash": "about {test} % of the patients, told by a hash of their id alone, are the test side",
    "folds": "each of {folds} folds of whole patients is the test side of one repeat",
    "leave-one-source-out": "each source that has every class is the test side of one repeat, in the order of their "
    "names; sources without one of the classes are in training alone",
    "given": "the data set's own sides were kept",
    "files": "the sides were taken from the lists in {files}",
}


def sentences(split: Split) -> str:
    """What the strategy did with these parameters."""
    strategy = "files" if split.files else split.strategy
    test = "" if split.test is None else _shown(split.test)
    said = [TEST[strategy].format(test=test, folds=split.folds, files=split.files) + "; " + _validation(split)]
    if split.train_per_class == "smallest":
        said.append("Of each class, no more training images were used than the smallest one has.")
    elif split.train_per_class != "all":
        said.append(f"Of each class, at most {grouped(split.train_per_class)} training images were used.")
    return " ".join(said)


def _validation(split: Split) -> str:
    if split.valid is None:
        return "the validation side too."
    if split.valid == 0:
        return "there is no validation side."
    return f"of the rest, {_shown(split.valid)} % are the validation side, drawn by whole patients."


def _shown(share: float) -> str:
    """12.5, but 20."""
    return percent(share, 1).removesuffix(".0")
