"""A run: one experiment's resolved configuration for one repeat, of which all that trains is built."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from xraylab import files, plugins, shards
from xraylab.data.dataloaders import Inputs
from xraylab.data.uncertain import Uncertain
from xraylab.model import distributed, hardware
from xraylab.model.features import Features
from xraylab.model.hardware import Hardware
from xraylab.params import config
from xraylab.params.config import ExperimentConfig, Params
from xraylab.params.images import BATCHWISE
from xraylab.paths import Paths
from xraylab.plugins import Plugin
from xraylab.task import is_multi
from xraylab.train.state import CheckpointPolicy, TrainingState, key


@dataclass(frozen=True)
class TrainingRun:
    """One training run: resolved configuration (`cfg`), study, repeat and machine."""

    cfg: ExperimentConfig
    params: Params
    paths: Paths
    experiment: str
    repeat: int
    hardware: Hardware

    @classmethod
    def load(cls, settings: Params, paths: Paths, experiment: str, repeat: int) -> "TrainingRun":
        """Read the experiment's configuration, and choose what computes it; from here on, with the same bits each."""
        cfg = config.read_config(paths.config(experiment))
        machine = replace(hardware.choose(cfg.train.precision), devices=distributed.world_size())
        hardware.deterministic_algorithms()
        return cls(cfg, settings, paths, experiment, repeat, machine)

    @property
    def name(self) -> str:
        """As it stands in lines of a log and in names of files."""
        return f"{self.experiment}-{self.repeat}"

    @property
    def classes(self) -> list[str]:
        """The classes, in the order of the network's outputs."""
        return self.params.data.classes

    @property
    def uncertain(self) -> Uncertain | None:
        """What training makes of uncertain labels, as the experiment or else the study says; None in other studies."""
        if not is_multi(self.params.data.task):
            return None
        return Uncertain.of(self.cfg.loss.uncertain or self.params.data.uncertain, self.classes, self.repeat)

    @property
    def split(self) -> Path:
        """The folder of the images of each split."""
        return self.paths.split_of(self.repeat)

    @property
    def scored_splits(self) -> list[str]:
        """Splits that are scored after every epoch: validation, and in published mode alone test."""
        return ["valid", "test"] if self.cfg.train.monitored_split == "test" else ["valid"]

    @property
    def augmentation(self) -> dict[str, Any]:
        """The augmentation of single images, without mixup and CutMix of batches."""
        return self.cfg.augment.model_dump(exclude=set(BATCHWISE))

    @property
    def policy(self) -> CheckpointPolicy:
        """The rules for selecting, saving and averaging epochs."""
        train = self.cfg.train
        return CheckpointPolicy(
            train.monitor, train.min_epochs, train.soup_epochs or 0, train.swa_epochs or 0, train.checkpoints == "all"
        )

    @property
    def plugins(self) -> list[Plugin]:
        """The plugins that the configuration names."""
        cfg = self.cfg
        names = {("architecture", cfg.model.arch), ("loss", cfg.loss.name), ("sampler", cfg.sampling.strategy)}
        names |= {("callback", name) for name in cfg.train.callbacks}
        return [plugin for plugin in plugins.installed() if (plugin.kind, plugin.name) in names]

    @cached_property
    def image_hashes(self) -> list[str]:
        """SHA-256 of the files of the image cache."""
        return shards.hashes(self.paths.cache)

    def state(self, inputs: Inputs) -> TrainingState:
        """The run's state. A change in its configuration, data, code or hardware starts a new one."""
        code = _hashes(Path(files.__file__).parent.rglob("*.py"))
        features = inputs.sha256 if isinstance(inputs, Features) else None
        installed = plugins.fingerprints(plugins.installed()).items()
        sources = [*self.image_hashes, *_hashes(self.split.glob("*.csv")), *code, features, *installed]
        data, machine = self.params.data, self.hardware.record()
        # how many devices there are stands in `machine`, whatever train.devices says of it
        labels = data.classes, data.positive, data.task, self.uncertain
        facts = self.cfg.model_dump(exclude={"train": {"devices"}}), labels, sources, self.repeat
        folder = self.paths.state / "runs" / f"{self.name}-{key(*facts, machine)}"
        rest = {name: fact for name, fact in machine.items() if name not in {"devices", "threads"}}
        return TrainingState(folder, self.policy, devices=self.hardware.devices, on_any_number=key(*facts, rest))


def _hashes(paths: Iterable[Path]) -> list[str]:
    return [files.sha256(path) for path in sorted(paths)]
