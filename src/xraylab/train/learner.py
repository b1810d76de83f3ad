"""Build DataLoaders and Learner of a run, the same in the stage and in a notebook."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fastai.callback import progress as _progress  # noqa: F401 - its import adds the bar to the default callbacks
from fastai.callback import schedule as _schedule  # noqa: F401 - and this one lr_find, fit_one_cycle and fine_tune
from fastai.callback.core import Callback
from fastai.callback.training import GradientClip
from fastai.data.core import DataLoaders
from fastai.data.transforms import CategoryMap
from fastai.learner import Learner
from torch import Tensor, nn

from xraylab import files, plugins, tables
from xraylab.data import prepare
from xraylab.data.augment import Augmentation, Gray
from xraylab.data.dataloaders import CopyLoader, ScoringLoader, Subset, TrainLoader, XrayDataLoaders, build_dataloaders
from xraylab.data.image_cache import SCORING_BATCH, ImageCache, Rows
from xraylab.data.prepare import Preparation
from xraylab.data.sampling import BY_GROUP, EpochSampler
from xraylab.errors import TrainingError
from xraylab.evaluate import macro
from xraylab.model import (
    compiling,
    create,
    distributed,
    features,
    grad_checkpointing,
    losses,
    memory,
    networks,
)
from xraylab.model.create import StartingModel, create_starting_model
from xraylab.model.features import Features
from xraylab.model.hardware import Hardware, memory_format
from xraylab.model.optimizers import create_optimizer
from xraylab.params.loss import Loss
from xraylab.params.train import phases
from xraylab.shards import Images, load
from xraylab.task import is_multi
from xraylab.train import callbacks, source_losses
from xraylab.train.averaging import EMA
from xraylab.train.history import METRICS, Recorder, SplitMetric
from xraylab.train.parallel import DataParallel
from xraylab.train.run import TrainingRun

# fastai carries no types, so to mypy the Learner is Any: hence the ignore below


class XrayLearner(Learner):  # type: ignore[misc]
    """fastai's Learner, with a validation that memory cannot end, and the whole network of which it trains a part.

    Images are scored in batches that are halved where memory runs out; `scoring_batch` is their size by then. The
    training batch is a parameter, and stays what it is.
    """

    scoring_batch = SCORING_BATCH
    starting_model: StartingModel
    augmentation: Augmentation

    def all_batches(self) -> None:
        """As fastai's, of training; of images that are scored, batches made here, where an error can be met."""
        dl = self.dl
        if self.training or type(dl) not in (ScoringLoader, CopyLoader) or dl.drop_last:
            super().all_batches()
            return
        dl.before_iter()
        idxs = list(dl.get_idxs())
        self.n_iter = -(-len(idxs) // self.scoring_batch)

        def score(start: int, stop: int) -> None:
            self.scored = False
            try:
                self.one_batch(start // self.scoring_batch, dl.whole_batch(idxs[start:stop]))
            except (RuntimeError, MemoryError) as error:
                if memory.ran_out(error) and not self.scored:
                    distributed.all_agree(False)  # so that the others, too, take a smaller batch
                raise

        for _, size in memory.batches(score, len(idxs), self.scoring_batch, "scoring the validation images"):
            self.scoring_batch = size

    def tta(
        self, ds_idx: int = 1, dl: Any = None, n: int = 4, *, beta: float | None = 0.25, use_max: bool = False
    ) -> tuple[Any, Tensor]:
        """Average predictions of images and of `n` augmented copies, as fastai's, with the experiment's augmentation.

        `beta` is the weight of the images themselves: 1 / (n + 1) gives what `predict.tta: n` does. Errors:
        TrainingError where no augmentation changes a copy.
        """
        dl = self.dls[ds_idx].new(shuffle=False) if dl is None else dl
        augmentation = self.augmentation.for_tta()
        if n < 1 or not augmentation.changes:
            raise TrainingError(
                f"tta: no augmentation of the experiment changes one of {n} copies (noise, erasing and histogram "
                "matching are left out): set one under augment, such as augment.degrees, or call get_preds"
            )
        p, labels = self.get_preds(dl=dl)
        copies = augmentation.draw_copies(n, len(dl.dataset), self.dls.train.seed)
        loaders = [dl.new(cls=CopyLoader, sampled=sampled, augmentation=augmentation) for sampled in copies]
        augmented = torch.stack([self.get_preds(dl=loader)[0] for loader in loaders])
        if use_max:
            return torch.maximum(p, augmented.amax(dim=0)), labels
        mean = augmented.mean(dim=0)
        return (mean, p) if beta is None else torch.lerp(mean, p, beta), labels

    def gather_args(self) -> dict[str, Any]:
        """Nothing for WandbCallback's config: fastai's gathers all that the Learner holds, images included."""
        return {}

    def export(self, *_: Any, **__: Any) -> None:
        """Refuse fastai's export. Errors: TrainingError that names what to use instead."""
        raise TrainingError(
            "export pickles the Learner, and loading a pickle can run any code. Use learn.save(name) and "
            "learn.load(name) for weights; runs of the stage train are stored as safetensors and JSON, and "
            "study.model(experiment, repeat) loads them"
        )

    def _do_epoch_validate(self, ds_idx: int = 1, dl: Any = None) -> None:
        """As fastai's; training images are scored as they are, each once, and that is no epoch."""
        dl = self.dls[ds_idx] if dl is None else dl
        super()._do_epoch_validate(dl=dl.new(shuffle=False) if isinstance(dl, TrainLoader) else dl)


def dataloaders(run: TrainingRun) -> XrayDataLoaders:
    """The images of a run as fastai takes them, or the features of its frozen backbone where it caches them.

    Errors: TrainingError where the labels do not allow for the sampler or the monitor.
    """
    images, row_of = load(run.paths.cache)
    items = [_items(run, ["train"]), _items(run, run.scored_splits)]
    rows = [np.array([row_of[name] for name in each["id"]], np.int64) for each in items]
    inputs = _inputs(run, images, np.unique(np.concatenate(rows)))
    vocab, name = CategoryMap(run.classes, sort=False), run.params.data.positive
    positive = None if name is None else run.classes.index(name)
    train, valid = (Subset(items[n], rows[n], inputs, vocab, positive, n, run.uncertain) for n in (0, 1))
    _refuse_undefined_monitor(run, valid)
    sampler, augmentation, device = _sampler(run, train), Augmentation(**run.augmentation), run.hardware.device
    batch_size, files = run.cfg.train.batch_size, {"row_of": row_of, "read_image": _reader(run)}
    shard = distributed.part if distributed.world_size() > 1 else None
    return build_dataloaders(train, valid, sampler, augmentation, batch_size, run.repeat, device, shard, **files)


def learner(run: TrainingRun, dls: XrayDataLoaders, cbs: Sequence[Callback] = ()) -> XrayLearner:
    """The Learner that the stage trains, with the user's own callbacks besides.

    What it saves goes to a scratch folder, since models/ is DVC's. Errors: TrainingError for losses over sources where
    there is one source, WeightsError and ParamsError as `create_starting_model`.
    """
    cfg, device = run.cfg, run.hardware.device
    torch.manual_seed(run.repeat)
    weights_file = run.paths.weights(cfg.model.pretrained)
    start = create_starting_model(cfg.model, run.classes, weights_file, cfg.pretrained_sha256, print)
    if cfg.train.sync_bn and distributed.world_size() > 1:
        from xraylab.model import sync_bn  # noqa: PLC0415 - imports torch's compiler

        sync_bn.convert(start.trainable)
    if cfg.train.grad_checkpointing:
        grad_checkpointing.enable(start.trainable, cfg.model.arch)
    if cfg.train.compile:
        compiling.compile_for_training(start.trainable)
    loss = create_loss(cfg.loss, dls.train_ds).to(device)
    run_cbs = [*_step_callbacks(run, dls, start), *_source_losses(run, dls)]
    run_cbs += plugins.create_callbacks(cfg.train.callbacks)
    run_cbs += [DataParallel()] if distributed.world_size() > 1 else []
    if cfg.train.ema_decay is not None:
        run_cbs.append(EMA(start.trainable.to(device), cfg.train.ema_decay))
    first = phases(cfg.train)[0]
    rate = {} if first.lr == "find" else {"lr": first.lr}
    folder = run.paths.state / "notebook" / run.name
    learn = build_learner(
        dls, start.trainable, loss, create_optimizer(first), run.hardware, [*run_cbs, *cbs], path=folder, **rate
    )
    learn.starting_model, learn.augmentation = start, Augmentation(**run.augmentation)
    learn.scoring_batch = SCORING_BATCH * distributed.world_size()
    return learn


def build_learner(
    dls: DataLoaders,
    network: nn.Module,
    loss: nn.Module,
    opt_func: Callable[..., Any],
    hardware: Hardware,
    cbs: Sequence[Callback],
    **options: Any,
) -> XrayLearner:
    """A Learner whose optimizer sees every parameter alike: decay on all, nothing trained while frozen.

    It has fastai's default callbacks: for the training counter and mode, plain tensors, the bar, and the recorder, in a
    form that never makes a GPU wait.
    """
    scaling = [callbacks.LossScaling(hardware.device)] if hardware.precision == "float16" else []
    learn = XrayLearner(
        dls,
        network.to(memory_format=memory_format(hardware.device)),
        loss,
        opt_func=opt_func,
        splitter=networks.parameter_groups,
        cbs=[callbacks.Reproducible(), callbacks.Autocast(hardware), *scaling, *cbs],
        metrics=_metrics(dls),
        wd_bn_bias=True,
        train_bn=False,
        **options,
    )
    learn.remove_cb(learn.recorder)
    learn.add_cb(Recorder())
    return learn


def create_loss(cfg: Loss, train: Subset) -> nn.Module:
    """The loss, weighted by the training labels where the configuration says so. Errors: TrainingError."""
    options: dict[str, dict[str, Any]] = {
        "cross_entropy": {"label_smoothing": cfg.label_smoothing},
        "bce": {"label_smoothing": cfg.label_smoothing},
        "focal": {"gamma": cfg.focal_gamma},
        "asymmetric": {"gamma_pos": cfg.gamma_pos, "gamma_neg": cfg.gamma_neg, "clip": cfg.clip},
    }
    if multi_label := is_multi(train.task):
        weights = losses.pos_weights(cfg.pos_weight, train.targets, list(train.vocab))
    else:
        weights = losses.class_weights(cfg.class_weights, train.labels, train.c)
    return losses.create_loss(cfg.name, weights, options.get(cfg.name, cfg.options), multi_label)


def all_but_the_head(learn: Learner) -> callbacks.FreezeModules:
    """A callback that freezes the body for a phase, whatever fastai's `freeze` has done before."""
    return callbacks.FreezeModules([module for part in networks.groups(learn.model)[:-1] for module in part])


def _items(run: TrainingRun, splits: Sequence[str]) -> pd.DataFrame:
    parts = [tables.read(run.split / f"{split}_data.csv").assign(split=split) for split in splits]
    return pd.concat(parts, ignore_index=True)


def _inputs(run: TrainingRun, images: Images, rows: Rows) -> ImageCache | Features:
    cfg = run.cfg.model
    if cfg.freeze.cache:
        with distributed.main_first():
            return _features(run, images, rows)
    normalization = create.normalization(cfg, run.paths.weights(cfg.pretrained))
    return ImageCache(images, normalization, cfg.img_size, run.hardware.device)


def _features(run: TrainingRun, images: Images, rows: Rows) -> Features:
    """The features that the stage `features` wrote for this experiment and precision, or newly computed ones."""
    cfg, weights_file, sha256 = run.cfg.model, run.paths.weights(run.cfg.model.pretrained), run.cfg.pretrained_sha256
    pretrained = create.pretrained_id(cfg, weights_file, sha256)
    key = create.feature_key(cfg, pretrained, run.image_hashes, run.hardware.precision)
    everything, published = np.arange(len(images)), run.paths.feature(run.experiment)
    record = files.read_json(published) if published.is_file() else {"key": None}
    if record["key"] == key and run.paths.feature_array(key).is_file():
        return features.read(run.paths.feature_array(key), everything, record["sha256"])
    if whole := features.read_stored(run.paths.stored_features(key), everything, print):
        return whole
    partial_file = run.paths.stored_features(features.part(key, rows))
    if used := features.read_stored(partial_file, rows, print):
        return used
    start = create_starting_model(cfg, run.classes, weights_file, sha256, lambda text: None)
    normalization = create.normalization(cfg, weights_file)
    features.write(partial_file, start.backbone, images, rows, normalization, cfg.img_size, run.hardware, print)
    return features.read(partial_file, rows)


def _reader(run: TrainingRun) -> Callable[[Path], Gray]:
    """Prepares a file as the images of the cache were."""
    images = run.params.images
    preparation = Preparation.recorded(images.model_dump())
    return lambda path: prepare.read(path, preparation, images.size, images.resize_method)


def _refuse_undefined_monitor(run: TrainingRun, valid: Subset) -> None:
    """Errors: TrainingError where the labels of findings define no value of the monitored metric in any epoch."""
    metric, split = run.cfg.train.monitored_metric, run.cfg.train.monitored_split
    if not is_multi(valid.task) or metric == "loss":
        return
    labels = valid.known_labels[valid.items["split"].to_numpy(str) == split]
    if np.isnan(macro.scores(labels, np.zeros_like(labels))[metric]):
        needs = {"f1": "positive", "accuracy": "known"}.get(metric, "both positive and negative")
        raise TrainingError(
            f"train.monitor: {run.cfg.train.monitor} needs a finding with {needs} labels among the {split} images, and "
            f"there is none: set it to {split}_loss, or enlarge the {split} split"
        )


def _sampler(run: TrainingRun, train: Subset) -> EpochSampler:
    """The sampler of training images. Errors: TrainingError for balanced sources where there is one."""
    strategy = run.cfg.sampling.strategy
    if strategy not in BY_GROUP:
        return EpochSampler(strategy, train.labels, run.repeat)
    _refuse_one_source(f"sampling.strategy: {strategy}", "take weighted, which balances classes alone", train)
    return EpochSampler(strategy, train.groups, run.repeat)


def _step_callbacks(run: TrainingRun, dls: XrayDataLoaders, start: StartingModel) -> list[Callback]:
    """Callbacks of the training step; cached features are the frozen backbone's output already."""
    cfg, adapt = run.cfg, run.cfg.model.freeze.batch_norm == "train"
    cached = isinstance(dls.train_ds.inputs, Features)
    cbs = [callbacks.L2Penalty(cfg.loss.l2 / distributed.world_size())] if cfg.loss.l2 > 0 else []
    cbs += [callbacks.FrozenBackbone(start.backbone)] if len(start.backbone) > 0 and not cached else []
    cbs += [callbacks.FreezeBatchNorm(start.frozen_modules, adapt)] if start.frozen_modules and not cached else []
    cbs += [callbacks.Mix(callbacks.mixup, cfg.augment.mixup_alpha)] if cfg.augment.mixup_alpha > 0 else []
    cbs += [callbacks.Mix(callbacks.cutmix, cfg.augment.cutmix_alpha)] if cfg.augment.cutmix_alpha > 0 else []
    cbs += [callbacks.Accumulate(cfg.train.grad_accum)] if cfg.train.grad_accum > 1 else []
    cbs += [GradientClip(cfg.train.grad_clip)] if cfg.train.grad_clip else []
    cbs += [callbacks.KeepStatistics()] if cfg.train.grad_checkpointing else []
    cbs += [callbacks.CompiledSteps()] if cfg.train.compile else []
    return cbs


def _source_losses(run: TrainingRun, dls: XrayDataLoaders) -> list[Callback]:
    """The losses that look at sources. Errors: TrainingError where there is one source."""
    loss, train = run.cfg.loss, dls.train_ds
    cbs: list[Callback] = []
    if loss.group_dro_step > 0:
        _refuse_one_source("loss.group_dro_step", "set it to 0", train)
        cbs.append(source_losses.GroupDRO(train.groups, loss.group_dro_step, run.hardware.device))
    if loss.coral_weight > 0:
        _refuse_one_source("loss.coral_weight", "set it to 0", train)
        cbs.append(source_losses.Coral(train.source_numbers, loss.coral_weight))
    return cbs


def _refuse_one_source(key: str, remedy: str, train: Subset) -> None:
    if len(train.sources) < 2:
        raise TrainingError(
            f"{key} needs training images of two sources or more, and all are of "
            f"{train.sources[0] or 'an unknown one'}: {remedy}, or give the sources in data.source, or in a table"
        )


def _metrics(dls: XrayDataLoaders) -> list[SplitMetric]:
    """The metrics of each split that is scored, under the names of the history."""
    splits = dict.fromkeys(dls.valid_ds.items["split"].tolist())
    return [SplitMetric(split, name, dls.positive) for split in splits for name in METRICS[dls.task]]
