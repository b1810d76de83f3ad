"""What is known of a study and of its experiments, in sentences: for the checklists and the model cards.

Model cards after Mitchell et al., Model Cards for Model Reporting, 2019.
"""

from collections.abc import Mapping
from html import escape

from xraylab.params.config import ExperimentConfig, Params
from xraylab.report import metric_tables, participants, provenance, seen
from xraylab.report.artefacts import Artefacts, Experiment
from xraylab.report.checklist import CHECKLISTS, UNKNOWN, answered
from xraylab.report.metric_tables import columns
from xraylab.report.multi_label.tables import label_sentences
from xraylab.report.records import Metric, Summary, Tree, keyed, where
from xraylab.report.summary import mean_name
from xraylab.report.text import format_metric, grouped, interval, listed, plural, title, unit

ROLES = {
    "primary": "the primary metric, {}, tested with Holm’s correction over experiments",
    "exploratory": "exploratory tests with Holm’s correction over all metrics and pairs",
}
NOT_EXPLAINED = "No explanation was made of its networks: it is not known what in an image they look at."
Card = dict[str, list[str]]  # heading -> lines


def checklists(data: Artefacts) -> Tree:
    """Each checklist with its items, answered where the pipeline knows the answer."""
    facts = study_facts(data)
    return {"checklists": {name: [answered(item, facts) for item in items] for name, items in CHECKLISTS.items()}}


def study_facts(data: Artefacts) -> dict[str, str | None]:
    """The facts of the checklists, by the names that its items use; None where nothing is known."""
    params, summary, audit, totals = data.params, data.summary, data.audit, data.totals
    experiments = {each.name: each for each in data.experiments}
    configs: dict[str, ExperimentConfig] = {name: experiments[name].cfg for name in params.experiments}
    archs, used = sorted({str(cfg.model.arch) for cfg in configs.values()}), sum(totals.values())
    starts = {provenance.start(each.cfg.model.pretrained, each.library) for each in data.experiments}
    external = metric_tables.external(data) or {"tests": []}
    facts: dict[str, str | None] = {
        "kind": f"classification of radiographs by deep learning ({listed(archs)})",
        "summary": "the opening of this page",
        "goal": f"to distinguish between {listed(summary.classes)}, and to compare "
        f"{plural(len(configs), 'experiment')}",
        "source": f"{params.data.source_text}, read as {audit['layout']}",
        "excluded": f"{grouped(audit['images'] - used)} of {grouped(audit['images'])} images were not used"
        if not summary.folds
        else f"{grouped(audit['images'])} images, split differently in each fold",
        "preprocessing": preprocessing(params),
        "subsets": f"all images of the classes; training images of each class: {params.split.max_train_per_class}",
        "unreadable": f"unreadable files: {params.data.on_bad_image}; the audit counts them",
        "labels": f"the labels of the data set, as stored in its files ({audit['why']})",
        "split": provenance.split_sentences(params.split, summary.multi),
        "disjoint": _disjoint(params, audit),
        "model": listed([f"{name}: {_network(cfg)}" for name, cfg in configs.items()]),
        "software": "listed under “How it was made”; exact versions in constraints.txt",
        "start": listed(sorted(starts)),
        "training": "in the model cards, and with every parameter under “How it was made”",
        "selection": selection(configs, summary),
        "ensembles": _ensembles(params),
        "metrics": "listed for each experiment under “Experiment by experiment”",
        "statistics": statistics(summary),
        "robustness": f"{plural(len(params.study.repeats), 'repeat')}; subgroups where the data identify them",
        "explained": _explained(params),
        "internal": f"{grouped(totals['test'])} test images {_origin_of_test_images(data)}",
        "external": listed([f"{test.run} on {test.data_set}" for test in external["tests"]]) or None,
        "numbers": f"{grouped(totals['train'])} training, {grouped(totals['valid'])} validation and "
        f"{grouped(totals['test'])} test images" + (" in the first fold" if summary.folds else ""),
        "predictors": "the image alone",
        "output": _output(summary),
        "imbalance": _imbalance(configs),
        "performance": "the comparison table and the metrics of each experiment",
        "accuracy": "sensitivity, specificity, PPV and NPV with intervals for each experiment",
        "failures": "confusion matrices, and the most confident errors with their images",
        "limits": limits(data),
        "protocol": "params.yaml, at the end of “How it was made”",
        "available": "code and parameters: the commit named here; weights and metrics: DVC’s cache; data: their source",
    }
    of_findings = facts_of_findings(data, configs) if summary.multi else {}
    return facts | of_findings | participants.facts(data.demographics, data.subgroups)


def facts_of_findings(data: Artefacts, configs: dict[str, ExperimentConfig]) -> dict[str, str | None]:
    """The facts that an image with several findings changes."""
    params, summary, sentences = data.params, data.summary, label_sentences(data)
    return {
        "kind": f"detection of several findings in a radiograph by deep learning "
        f"({listed(sorted({str(cfg.model.arch) for cfg in configs.values()}))})",
        "goal": f"to detect {listed(summary.classes)}, each by itself, and to compare "
        f"{plural(len(configs), 'experiment')}",
        "subsets": "all images of the data set, whatever their findings",
        "unreadable": f"unreadable files: {params.data.on_bad_image}; the audit counts them. {' '.join(sentences[1:])}",
        "labels": f"the labels of the data set, as stored in its files ({data.audit['why']}). {sentences[0]}",
        "output": "a probability for each finding, independent of the others, and a threshold for each, fixed on "
        f"validation images by the highest Youden index ({listed(summary.classes)})",
        "imbalance": _where_they_differ({name: _imbalance_of_findings(cfg) for name, cfg in configs.items()}),
        "metrics": "listed for each finding under “Findings”, and of each experiment under “Experiment by experiment”",
        "performance": "the table of findings, the comparison of the means, and the metrics of each experiment",
        "accuracy": "sensitivity, specificity, PPV and NPV of each finding with intervals",
        "failures": "counts at each finding's thresholds, and the images with the most findings wrong",
    }


def _imbalance_of_findings(cfg: ExperimentConfig) -> str:
    """What an experiment does about rare findings."""
    steps = [] if cfg.sampling.strategy == "none" else [f"{cfg.sampling.strategy} sampling"]
    steps += [] if cfg.loss.pos_weight == "none" else ["a loss that weighs images with a finding"]
    steps += {"focal": ["the focal loss"], "asymmetric": ["the asymmetric loss"]}.get(cfg.loss.name, [])
    return listed(steps) if steps else "not addressed"


def preprocessing(params: Params) -> str:
    """What was done to every image before the network."""
    images = params.images
    steps = [f"{images.resize_method} to {images.size} × {images.size} pixels"]
    steps += ["uniform borders removed"] if images.crop_border or images.crop_lungs else []
    steps += ["cropped to the lungs"] if images.crop_lungs else []
    steps += (
        [f"gray levels clipped to percentiles {images.clip_percentiles[0]:g} to {images.clip_percentiles[1]:g}"]
        if images.clip_percentiles
        else []
    )
    steps += [f"CLAHE ({images.clahe:g})"] if images.clahe else []
    steps += [f"pyramid sharpening ({images.pyramid_sharpening:g})"] if images.pyramid_sharpening else []
    return listed(steps)


def _network(cfg: ExperimentConfig) -> str:
    model = cfg.model
    return f"{model.arch}, {plural(model.channels, 'channel')}, {model.img_size} × {model.img_size} pixels"


def _disjoint(params: Params, audit: Tree) -> str:
    level = "image" if audit["patients"] == "unknown" else "patient"
    accepted = "; leakage was accepted" if params.split.on_leakage == "accept" else ""
    unsure = ", because patients are unknown" if level == "image" else ""
    return f"by {level}{unsure}; the images were searched for duplicates and near duplicates{accepted}"


def selection(configs: dict[str, ExperimentConfig], summary: Summary) -> str:
    """How each experiment's epoch was chosen; the experiments are named where they differ."""
    text = _where_they_differ({name: provenance.selection(cfg.train) for name, cfg in configs.items()})
    warning = [f"on the TEST images for {listed(summary.chosen_on_test)}"] if summary.chosen_on_test else []
    return "; ".join([text, *warning])


def _explained(params: Params) -> str | None:
    """What `explain` was asked for; None where it was asked for nothing."""
    experiments, methods = params.explain.experiments, listed([str(name) for name in params.explain.methods])
    names = "the two best experiments" if experiments == "top-two" else listed(list(experiments))
    return f"{methods} of {names}, and shortcut probes" if experiments else None


def _output(summary: Summary) -> str:
    thresholds = "; the highest is the prediction, and further thresholds were fixed on validation images"
    return f"a probability for each class ({listed(summary.classes)}){thresholds}"


def _imbalance(configs: dict[str, ExperimentConfig]) -> str:
    """What each experiment does about classes of unequal size; the experiments are named where they differ."""
    measures = {}
    for name, cfg in configs.items():
        steps = [] if cfg.sampling.strategy == "none" else [f"{cfg.sampling.strategy} sampling"]
        steps += [] if cfg.loss.class_weights == "none" else ["a loss with class weights"]
        measures[name] = listed(steps) if steps else "not addressed"
    return _where_they_differ(measures)


def _where_they_differ(texts: Mapping[str, str]) -> str:
    """What is said of each experiment, once; the experiments are named where they differ."""
    alike: dict[str, list[str]] = {}
    for name, how in texts.items():
        alike.setdefault(how, []).append(name)
    return "; ".join(alike if len(alike) == 1 else [f"{listed(names)}: {how}" for how, names in alike.items()])


def _ensembles(params: Params) -> str:
    several = len(params.study.repeats) > 1
    return (
        "the mean probability over repeats, reported as an ensemble; tests compare single networks"
        if several
        else "none"
    )


def statistics(summary: Summary) -> str:
    """The rules that this study's intervals and tests were made by, the primary metric first."""
    methods = listed(summary.interval_methods)
    parts = [f"{100 * summary.confidence:g} % intervals ({methods}): {summary.rests_on}"]
    for role, what in ROLES.items():
        tests = dict.fromkeys(row.test for row in where(summary.comparisons, role=role) if row.test)
        if tests:
            parts.append(f"{what.format(mean_name(summary, summary.primary))} ({listed(list(tests))})")
    return "; ".join(parts)


def limits(data: Artefacts) -> str:
    """The study's limitations that the pipeline sees; the authors know more."""
    sentences = {
        _limit_of_sources(data): True,
        "the class can be predicted from file properties alone": data.audit["shortcuts"]["warning"],
        "patients are unknown": data.audit["patients"] == "unknown",
        "epochs were selected on test images": data.summary.chosen_on_test,
        "leakage across splits was accepted": data.params.split.on_leakage == "accept",
        "with a single repeat, the variation between trainings is unknown": len(data.params.study.repeats) == 1,
    }
    return "; ".join(sentence for sentence, applies in sentences.items() if applies)


def _limit_of_sources(data: Artefacts) -> str:
    """How far the results reach beyond the sources of the images."""
    n_sources = len(data.sources)
    if data.summary.test_sources:
        return f"performance at hospitals other than these {n_sources} sources is unknown"
    sources_text = "one source" if n_sources == 1 else f"the same {n_sources} sources as the training images"
    if data.external:
        return (
            f"the test images of this study come from {sources_text}; only the external tests speak for other hospitals"
        )
    if n_sources == 1:
        return "all images come from one source, so performance at other hospitals is unknown"
    return f"the test images come from {sources_text}, so performance at other hospitals is unknown"


def _origin_of_test_images(data: Artefacts) -> str:
    if data.summary.test_sources:
        return "of a source that the tested network was not trained on"
    return "of the same source" if len(data.sources) == 1 else f"of the same {len(data.sources)} sources"


def cards(data: Artefacts) -> Tree:
    return {"cards": {each.name: card(data, each) for each in data.experiments}}


def card(data: Artefacts, experiment: Experiment) -> Card:
    """What the network is, what it was trained and tested on, how well it did, and what it must not be used for."""
    model, params, summary = experiment.cfg.model, data.params, data.summary
    caution = ["Not a medical device; not validated for clinical use."]
    if experiment.name in summary.chosen_on_test:
        caution.append("Its epoch was selected on the test images: its metrics are too optimistic.")
    limitations = limits(data)
    split = provenance.split_sentences(params.split, summary.multi)
    each = ", independent of the others" if summary.multi else ""
    labels = label_sentences(data) if summary.multi else []
    return {
        "Network": [
            f"{model.arch}, {grouped(experiment.runs[0].parameters)} parameters; {model.channels}-channel images of "
            f"{model.img_size} × {model.img_size} pixels; outputs a probability for each of "
            f"{listed(summary.classes)}{each}."
        ],
        "Training": [
            *provenance.training(experiment.cfg, experiment.runs, experiment.library),
            f"Selected: {provenance.selection(experiment.cfg.train)}.",
        ],
        "Intended use": [f"{UNKNOWN}: its purpose, users and patients."],
        "Data": [f"{params.data.source_text}; {split} Images: {preprocessing(params)}.", *labels],
        "Metrics on the test images": _test_metrics(summary, data.metrics, experiment.name),
        "Cautions": [
            *caution,
            *shortcut_warnings(data.explained, experiment.name),
            *seen.cautions(data, experiment.name),
            f"{limitations[:1].upper()}{limitations[1:]}.",
        ],
    }


def shortcut_warnings(explained: Tree, experiment: str) -> list[str]:
    """What `explain` warns of in this experiment's networks, or that it has not looked at them."""
    probes = [record["probes"] for record in explained["experiments"] if record["experiment"] == experiment]
    if not probes:
        return [NOT_EXPLAINED]
    return [text for network in probes for text in network["warnings"]]


def _test_metrics(summary: Summary, metrics: list[Metric], experiment: str) -> list[str]:
    ensemble = keyed(where(metrics, experiment=experiment, checkpoint="best", split="test", kind="mean"))
    rows = [ensemble[summary.key(name)] for name in columns(summary)["best"] if summary.key(name) in ensemble]
    lines = [f"{title(row.metric)}: {_with_interval(row)}" for row in rows]
    if not summary.multi:
        return lines
    aurocs = [ensemble[name, "auroc"] for name in summary.macro_over]
    return [f"Means over {plural(len(summary.macro_over), 'finding')}: {listed(lines)}"] + [
        f"AUROC of {row.class_}: {_with_interval(row)}" for row in aurocs
    ]


def _with_interval(row: Metric) -> str:
    if row.value is None:
        return "not available"
    between = interval(row, row.metric)
    return f"{format_metric(row.value, row.metric)}{unit(row.metric)}" + (f" ({between})" if between else "")


def markdown(experiment: str, study: str, card: Card) -> str:
    """The card as a file; what users name is escaped, since Markdown may hold HTML."""
    parts = [f"# {experiment}", escape(study)]
    parts += [f"## {heading}\n\n" + "\n".join(f"- {escape(line)}" for line in lines) for heading, lines in card.items()]
    return "\n\n".join(parts) + "\n"
