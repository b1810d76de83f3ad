"""How a study was made: how images were split, how networks were trained, on what machines, with which versions."""

import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from platform import python_version

from xraylab import files
from xraylab.params.config import ExperimentConfig
from xraylab.params.loss import Loss
from xraylab.params.model import Freeze
from xraylab.params.split import Split
from xraylab.params.train import Train, TrainPhase, phases
from xraylab.registry import weights as registry
from xraylab.report.artefacts import Artefacts, Change, Experiment, flat
from xraylab.report.records import Run, Tree
from xraylab.report.text import SPLIT_NAMES, duration, grouped, listed, metric_name, percent, plural

PACKAGES = ("xraylab", "dvc", "fastai", "numpy", "pandas", "scipy", "scikit-learn", "matplotlib")
OPTIMIZERS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adafactor": "Adafactor",
    "ranger": "Ranger",
    "lamb": "LAMB",
}
WEIGHT_FILES = (".pth", ".pt", ".safetensors")
TEST = {
    "sorted-id": "within each class, sorted by name, the first {test} % form the test set",
    "random": "about {test} % of each class, drawn at random by patient, form the test set",
    "hash": "about {test} % of the patients, selected by a hash of their ID, form the test set",
    "folds": "the patients are divided into {folds} folds, each of which is the test set of one repeat",
    "leave-one-source-out": "each source that has every class is the test set of one repeat, in the order of their "
    "names; sources that lack a class are used for training only",
    "given": "the data set's own splits were kept",
    "files": "the splits were taken from the lists in {files}",
}


TEST_OF_FINDINGS = {
    "sorted-id": "the first patients by the names of their images, as many as have no more than {test} % of these, "
    "form the test set",
    "random": "about {test} % of the images form the test set, drawn by patient so that each finding has its share "
    "(iterative stratification)",
    "folds": "the patients are divided into {folds} folds that are alike in every finding (iterative stratification), "
    "each of which is the test set of one repeat",
    "leave-one-source-out": "each source with positive and negative images of every finding is the test set of one "
    "repeat, in the order of their names; the other sources are used for training only",
}


@dataclass(frozen=True)
class Speed:
    """A run's time, and its training images per second."""

    time: str
    rate: str


@dataclass(frozen=True)
class Trained:
    """An experiment as the table of what was trained shows it."""

    name: str
    cfg: ExperimentConfig
    runs: list[Run]
    schedule: str
    changes: list[Change]
    speed: list[Speed]


def made(data: Artefacts) -> Tree:
    """What was trained, by what code and machines, and with which parameters."""
    trained = [_trained(each, data.totals["train"]) for each in data.experiments]
    configs = [flat(each.cfg.model_dump()) for each in data.experiments]
    return {
        "trained": trained,
        "baseline": next(each for each in trained if each.name == data.summary.baseline),
        "resolved": {key: [cfg[key] for cfg in configs] for key in configs[0]},
        "params_text": data.paths.params.read_text(encoding="utf-8"),
        "commit": commit(data.paths.root),
        "index": files.sha256(data.paths.index),
        "machines": machines(data.summary.runs),
        "versions": versions(),
    }


def _trained(experiment: Experiment, images: int) -> Trained:
    schedules = dict.fromkeys(phase.schedule for phase in phases(experiment.cfg.train))
    return Trained(
        name=experiment.name,
        cfg=experiment.cfg,
        runs=experiment.runs,
        schedule=", ".join(schedules),
        changes=experiment.changes,
        speed=[speed(run, images) for run in experiment.runs],
    )


def commit(root: Path) -> str:
    """The commit that is checked out where the page is made, and whether files differ from it."""
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return "unknown: the study is not in a git repository with a commit"
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{head}{', with uncommitted changes' if changed else ''}"


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None where it, or a repository, is not there."""
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", check=False)  # noqa: S603, S607
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def versions() -> str:
    """Of what made the metrics and the page, here."""
    packages = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    return listed([f"Python {python_version()}", *packages])


def machines(runs: list[Run]) -> list[str]:
    """Each machine with which the networks were trained, once."""
    hardware = [run.hardware for run in runs]
    return list(
        dict.fromkeys(
            f"{item['device']} ({item['name']}), {item['precision']}, {item['threads']} threads, torch {item['torch']}"
            for item in hardware
        )
    )


def speed(run: Run, images: int) -> Speed:
    """A run's time, and training images per second of it, validation and checkpoints included."""
    seen = images * (run.last_epoch + 1)
    rate = f"{seen / run.train_seconds:.0f}" if run.train_seconds else "not available"
    return Speed(duration(run.train_seconds), rate)


def split_sentences(split: Split, findings: bool = False) -> str:
    """What the strategy did with these parameters; `findings`: with images of several findings each."""
    strategy = "files" if split.files else split.strategy
    test = "" if split.test_pct is None else _shown(split.test_pct)
    how = TEST | TEST_OF_FINDINGS if findings else TEST
    parts = [
        how[strategy].format(test=test, folds=split.folds, files=split.files) + "; " + _validation(split, findings)
    ]
    if split.max_train_per_class == "smallest":
        parts.append("No class has more training images than the smallest one.")
    elif split.max_train_per_class != "all":
        parts.append(f"At most {grouped(split.max_train_per_class)} training images per class were used.")
    return " ".join(parts)


def _validation(split: Split, findings: bool) -> str:
    if split.valid_pct is None:
        return "this includes the validation set."
    if split.valid_pct == 0:
        return "there is no validation set."
    how = "drawn at random by patient"
    if findings and split.strategy != "hash":
        how = "drawn by patient so that each finding has its share (iterative stratification)"
    return f"of the rest, {_shown(split.valid_pct)} % form the validation set, {how}."


def _shown(share: float) -> str:
    """12.5, but 20."""
    return percent(share, 1).removesuffix(".0")


def training(cfg: ExperimentConfig, runs: list[Run], library: str) -> list[str]:
    """One sentence per subject. `library`: which the network is of, and what it calls the network."""
    courses = phases(cfg.train)
    steps = [_course(course, runs, SPLIT_NAMES[cfg.train.monitored_split]) for course in courses]
    numbered = [f"phase {number}: {step}" for number, step in enumerate(steps, 1)] if len(steps) > 1 else steps
    parts = [
        f"Starts from {start(cfg.model.pretrained, library)}",
        _frozen(cfg.model.freeze, runs[0].frozen),
        "; ".join(numbered),
        _loss(cfg.loss),
        _batches(cfg.train, runs),
        _averages(cfg.train),
        _stopping(cfg.train, courses, runs),
        f"{'Seed' if len(runs) == 1 else 'Seeds'} {listed([str(run.repeat) for run in runs])}",
    ]
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in parts if sentence]


def start(pretrained: str, library: str) -> str:
    """What the weights were before training."""
    if pretrained == "none":
        return "random weights"
    if pretrained == "default":
        return f"the ImageNet weights of {library}" if library == "torchvision" else f"the weights of {library}"
    if entry := registry.find(pretrained):
        return f"the published weights {entry.name}: {entry.title}"
    is_file = Path(pretrained).suffix in WEIGHT_FILES
    return f"the weights in {pretrained}" if is_file else f"the best weights of the earlier run {pretrained}"


def selection(train: Train) -> str:
    """Which epoch is the best."""
    best = "lowest" if train.monitored_metric == "loss" else "best"
    split, metric = SPLIT_NAMES[train.monitored_split], metric_name(train.monitored_metric)
    return f"the epoch with the {best} {metric} on the {split} images"


def _course(course: TrainPhase, runs: list[Run], split: str) -> str:
    decay = f"weight decay {course.weight_decay:g}" if course.weight_decay else "no weight decay"
    momentum = "" if course.momentum is None else f" (momentum {course.momentum:g})"
    head = ", training only the last layer" if course.frozen else ""
    optimizer = f"{OPTIMIZERS[course.optimizer]}{momentum} and {decay}"
    return f"{_schedule(course, _rate(course, runs), split)}{head}, with {optimizer}"


def _rate(course: TrainPhase, runs: list[Run]) -> str:
    if course.lr != "find":
        return f"{course.lr:g}"
    rates = dict.fromkeys(f"{run.lr_found:.2g}" for run in runs)
    each = ", separately for each run" if len(rates) > 1 else ""
    return f"{listed(list(rates))} (from fastai’s learning rate finder{each})"


def _schedule(course: TrainPhase, rate: str, split: str) -> str:
    epochs = plural(course.epochs, "epoch")
    match course.schedule:
        case "constant":
            text = f"{epochs} at a constant learning rate of {rate}"
        case "one_cycle":
            text = f"{epochs} in one cycle with a peak learning rate of {rate}"
        case "flat_cos":
            flat = f"{100 * (course.pct_start or 0):g} %"
            text = f"{epochs} at a learning rate of {rate}, with cosine decay after {flat} of them"
        case "cosine_restarts":
            longer = "" if course.cycle_mult == 1 else f", each later cycle {course.cycle_mult} times as long"
            first = plural(course.cycle_len or 0, "epoch")
            text = f"{epochs} of cosine annealing from a learning rate of {rate}, restarted after {first}{longer}"
        case "step":
            every = "epoch" if course.decay_epochs == 1 else f"{course.decay_epochs} epochs"
            text = f"{epochs} from a learning rate of {rate}, multiplied by {course.decay_rate:g} every {every}"
        case "plateau":
            patience = plural(course.patience_epochs or 0, "epoch")
            factor = f"multiplied by {course.decay_rate:g} after {patience} without a lower {split} loss"
            text = f"{epochs} from a learning rate of {rate}, {factor}"
        case _:
            head = f"{plural(course.freeze_epochs or 0, 'epoch')} of the last layer only at up to {rate}"
            slower = f", {course.lr_mult:g} times lower in the first layers" if course.lr_mult != 1 else ""
            text = f"fine-tuning: {head}, then {epochs} of all unfrozen layers at up to half that rate{slower}"
    return text


def _frozen(freeze: Freeze, counted: Tree) -> str:
    """What was frozen; empty where nothing was."""
    if freeze.until == "head":
        part = "all layers but the head were frozen"
    elif freeze.until is not None:
        part = f"everything up to the end of {freeze.until} was frozen"
    elif freeze.layer_fraction is not None:
        part = f"the first {100 * freeze.layer_fraction:g} % of the layers were frozen"
    elif freeze.n_blocks is not None:
        end, before = f"the end of block {freeze.n_blocks}", f"the last {plural(-freeze.n_blocks, 'block')}"
        part = f"everything {f'up to {end}' if freeze.n_blocks > 0 else f'before {before}'} was frozen"
    else:
        return ""
    layers = f"{counted['layers_frozen']} of {counted['layers_in_all']} layers"
    norms = "; their batch norm layers kept adapting" if freeze.batch_norm == "train" else ""
    return f"{part} ({layers}, {grouped(counted['parameters'])} parameters){norms}"


def _loss(loss: Loss) -> str:
    named = {"cross_entropy": "cross-entropy", "bce": "binary cross-entropy of each finding"}
    parts = [named.get(loss.name, f"{loss.name} loss")]
    parts += [f"gamma {loss.focal_gamma:g}"] if loss.focal_gamma is not None else []
    parts += [f"label smoothing {loss.label_smoothing:g}"] if loss.label_smoothing else []
    if loss.class_weights == "balanced":
        parts += ["classes weighted by inverse frequency"]
    elif isinstance(loss.class_weights, list):
        parts += [f"class weights {listed([f'{weight:g}' for weight in loss.class_weights])}"]
    parts += _of_findings(loss)
    parts += [f"L2 penalty {loss.l2:g}"] if loss.l2 else []
    parts += [f"group DRO over sources and classes (step {loss.group_dro_step:g})"] if loss.group_dro_step else []
    parts += [f"CORAL between sources ({loss.coral_weight:g})"] if loss.coral_weight else []
    return ", ".join(parts)


def _of_findings(loss: Loss) -> list[str]:
    """What only a loss of several findings per image has."""
    parts = []
    if loss.gamma_pos is not None and loss.gamma_neg is not None and loss.clip is not None:
        parts.append(f"gamma {loss.gamma_pos:g} for present and {loss.gamma_neg:g} for absent findings")
        parts += [f"probabilities of absent ones lowered by {loss.clip:g}"] if loss.clip else []
    if loss.pos_weight == "balanced":
        parts.append("present findings weighted by how many more images are without them")
    elif isinstance(loss.pos_weight, list):
        parts.append(f"present findings weighted {listed([f'{weight:g}' for weight in loss.pos_weight])}")
    return parts


def _batches(train: Train, runs: list[Run]) -> str:
    precisions = dict.fromkeys(run.hardware["precision"] for run in runs)
    names = [{"bfloat16": "bfloat16 mixed precision"}.get(name, name) for name in precisions]
    images = train.batch_size * train.grad_accum
    steps = f", gradients accumulated over {train.grad_accum} batches ({images} images per step)"
    clip = f", gradients clipped to a norm of {train.grad_clip:g}" if train.grad_clip else ""
    return f"batches of {train.batch_size}{steps if train.grad_accum > 1 else ''}{clip}, in {listed(names)}"


def _averages(train: Train) -> str:
    """Weights that are means of others; empty where there are none."""
    parts = [f"weights are an exponential moving average (decay {train.ema_decay:g})"] if train.ema_decay else []
    parts += (
        [f"after the last epoch, the weights of the last {train.swa_epochs} were averaged"] if train.swa_epochs else []
    )
    parts += (
        [f"after the last epoch, the weights of the best {train.soup_epochs} were averaged"]
        if train.soup_epochs
        else []
    )
    return "; ".join(parts)


def _stopping(train: Train, courses: list[TrainPhase], runs: list[Run]) -> str:
    """When training was to stop early, and when it did; empty where it was not to."""
    if train.early_stop_patience is None:
        return ""
    better = "lower" if train.monitored_metric == "loss" else "better"
    metric = f"{SPLIT_NAMES[train.monitored_split]} {metric_name(train.monitored_metric)}"
    planned, epochs = sum(course.all_epochs for course in courses), [run.last_epoch + 1 for run in runs]
    early = [str(count) for count in epochs if count < planned]
    outcome = (
        f"{'this run' if len(runs) == 1 else plural(len(early), 'run')} stopped after {listed(early)} of {planned}"
    )
    return (
        f"early stopping after {plural(train.early_stop_patience, 'epoch')} without a {better} {metric}; "
        f"{outcome if early else f'all {planned} epochs were trained'}"
    )
