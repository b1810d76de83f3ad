"""How an experiment was trained, in sentences: from its resolved plan and from what its runs say of themselves."""

from pathlib import Path
from typing import Any

from xraylab.params.config import Plan
from xraylab.params.loss import Loss
from xraylab.params.model import Freeze
from xraylab.params.train import Train, TrainPhase, phases
from xraylab.report.answer import RANKED_BY, SIDE_NAMES
from xraylab.report.text import grouped, listed, plural

Run = dict[str, Any]  # what model.json says

OPTIMIZERS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "ranger": "Ranger",
    "lamb": "LAMB",
}
WEIGHT_FILES = (".pth", ".pt", ".safetensors")


def training(plan: Plan, runs: list[Run], built_by: str) -> list[str]:
    """One sentence per subject. `built_by`: the library that the network is of, and what it calls the network."""
    courses = phases(plan.train)
    steps = [_course(course, runs, SIDE_NAMES[plan.train.select_on]) for course in courses]
    numbered = [f"phase {number}: {step}" for number, step in enumerate(steps, 1)] if len(steps) > 1 else steps
    said = [
        f"Starts from {start(plan.model.pretrained, built_by)}",
        _frozen(plan.model.freeze, runs[0]["frozen"]),
        "; ".join(numbered),
        _loss(plan.loss),
        _batches(plan.train, runs),
        _averages(plan.train),
        _stopping(plan.train, courses, runs),
        f"{'Seed' if len(runs) == 1 else 'Seeds'} {listed([str(run['repeat']) for run in runs])}",
    ]
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in said if sentence]


def start(pretrained: str, built_by: str) -> str:
    """What the weights were before training."""
    if pretrained == "none":
        return "random weights"
    if pretrained == "default":
        return f"the ImageNet weights of {built_by}" if built_by == "torchvision" else f"the weights of {built_by}"
    is_file = Path(pretrained).suffix in WEIGHT_FILES
    return f"the weights in {pretrained}" if is_file else f"the best weights of the earlier run {pretrained}"


def selection(train: Train) -> str:
    """Which epoch is the best."""
    best = "lowest" if train.select_by == "loss" else "best"
    return f"the epoch with the {best} {RANKED_BY[train.select_by]} on the {SIDE_NAMES[train.select_on]} images"


def _course(course: TrainPhase, runs: list[Run], side: str) -> str:
    decay = f"weight decay {course.weight_decay:g}" if course.weight_decay else "no weight decay"
    momentum = "" if course.momentum is None else f" (momentum {course.momentum:g})"
    head = ", the last layer alone" if course.frozen else ""
    optimizer = f"{OPTIMIZERS[course.optimizer]}{momentum} and {decay}"
    return f"{_schedule(course, _rate(course, runs), side)}{head}, with {optimizer}"


def _rate(course: TrainPhase, runs: list[Run]) -> str:
    if course.lr != "find":
        return f"{course.lr:g}"
    found = dict.fromkeys(f"{run['lr_found']:.2g}" for run in runs)
    each = ", run by run" if len(found) > 1 else ""
    return f"{listed(list(found))} (from fastai’s learning rate finder{each})"


def _schedule(course: TrainPhase, rate: str, side: str) -> str:
    epochs = plural(course.epochs, "epoch")
    match course.schedule:
        case "constant":
            said = f"{epochs} at a constant learning rate of {rate}"
        case "one_cycle":
            said = f"{epochs} in one cycle with a peak learning rate of {rate}"
        case "flat_cos":
            flat = f"{100 * (course.flat_share or 0):g} %"
            said = f"{epochs} at a learning rate of {rate}, which falls by a cosine after {flat} of them"
        case "cosine_restarts":
            longer = "" if course.cycle_mult == 1 else f", each later cycle {course.cycle_mult} times as long"
            first = plural(course.cycle_epochs or 0, "epoch")
            said = f"{epochs} of cosine annealing from a learning rate of {rate}, restarted after {first}{longer}"
        case "step":
            every = "epoch" if course.decay_epochs == 1 else f"{course.decay_epochs} epochs"
            said = f"{epochs} from a learning rate of {rate}, multiplied by {course.decay_factor:g} every {every}"
        case "plateau":
            patience = plural(course.decay_patience or 0, "epoch")
            factor = f"multiplied by {course.decay_factor:g} after {patience} without a lower {side} loss"
            said = f"{epochs} from a learning rate of {rate}, {factor}"
        case _:
            head = f"{plural(course.freeze_epochs or 0, 'epoch')} of the last layer alone at up to {rate}"
            slower = f", {course.lr_mult:g} times less in the first layers" if course.lr_mult != 1 else ""
            said = f"fine-tuning: {head}, then {epochs} of all layers that are not frozen at up to half of it{slower}"
    return said


def _frozen(freeze: Freeze, counted: dict[str, Any]) -> str:
    """What was frozen; empty where nothing was."""
    if freeze.upto == "head":
        part = "all layers but the head were frozen"
    elif freeze.upto is not None:
        part = f"everything up to the end of {freeze.upto} was frozen"
    elif freeze.layers is not None:
        part = f"the first {100 * freeze.layers:g} % of the layers were frozen"
    elif freeze.blocks is not None:
        end, before = f"the end of block {freeze.blocks}", f"the last {plural(-freeze.blocks, 'block')}"
        part = f"everything {f'up to {end}' if freeze.blocks > 0 else f'before {before}'} was frozen"
    else:
        return ""
    layers = f"{counted['layers_frozen']} of {counted['layers_in_all']} layers"
    norms = "; their batch norms went on adapting" if freeze.batch_norm == "train" else ""
    return f"{part} ({layers}, {grouped(counted['parameters'])} parameters){norms}"


def _loss(loss: Loss) -> str:
    said = ["focal loss" if loss.name == "focal" else "cross-entropy"]
    said += [f"gamma {loss.focal_gamma:g}"] if loss.focal_gamma is not None else []
    said += [f"label smoothing {loss.label_smoothing:g}"] if loss.label_smoothing else []
    if loss.class_weights == "balanced":
        said += ["classes weighted by inverse frequency"]
    elif isinstance(loss.class_weights, list):
        said += [f"class weights {listed([f'{weight:g}' for weight in loss.class_weights])}"]
    said += [f"L2 penalty {loss.l2:g}"] if loss.l2 else []
    said += [f"group DRO over sources and classes (step {loss.group_dro_step:g})"] if loss.group_dro_step else []
    said += [f"CORAL between sources ({loss.coral_weight:g})"] if loss.coral_weight else []
    return ", ".join(said)


def _batches(train: Train, runs: list[Run]) -> str:
    precisions = dict.fromkeys(run["hardware"]["precision"] for run in runs)
    names = [{"bfloat16": "bfloat16 mixed precision"}.get(name, name) for name in precisions]
    images = train.batch_size * train.accumulate
    steps = f", gradients of {train.accumulate} batches summed into steps of {images} images"
    clip = f", gradients clipped to a norm of {train.clip:g}" if train.clip else ""
    return f"batches of {train.batch_size}{steps if train.accumulate > 1 else ''}{clip}, in {listed(names)}"


def _averages(train: Train) -> str:
    """Weights that are means of others; empty where there are none."""
    said = [f"weights are an exponential moving average (decay {train.ema:g})"] if train.ema else []
    said += [f"after the last epoch, the weights of the last {train.swa} were averaged"] if train.swa else []
    said += [f"after the last epoch, the weights of the best {train.soup} were averaged"] if train.soup else []
    return "; ".join(said)


def _stopping(train: Train, courses: list[TrainPhase], runs: list[Run]) -> str:
    """When training was to stop early, and when it did; empty where it was not to."""
    if train.early_stop is None:
        return ""
    figure = "lower" if train.select_by == "loss" else "better"
    planned, done = sum(course.all_epochs for course in courses), [run["last_epoch"] + 1 for run in runs]
    early = [str(count) for count in done if count < planned]
    outcome = (
        f"{'this run' if len(runs) == 1 else plural(len(early), 'run')} stopped after {listed(early)} of {planned}"
    )
    return (
        f"early stopping after {plural(train.early_stop, 'epoch')} without a {figure} {SIDE_NAMES[train.select_on]} "
        f"{RANKED_BY[train.select_by]}; {outcome if early else f'all {planned} epochs were trained'}"
    )
