"""params.yaml as a whole: read, checked, and each experiment resolved."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator

from xraylab import files
from xraylab.errors import ParamsError
from xraylab.params import messages, search
from xraylab.params.data import Data
from xraylab.params.evaluate import Evaluate, Explain
from xraylab.params.images import BATCHWISE, NOT_IN_COPIES, Augment, Images, Sampling, changing
from xraylab.params.loss import Loss
from xraylab.params.model import Model
from xraylab.params.search import Search, Values
from xraylab.params.section import CONTRADICTION, Problem, Section, refusal
from xraylab.params.split import Split
from xraylab.params.study import Predict, Report, Study
from xraylab.params.train import Train, phases
from xraylab.registry import weights as registry
from xraylab.task import is_multi

EXPERIMENT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
BAD_NAME = (
    "a name is up to 64 lower-case letters, digits, - and _, and begins with a letter or digit; it becomes a folder "
    "and part of a command"
)
LARGEST = 10**18  # of an integer: beyond, arithmetic in 64 bits overflows
HEAD = "head"  # of model.freeze.until: all but the head
Tree = dict[str, Any]


class Experiment(Section):
    """The sections that an experiment may override."""

    model: Model
    augment: Augment
    sampling: Sampling
    loss: Loss
    train: Train

    def problems(self) -> Iterator[Problem]:
        """Contradictions between sections."""
        yield from self._of_sources()
        yield from self._of_phases()
        if self.train.grad_checkpointing and self.model.freeze.until == HEAD:
            yield (
                "train.grad_checkpointing",
                "model.freeze.until: head keeps no activations of what is frozen: set this to false",
            )
        active = [f"augment.{name}" for name in changing(self.augment)]
        if self.model.freeze.choices and self.model.freeze.cache and active:
            yield (
                "model.freeze.cache",
                f"{' and '.join(active)} shows the frozen part another image in every epoch, so its output cannot be "
                "computed once: switch that off, or set this to false",
            )

    def _of_sources(self) -> Iterator[Problem]:
        """Losses that look at sources, which mixed images have two of."""
        mixed = [f"augment.{name}" for name in BATCHWISE if getattr(self.augment, name) > 0]
        for name in ("group_dro_step", "coral_weight"):
            if getattr(self.loss, name) > 0 and mixed:
                yield f"loss.{name}", f"{mixed[0]} mixes images of several sources: set one of the two to 0"
        if self.loss.coral_weight > 0 and self.model.freeze.until == HEAD:
            yield (
                "loss.coral_weight",
                "model.freeze.until: head freezes the features that it would align: set it to 0",
            )

    def _of_phases(self) -> Iterator[Problem]:
        """Parts that are to be frozen, thawed or slowed, and are frozen otherwise, or have learnt nothing."""
        for number, phase in enumerate(phases(self.train)):
            where = f"train.{self.train.where(number)}"
            if self.model.freeze.until == HEAD and phase.schedule == "fine_tune":
                yield (
                    f"{where}schedule",
                    "model.freeze.until: head leaves nothing for fine_tune to unfreeze or to slow: take another, such "
                    "as one_cycle, or set that to null",
                )
            if self.model.freeze.until == HEAD and phase.frozen:
                yield (
                    f"{where}frozen",
                    "model.freeze.until: head freezes the same throughout: set one of the two to false or null",
                )
            if number == 0 and self.model.pretrained == "none" and (phase.frozen or phase.freeze_epochs):
                yield (
                    f"{where}{'frozen' if phase.frozen else 'freeze_epochs'}",
                    "model.pretrained is none, so what would be frozen has learnt nothing: set model.pretrained to "
                    "default or a file, or begin with a schedule that trains everything",
                )


OVERRIDABLE = tuple(Experiment.model_fields)


class Params(Experiment):
    """The whole of params.yaml."""

    study: Study
    data: Data
    split: Split
    images: Images
    evaluate: Evaluate
    explain: Explain
    predict: Predict
    report: Report
    search: Search
    experiments: Annotated[dict[str, Tree], Field(min_length=1)]

    def experiment(self, name: str, values: Values | None = None) -> Experiment:
        """The base sections with an experiment's overrides, then `values` (dotted key -> value), as they are used.

        Options that the experiment's choices do not use are null; named weights decide the architecture. Errors:
        ValidationError.
        """
        return self._as_written(name, values).resolved()

    def _as_written(self, name: str, values: Values | None = None) -> Experiment:
        base = {section: getattr(self, section).model_dump() for section in OVERRIDABLE}
        overrides = merge(self.experiments[name], search.unflatten(values or {}))
        return Experiment.model_validate(merge(base, overrides))

    @model_validator(mode="wrap")
    @classmethod
    def _with_experiments(cls, tree: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Every problem at once: those of the sections and those of the experiments."""
        problems: list[Problem] = []
        try:
            params = handler(tree)
        except ValidationError as error:
            problems = messages.problems(error, cls)
        if isinstance(tree, dict):
            problems += _of_experiments(tree)
            problems += _beyond_numbers(tree, {key for key, _ in problems})
        problems = problems or list(params.misfits()) or list(params.search_problems())
        if problems:
            raise refusal(problems)
        return params

    def misfits(self) -> Iterator[Problem]:
        """Contradictions between sections, and of each experiment with them."""
        if self.study.baseline not in self.experiments:
            yield "study.baseline", f"{self.study.baseline!r} is not one of the experiments"
        yield from self.evaluate.misfits(self.data)
        if is_multi(self.data.task) and self.split.max_train_per_class != "all":
            yield (
                "split.max_train_per_class",
                f"an image with several findings is of no class: set it to all with data.task: {self.data.task}",
            )
        yield from self.explain.misfits(self.data)
        for name in self.explain.experiments if isinstance(self.explain.experiments, list) else ():
            if name not in self.experiments:
                names = ", ".join(self.experiments)
                yield "explain.experiments", f"{name!r} is not one of the experiments; there is {names}"
        if self.predict.tta > 0 and not self._copies_differ():
            yield (
                "predict.tta",
                "no experiment's augmentation changes a copy (noise, erasing, histogram matching, mixup and cutmix are "
                "left out of them), so all would be alike: set it to 0",
            )
        base = list(self._of_data(self))
        yield from base
        for name in self.experiments:
            problems = self._of_data(self.experiment(name))
            yield from ((f"experiments.{name}.{key}", text) for key, text in problems if (key, text) not in base)

    def search_problems(self) -> Iterator[Problem]:
        """Problems of the search space, before a search begins."""
        space, name = self.search.space, self.search.experiment
        if not space:
            return
        if name not in self.experiments:
            yield "search.experiment", f"{name!r} is not one of the experiments"
            return
        problems = [*search.key_problems(space, Experiment), *search.condition_problems(space)]
        yield from problems or self._of_corners(name)

    def _of_corners(self, name: str) -> Iterator[Problem]:
        """Wrong types and contradictions of every choice with every other, each under its key and once."""
        reported: dict[Problem, Problem] = {}
        for values in search.corners(self.search.space):
            settings = ", ".join(f"{key}: {value}" for key, value in values.items())
            try:
                problems = list(self._of_data(self.experiment(name, values)))
            except ValidationError as error:
                problems = messages.problems(error, Experiment)
                if any(item["type"] != CONTRADICTION for item in error.errors()):
                    reported |= {each: (f"search.space.{each[0]}", each[1]) for each in problems}
                    continue
            for key, text in problems:
                reported.setdefault((key, text), ("search.space", f"{key}: {text} (with {settings})"))
        yield from reported.values()

    def _of_data(self, experiment: Experiment) -> Iterator[Problem]:
        """Contradictions between an experiment and the data."""
        yield from ((f"loss.{key}", text) for key, text in experiment.loss.misfits(self.data))
        yield from ((f"train.{key}", text) for key, text in experiment.train.misfits(self.data))
        if experiment.model.img_size > self.images.size:
            yield (
                "model.img_size",
                f"{experiment.model.img_size} is more than images.size ({self.images.size}): raise images.size",
            )
        if self.split.valid_pct == 0 and experiment.train.monitored_split == "valid":
            yield (
                "train.monitor",
                f"there are no validation images for {experiment.train.monitor} (split.valid_pct is 0): set "
                f"split.valid_pct to a fraction such as 0.15, or train.monitor to "
                f"test_{experiment.train.monitored_metric}, the published mode",
            )

    def _copies_differ(self) -> bool:
        """Return whether any experiment's augmentation changes a copy of test-time augmentation."""
        augments = [self.experiment(name).augment for name in self.experiments]
        return any(set(changing(augment)) - set(NOT_IN_COPIES) for augment in augments)


class ExperimentConfig(Experiment):
    """configs/<experiment>.yaml: an experiment as it is used, and what its pretrained file held then."""

    pretrained_sha256: str | None


def read(path: Path) -> Params:
    """Read and check the whole file. Errors: ParamsError with every problem, each under its dotted path."""
    return validate(files.read_yaml(path), path.name)


def validate(tree: Any, name: str) -> Params:
    """Validate the tree of a file `name`, and resolve the split. Errors: ParamsError."""
    if not isinstance(tree, dict):
        raise ParamsError(f"{name} holds no sections")
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        problems = [f"{key}: {text}" for key, text in messages.problems(error, Params)]
        raise ParamsError(f"{name} cannot be used:", problems) from None
    return params.model_copy(update={"split": params.split.resolved()})


def read_config(path: Path) -> ExperimentConfig:
    """Read configs/<experiment>.yaml. Errors: ParamsError with every problem, where it was edited by hand."""
    try:
        return ExperimentConfig.model_validate(files.read_yaml(path))
    except ValidationError as error:
        problems = [f"{key}: {text}".removeprefix(": ") for key, text in messages.problems(error, ExperimentConfig)]
        raise ParamsError(f"{path} cannot be used; `dvc repro configure` makes it anew:", problems) from None


def unused_overrides(params: Params) -> list[str]:
    """Overrides of experiments that their own choices do not use, in sentences."""
    sentences: dict[str, None] = {}
    for name, overrides in params.experiments.items():
        base = {section: getattr(params, section).model_dump() for section in OVERRIDABLE}
        for key, choice in Experiment.model_validate(merge(base, overrides)).unused().items():
            shared = key.startswith("train.phases.") and _value(overrides, "train.phases") is None
            if _value(base if shared else overrides, key) is not None:
                sentences[f"{'' if shared else f'experiments.{name}.'}{key} is not used by {choice}"] = None
    return list(sentences)


def named_weights_remarks(params: Params) -> list[str]:
    """What named weights change of each experiment's network without being told, once."""
    remarks: dict[str, None] = {}
    for name in params.experiments:
        model = params._as_written(name).model
        if entry := registry.find(model.pretrained):
            remarks |= dict.fromkeys(registry.remarks(entry, model.arch, model.img_size))
    return list(remarks)


def merge(base: Tree, overrides: Tree) -> Tree:
    """`base` with `overrides` laid over it, mapping by mapping."""
    result = dict(base)
    for key, value in overrides.items():
        mappings = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merge(base[key], value) if mappings else value
    return result


def _of_experiments(tree: Tree) -> Iterator[Problem]:
    """Problems of each experiment that the sections it overrides do not have."""
    base = {section: tree[section] for section in OVERRIDABLE if section in tree}
    experiments = tree.get("experiments")
    for name, overrides in experiments.items() if isinstance(experiments, dict) else ():
        where = f"experiments.{name}"
        if not EXPERIMENT_NAME.fullmatch(str(name)):
            yield where, BAD_NAME
        elif isinstance(overrides, dict):
            base_problems = _of_experiment(base, f"{where}.")
            yield from (
                each for each in _of_experiment(merge(base, overrides), f"{where}.") if each not in base_problems
            )


def _beyond_numbers(tree: Tree, reported: set[str]) -> Iterator[Problem]:
    """Numbers that no formula survives, also where any value may stand, such as the arguments of a plugin."""
    for path, value in _leaves(tree):
        beyond = (isinstance(value, float) and not math.isfinite(value)) or (
            isinstance(value, int) and abs(value) > LARGEST
        )
        if beyond and path not in reported:
            yield path, "should be a finite number of at most 18 digits"


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings and lists with its dotted path."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree


def _of_experiment(tree: Tree, prefix: str) -> list[Problem]:
    try:
        Experiment.model_validate(tree)
    except ValidationError as error:
        return messages.problems(error, Experiment, prefix)
    return []


def _value(tree: Any, dotted: str) -> Any:
    """The value at a dotted key of nested mappings and lists; None where there is none."""
    for key in dotted.split("."):
        if isinstance(tree, list):
            tree = tree[int(key)] if int(key) < len(tree) else None
        else:
            tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
