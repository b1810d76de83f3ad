"""What a plan asks for, as the things that `run.fit` takes: the one place of this room that knows parameters."""

from dataclasses import replace

from fastai.callback.core import Callback
from fastai.callback.training import GradientClip
from fastai.data.core import DataLoaders
from torch import nn

from xraylab.data.augment import Augmentation
from xraylab.data.image_cache import ImageCache, TrainingBatches
from xraylab.data.loaders import dataloaders
from xraylab.data.sampling import BY_GROUP, EpochSampler
from xraylab.errors import TrainingError
from xraylab.model import create, losses, networks, schedules
from xraylab.model.create import StartingModel
from xraylab.model.features import Features
from xraylab.model.hardware import Hardware
from xraylab.model.optimizers import create_optimizer
from xraylab.model.schedules import Phase
from xraylab.params.config import Plan
from xraylab.params.images import BATCHWISE
from xraylab.params.train import OPTIONS, TrainPhase, phases
from xraylab.train import callbacks, frozen, inputs, source_losses, steps
from xraylab.train.callbacks import Starts
from xraylab.train.inputs import Inputs
from xraylab.train.record import Choice
from xraylab.train.run import Part


def choice(plan: Plan) -> Choice:
    """Which epochs matter."""
    train = plan.train
    return Choice(f"{train.select_on}_{train.select_by}", train.min_epochs, train.soup or 0, train.swa or 0)


def loss(plan: Plan, read: Inputs, classes: int) -> nn.Module:
    """From logits and labels to a mean, weighted by the training labels where that is asked."""
    asked = plan.loss
    own = {"gamma": asked.focal_gamma} if asked.name == "focal" else {"label_smoothing": asked.label_smoothing}
    return losses.LOSSES[asked.name](losses.class_weights(asked.class_weights, read.training.labels, classes), **own)


def order(plan: Plan, read: Inputs, seed: int) -> EpochSampler:
    """Which training images an epoch shows. Errors: TrainingError for balanced sources where there is one."""
    strategy = plan.sampling.strategy
    if strategy not in BY_GROUP:
        return EpochSampler(strategy, read.training.labels, seed)
    _refuse_one_source(f"sampling.strategy: {strategy}", "take weighted, which balances classes alone", read)
    return EpochSampler(strategy, read.groups, seed)


def of_sources(plan: Plan, read: Inputs, order: EpochSampler, classes: int, device: str) -> list[Callback]:
    """The losses that look at sources. Errors: TrainingError where there is one source."""
    cbs: list[Callback] = []
    if plan.loss.group_dro_step > 0:
        _refuse_one_source("loss.group_dro_step", "set it to 0", read)
        cbs.append(source_losses.GroupDRO(read.groups, order, plan.loss.group_dro_step, device))
    if plan.loss.coral_weight > 0:
        _refuse_one_source("loss.coral_weight", "set it to 0", read)
        cbs.append(source_losses.Coral(read.groups // classes, order, plan.loss.coral_weight))
    return cbs


def _refuse_one_source(key: str, remedy: str, read: Inputs) -> None:
    if len(read.sources) < 2:
        raise TrainingError(
            f"{key} needs training images of two sources or more, and all are of "
            f"{read.sources[0] or 'an unknown one'}: {remedy}, or give the sources in data.source, or in a table"
        )


def step_callbacks(plan: Plan, order: EpochSampler, divided: StartingModel | None) -> list[Callback]:
    """What happens in a step besides; `divided` where the frozen part's output is not there already."""
    train, augment, adapt = plan.train, plan.augment, plan.model.freeze.batch_norm == "train"
    cbs = [callbacks.L2Penalty(plan.loss.l2)] if plan.loss.l2 > 0 else []
    cbs += [frozen.FrozenPart(divided.backbone)] if divided and len(divided.backbone) > 0 else []
    cbs += [frozen.Held(divided.frozen_modules, adapt)] if divided and divided.frozen_modules else []
    cbs += [steps.Mix(steps.mixup, augment.mixup)] if augment.mixup > 0 else []
    cbs += [steps.Mix(steps.cutmix, augment.cutmix)] if augment.cutmix > 0 else []
    cbs += [steps.Accumulate(train.accumulate, order)] if train.accumulate > 1 else []
    cbs += [GradientClip(train.clip)] if train.clip else []
    return cbs


def batches(
    plan: Plan, machine: Hardware, read: Inputs, array: Features | None, order: EpochSampler, seed: int
) -> tuple[Starts, DataLoaders]:
    """What is drawn for every epoch, and batches: of features where there are any, else of images."""
    training, scored, size = read.training, read.scored, plan.train.batch_size
    if array is not None:
        return order, inputs.feature_loaders(array, training, order, scored, size, machine.device)
    drawn = Augmentation(**augmentation(plan))
    normalise = create.normalization(plan.model)
    store = ImageCache(read.images, normalise, plan.model.pixels, machine.device)
    batches = TrainingBatches(store, training.rows, training.labels, order, drawn, seed)
    return batches, dataloaders(batches, scored.rows, scored.labels, size, machine.device)


def augmentation(plan: Plan) -> dict[str, float]:
    """What is drawn for single images; mixing is of batches."""
    return plan.augment.model_dump(exclude=set(BATCHWISE))


def parts(plan: Plan, found: float | None) -> list[Part]:
    """The phases with their optimizers; `found` is the rate of those whose rate is to be found."""
    return [Part(phase, create_optimizer(given)) for given in phases(plan.train) for phase in _phases(given, found)]


def _phases(given: TrainPhase, found: float | None) -> list[Phase]:
    options = {name: getattr(given, name) for name, users in OPTIONS.items() if given.schedule in users}
    rate = found if given.lr == "find" else given.lr
    cycle_momentum = given.momentum is None
    phases = schedules.SCHEDULES[given.schedule](given.epochs, rate, networks.PARTS, cycle_momentum, **options)
    return [replace(phase, frozen=True) for phase in phases] if given.frozen else phases
