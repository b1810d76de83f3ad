"""What the pipeline knows of a study, in sentences: for the checklist and the model cards."""

from collections.abc import Callable
from typing import Any

from xraylab.params.config import Experiment, Params
from xraylab.report import training
from xraylab.report.split import sentences
from xraylab.report.text import grouped, listed, plural
from xraylab.report.verdict import FIGURES

ROLES = {
    "primary": "the primary figure, {}, tested with Holm’s correction over experiments",
    "exploratory": "exploratory tests with Holm’s correction over all figures and pairs",
}


def study(
    params: Params,
    summary: dict[str, Any],
    audit: dict[str, Any],
    totals: dict[str, int],
    external: dict[str, Any] | None,
    built_by: Callable[[str], str],
) -> dict[str, str | None]:
    """The facts of the checklists, by the names that its items use; None where nothing is known.

    `built_by`: from an architecture to the library that builds it.
    """
    plans = {name: params.experiment(name) for name in params.experiments}
    archs, used = sorted({str(plan.model.arch) for plan in plans.values()}), sum(totals.values())
    starts = {training.start(plan.model.pretrained, built_by(plan.model.arch)) for plan in plans.values()}
    return {
        "kind": f"classification of radiographs by deep learning ({listed(archs)})",
        "summary": "the opening of this page",
        "goal": f"to tell {listed(summary['classes'], 'or')} apart, and to compare {plural(len(plans), 'experiment')}",
        "source": f"{params.data.source_text}, read as {audit['layout']}",
        "excluded": f"{grouped(audit['images'] - used)} of {grouped(audit['images'])} images were not used"
        if not summary["folds"]
        else f"{grouped(audit['images'])} images, of which each fold takes its own sides",
        "preprocessing": preprocessing(params),
        "subsets": f"all images of the classes; of each, {params.split.train_per_class} for training",
        "unreadable": f"files that cannot be read: {params.data.on_bad_image}; the audit counts them",
        "labels": f"the labels of the data set, as its files hold them ({audit['why']})",
        "split": sentences(params.split),
        "disjoint": _disjoint(params, audit),
        "model": listed([f"{name}: {_network(params, name)}" for name in params.experiments]),
        "software": "listed under “How it was made”; exact versions in constraints.txt",
        "start": listed(sorted(starts)),
        "training": "in the model cards, and with every parameter under “How it was made”",
        "selection": selection(plans, summary),
        "ensembles": _ensembles(params),
        "metrics": "listed for each experiment under “Experiment by experiment”",
        "statistics": statistics(summary),
        "robustness": f"{plural(len(params.study.repeats), 'repeat')}; subgroups where the data know them",
        "explained": _explained(params),
        "internal": f"{grouped(totals['test'])} test images of the same source",
        "external": listed([f"{test['run']} on {test['place']}" for test in external["tests"]])
        if external and external["tests"]
        else None,
        "numbers": f"{grouped(totals['train'])} training, {grouped(totals['valid'])} validation and "
        f"{grouped(totals['test'])} test images" + (" in the first fold" if summary["folds"] else ""),
        "predictors": "the image alone",
        "output": _output(summary),
        "imbalance": _imbalance(plans),
        "performance": "the comparison table and each experiment’s figures",
        "accuracy": "sensitivity, specificity, PPV and NPV with intervals for each experiment",
        "failures": "confusion matrices, and the most confident mistakes with their images",
        "limits": limits(params, summary, audit),
        "protocol": "params.yaml, at the end of “How it was made”",
        "available": "code and parameters: the commit named here; weights and figures: DVC’s cache; data: their source",
    }


def preprocessing(params: Params) -> str:
    """What was done to every image before the network."""
    images = params.images
    done = [f"{images.fit} to {images.pixels} × {images.pixels} pixels"]
    done += ["uniform borders cut off"] if images.crop_border or images.crop_lungs else []
    done += ["cropped to the lungs"] if images.crop_lungs else []
    done += [f"window from percentile {images.window[0]:g} to {images.window[1]:g}"] if images.window else []
    done += [f"CLAHE ({images.clahe:g})"] if images.clahe else []
    done += [f"pyramid sharpening ({images.pyramid_sharpening:g})"] if images.pyramid_sharpening else []
    return listed(done)


def _network(params: Params, name: str) -> str:
    model = params.experiment(name).model
    return f"{model.arch}, {plural(model.channels, 'channel')}, {model.pixels} × {model.pixels} pixels"


def _disjoint(params: Params, audit: dict[str, Any]) -> str:
    known = "image" if audit["patients"] == "unknown" else "patient"
    accepted = "; leakage was accepted" if params.split.on_leakage == "accept" else ""
    unsure = ", since patients are unknown" if known == "image" else ""
    return f"by {known}{unsure}; duplicates and near duplicates were looked for{accepted}"


def selection(plans: dict[str, Experiment], summary: dict[str, Any]) -> str:
    """How each experiment's epoch was chosen; the experiments are named where they differ."""
    alike: dict[str, list[str]] = {}
    for name, plan in plans.items():
        alike.setdefault(training.selection(plan.train), []).append(name)
    said = list(alike) if len(alike) == 1 else [f"{listed(names)}: {how}" for how, names in alike.items()]
    warned = [f"on the TEST images for {listed(summary['chosen_on_test'])}"] if summary["chosen_on_test"] else []
    return "; ".join(said + warned)


def _explained(params: Params) -> str | None:
    """What `explain` was asked for; None where it was asked for nothing."""
    asked, methods = params.explain.experiments, listed([str(name) for name in params.explain.methods])
    whose = "the two best experiments" if asked == "top-two" else listed(list(asked))
    return f"{methods} of {whose}, and shortcut probes" if asked else None


def _output(summary: dict[str, Any]) -> str:
    thresholds = "; the highest is the prediction, further thresholds were fixed on validation images"
    return f"a probability of each class ({listed(summary['classes'])}){thresholds}"


def _imbalance(plans: dict[str, Experiment]) -> str:
    """What each experiment does about classes of unequal size; the experiments are named where they differ."""
    alike: dict[str, list[str]] = {}
    for name, plan in plans.items():
        done = [] if plan.sampling.strategy == "none" else [f"{plan.sampling.strategy} sampling"]
        done += [] if plan.loss.class_weights == "none" else ["a loss with class weights"]
        alike.setdefault(listed(done) if done else "nothing was done about it", []).append(name)
    return "; ".join(alike if len(alike) == 1 else [f"{listed(names)}: {how}" for how, names in alike.items()])


def _ensembles(params: Params) -> str:
    several = len(params.study.repeats) > 1
    return (
        "the mean probability over repeats, named as an ensemble; tests are of single networks" if several else "none"
    )


def statistics(summary: dict[str, Any]) -> str:
    """The rules that this study's intervals and tests were made by, the primary figure first."""
    how, compared = summary["intervals"], summary["comparisons"]
    rules = dict.fromkeys(row["by"] for row in summary["mean_figures"] if row["by"])
    said = [f"{100 * how['confidence']:g} % intervals ({listed(list(rules))}): {how['rests_on']}"]
    for role, what in ROLES.items():
        tests = dict.fromkeys(row["test"] for row in compared if row["role"] == role and row["test"])
        if tests:
            said.append(f"{what.format(FIGURES[summary['primary']])} ({listed(list(tests))})")
    return "; ".join(said)


def limits(params: Params, summary: dict[str, Any], audit: dict[str, Any]) -> str:
    """Those that the pipeline sees; the authors know more."""
    found = ["all images are of one source, so nothing is said of other hospitals"]
    found += ["the class is told from facts about the files"] if audit["shortcuts"]["warning"] else []
    found += ["patients are unknown"] if audit["patients"] == "unknown" else []
    found += ["epochs were chosen on test images"] if summary["chosen_on_test"] else []
    found += ["leakage across splits was accepted"] if params.split.on_leakage == "accept" else []
    found += (
        ["a single repeat does not show how much chance in training matters"] if len(params.study.repeats) == 1 else []
    )
    return "; ".join(found)
