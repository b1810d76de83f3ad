"""What the pipeline knows of a study, in sentences: for the checklist and the model cards."""

from typing import Any

from xraylab.params import Params, Plan
from xraylab.report.answer import RANKED_BY, SIDE_NAMES
from xraylab.report.split import sentences
from xraylab.report.text import grouped, listed, plural


def study(
    params: Params,
    summary: dict[str, Any],
    audit: dict[str, Any],
    totals: dict[str, int],
    external: dict[str, Any] | None,
) -> dict[str, str | None]:
    """The facts of the checklist, by the names that its items use; None where nothing is known."""
    plans = [params.experiment(name) for name in params.experiments]
    archs, used = sorted({str(plan.model.arch) for plan in plans}), sum(totals.values())
    return {
        "kind": f"classification of radiographs by deep learning ({listed(archs)})",
        "summary": "the opening of this page",
        "goal": f"to tell {listed(summary['classes'], 'or')} apart, and to compare {plural(len(plans), 'experiment')}",
        "source": f"{params.data.source}, read as {audit['layout']}",
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
        "start": listed(sorted({start(plan.model.pretrained) for plan in plans})),
        "training": "listed under “How it was made”, with every parameter",
        "selection": selection(params, summary),
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
        "people": None,
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
    done += ["uniform borders cut off"] if images.crop_border else []
    done += [f"window from percentile {images.window[0]:g} to {images.window[1]:g}"] if images.window else []
    done += [f"CLAHE ({images.clahe:g})"] if images.clahe else []
    done += [f"pyramid sharpening ({images.pyramid_sharpening:g})"] if images.pyramid_sharpening else []
    return listed(done)


def _network(params: Params, name: str) -> str:
    model = params.experiment(name).model
    return f"{model.arch}, {plural(model.channels, 'channel')}, {model.pixels} × {model.pixels} pixels"


def start(pretrained: str) -> str:
    names = {"none": "random weights", "default": "ImageNet weights (torchvision)"}
    return names.get(pretrained, f"weights from {pretrained}")


def _disjoint(params: Params, audit: dict[str, Any]) -> str:
    known = "image" if audit["patients"] == "unknown" else "patient"
    accepted = "; leakage was accepted" if params.split.on_leakage == "accept" else ""
    unsure = ", since patients are unknown" if known == "image" else ""
    return f"by {known}{unsure}; duplicates and near duplicates were looked for{accepted}"


def selection(params: Params, summary: dict[str, Any]) -> str:
    on_test = summary["chosen_on_test"]
    train = params.train
    by = f"the epoch with the best {RANKED_BY[train.select_by]} on the {SIDE_NAMES[train.select_on]} images"
    return f"{by}; on the TEST images for {listed(on_test)}" if on_test else by


def _explained(params: Params) -> str | None:
    """What `explain` was asked for; None where it was asked for nothing."""
    asked, methods = params.explain.experiments, listed([str(name) for name in params.explain.methods])
    whose = "the two best experiments" if asked == "top-two" else listed(list(asked))
    return f"{methods} of {whose}, and shortcut probes" if asked else None


def _ensembles(params: Params) -> str:
    several = len(params.study.repeats) > 1
    return "none; tests use the mean probability over repeats" if several else "none"


def statistics(summary: dict[str, Any]) -> str:
    how = summary["intervals"]
    return (
        f"{100 * how['confidence']:g} % intervals (Wilson, DeLong, bootstrap of {grouped(how['draws'])} draws): "
        f"{how['rests_on']}; paired tests, Holm-corrected"
    )


def limits(params: Params, summary: dict[str, Any], audit: dict[str, Any]) -> str:
    """Those that the pipeline sees; the authors know more."""
    found = ["all images are of one source, so nothing is said of other hospitals"]
    found += ["patients are unknown"] if audit["patients"] == "unknown" else []
    found += ["epochs were chosen on test images"] if summary["chosen_on_test"] else []
    found += ["leakage across splits was accepted"] if params.split.on_leakage == "accept" else []
    found += (
        ["a single repeat does not show how much chance in training matters"] if len(params.study.repeats) == 1 else []
    )
    return "; ".join(found)


def training(plan: Plan) -> str:
    """How one experiment was trained."""
    train, model = plan.train, plan.model
    frozen = f", frozen up to {model.freeze.upto}" if model.freeze.upto else ""
    return (
        f"{plural(train.epochs, 'epoch')} with {train.optimizer}, {train.schedule.replace('_', ' ')} schedule, "
        f"learning rate {train.lr:g}, weight decay {train.weight_decay:g}, batches of {train.batch_size}; "
        f"starts from {start(model.pretrained)}{frozen}"
    )
