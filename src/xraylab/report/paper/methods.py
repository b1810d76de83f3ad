"""A methods section made of facts of the study; what only the authors know is left to them, in brackets.

A sentence is never made up: what the pipeline does not know stands as TODO.
"""

from xraylab.params.images import changing
from xraylab.registry import weights as registry
from xraylab.report import provenance, study_facts
from xraylab.report.artefacts import Artefacts, Experiment
from xraylab.report.checklist import CHECKLISTS
from xraylab.report.metric_tables import columns
from xraylab.report.paper.latex import escape
from xraylab.report.summary import mean_name
from xraylab.report.text import listed, metric_name, plural

Sections = dict[str, list[str]]  # heading -> sentences
PARTS = ("Design", "Data", "Reference standard", "Data and participants", "Outcome and predictors", "Methods")
"""Of the checklists: those that belong into a methods section."""
OTHERS = ("Other", "Open science", "Evaluation", "Testing data")
TODO = "[TODO: {}]"
SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#"})


def sections(data: Artefacts) -> Sections:
    """The methods, in the order of a paper."""
    facts = {name: text or "" for name, text in study_facts.study_facts(data).items()}
    parts = {
        "Study design": [f"{facts['kind']}, {facts['goal']}"],
        "Data": [f"images from {facts['source']}", facts["excluded"], facts["unreadable"]],
        "Labels": [facts["labels"]],
        "Data partition": _partition(data, facts),
        "Image preprocessing": [facts["preprocessing"], *_augmentation(data)],
        "Networks and training": _training(data),
        "Selection": [facts["selection"], f"ensembles: {facts['ensembles']}", f"class imbalance: {facts['imbalance']}"],
        "Evaluation": _evaluation(data, facts),
        "Statistical analysis": [facts["statistics"]],
        "Software and hardware": _software(data),
        "To be added by the authors": [TODO.format(text) for text in todo()],
    }
    return {heading: [_sentence(text) for text in texts if text] for heading, texts in parts.items()}


def _sentence(text: str) -> str:
    return text if text.startswith("[") else f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _partition(data: Artefacts, facts: dict[str, str]) -> list[str]:
    removed = "; ".join(data.split["removed"])
    moved = f"to this end, images were removed from training and validation: {removed}" if removed else ""
    return [facts["split"], facts["numbers"], f"splits are disjoint {facts['disjoint']}", moved]


def _augmentation(data: Artefacts) -> list[str]:
    """What training shows of the images, alike experiments together."""
    texts: dict[str, list[str]] = {}
    for each in data.experiments:
        augment = each.cfg.augment
        names = changing(augment)
        strength = [f"{name} {getattr(augment, name)}" for name in names]
        texts.setdefault(listed(strength) if strength else "none", []).append(each.name)
    return [f"augmentation of the training images ({listed(names)}): {text}" for text, names in texts.items()]


def _training(data: Artefacts) -> list[str]:
    """The baseline in full; of the others, the parameters that differ."""
    ordered = sorted(data.experiments, key=lambda each: each.name != data.summary.baseline)
    baseline, others = ordered[0], ordered[1:]
    model = baseline.cfg.model
    sentences = [
        f"the experiment {baseline.name}: {model.arch}, {plural(model.channels, 'input channel')}, images of "
        f"{model.img_size} × {model.img_size} pixels",
        *provenance.training(baseline.cfg, baseline.runs, baseline.library),
    ]
    for each in others:
        changes = [f"{key} = {after} (instead of {before})" for key, before, after in each.changes]
        difference = listed(changes) if changes else "no parameter"
        sentences.append(f"the experiment {each.name} differs from {baseline.name} in {difference}")
    return [*sentences, *_citations(data.experiments)]


def _citations(experiments: list[Experiment]) -> list[str]:
    """Where starting weights are described: the registry's sources, or what the authors must cite."""
    sentences = []
    for start in dict.fromkeys(each.cfg.model.pretrained for each in experiments):
        entry = registry.find(start)
        if entry:
            sentences.append(
                f"the weights {entry.name} ({entry.title}) are under {entry.licence}: {listed(list(entry.sources))}"
            )
        elif start != "none":
            sentences.append(TODO.format(f"citation of the starting weights ({start})"))
    return sentences


def _evaluation(data: Artefacts, facts: dict[str, str]) -> list[str]:
    summary = data.summary
    names = listed([metric_name(name) for name in columns(summary)["best"]])
    sentences = [
        f"networks were tested on {facts['internal']}",
        f"the primary metric was {mean_name(summary, summary.primary)}; also reported: {names}",
        f"output: {facts['output']}",
        f"repeats: {facts['robustness']}",
    ]
    sentences += [f"external tests: {facts['external']}"] if facts["external"] else []
    return sentences + ([f"explanations: {facts['explained']}"] if facts["explained"] else [])


def _software(data: Artefacts) -> list[str]:
    return [
        provenance.versions(),
        f"networks were trained on {listed(provenance.machines(data.summary.runs))}",
        f"commit of the study: {provenance.commit(data.paths.root)}",
    ]


def todo() -> list[str]:
    """Items of the checklists on methods and declarations that the pipeline does not know."""
    items = [item for items in CHECKLISTS.values() for item in items if item.part in (*PARTS, *OTHERS)]
    return list({item.missing: f"{item.asks}: {item.missing}" for item in items if item.fact is None}.values())


def markdown(title: str, content: Sections) -> str:
    """As Markdown, in which nothing that users name means anything."""
    parts = [f"# Methods: {_plain(title)}"]
    parts += [f"## {heading}\n\n{' '.join(map(_plain, texts))}" for heading, texts in content.items()]
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    return text.translate(SPECIAL)


def latex(content: Sections) -> str:
    """As LaTeX, without a preamble."""
    parts = [f"\\subsection*{{{heading}}}\n{escape(' '.join(texts))}" for heading, texts in content.items()]
    return "\\section*{Methods}\n" + "\n\n".join(parts) + "\n"
