"""params.yaml as a whole: read, checked, and each experiment resolved."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    ValidationError,
)

from xraylab import files
from xraylab.errors import ParamsError
from xraylab.params import messages
from xraylab.params import model as of_model
from xraylab.params import train as of_train
from xraylab.params.data import Data, label_problems, source_problems
from xraylab.params.evaluate import Evaluate, Explain, evaluate_problems
from xraylab.params.images import NOT_IN_COPIES, Augment, Images, Sampling, changing
from xraylab.params.loss import Loss
from xraylab.params.model import Model
from xraylab.params.search import JUDGES, Search, Values, condition_problems, corners, nested
from xraylab.params.section import Section
from xraylab.params.split import Split, split_problems
from xraylab.params.study import Predict, Report, Study
from xraylab.params.train import Train

EXPERIMENT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
OVERRIDABLE = ("model", "augment", "sampling", "loss", "train")


class Experiment(Section):
    """The sections that an experiment may override, resolved."""

    model: Model
    augment: Augment
    sampling: Sampling
    loss: Loss
    train: Train


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
    experiments: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]

    def experiment(self, name: str, values: Values | None = None) -> Experiment:
        """The base sections with one experiment's overrides, and then with `values` (dotted key -> value)."""
        base = {section: getattr(self, section).model_dump() for section in OVERRIDABLE}
        return Experiment.model_validate(merged(merged(base, self.experiments[name]), nested(values or {})))


class Plan(Experiment):
    """plans/<experiment>.yaml: an experiment, and what its pretrained file held when it was planned."""

    pretrained_sha256: str | None


def read(path: Path, name: str | None = None) -> Params:
    """Read and check the whole file. Errors: ParamsError with every problem, each under its dotted path.

    `name` stands in errors instead of the path's own.
    """
    tree = files.read_yaml(path)
    if not isinstance(tree, dict):
        raise ParamsError(f"{name or path.name} holds no sections")
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        raise ParamsError(messages.headline(name or path.name), messages.problems(error, Params)) from None
    problems = [*_study_problems(params), *_experiments_problems(params)] or _search_problems(params)
    if problems:
        raise ParamsError(messages.headline(name or path.name), problems)
    return params


def read_plan(path: Path) -> Plan:
    return Plan.model_validate(files.read_yaml(path))


def merged(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`base` with `overrides` laid over it, mapping by mapping."""
    result = dict(base)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if both else value
    return result


def _study_problems(params: Params) -> list[str]:
    problems = []
    data, study = params.data, params.study
    if len(set(data.classes)) < len(data.classes):
        problems.append("data.classes: names a class twice")
    if len(data.classes) == 2 and data.positive not in data.classes:
        problems.append(f"data.positive: must be one of {', '.join(data.classes)}, got {data.positive!r}")
    if len(data.classes) > 2 and data.positive is not None:
        problems.append("data.positive: must be null with more than two classes, whose F1 is the mean over classes")
    if data.sha256 and data.source == "demo":
        problems.append("data.sha256: belongs to an https address; set it to null with data.source: demo")
    problems += label_problems(data)
    problems += source_problems(data)
    problems += split_problems(params.split)
    problems += evaluate_problems(params.evaluate, data)
    if params.images.window and params.images.window[0] >= params.images.window[1]:
        problems.append(f"images.window: the lower percentile comes first, got {params.images.window}")
    if params.predict.tta > 0 and not _augmented(params):
        problems.append(
            "predict.tta: no experiment's augmentation changes a copy (noise, erasing, histogram matching, mixup and "
            "cutmix are left out of them), so all would be alike: set it to 0"
        )
    if study.baseline not in params.experiments:
        problems.append(f"study.baseline: {study.baseline!r} is not one of the experiments")
    if len(set(study.repeats)) < len(study.repeats):
        problems.append("study.repeats: names a repeat twice")
    return problems + _explain_problems(params)


def _explain_problems(params: Params) -> list[str]:
    explain, problems = params.explain, []
    for name in explain.experiments if isinstance(explain.experiments, list) else ():
        if name not in params.experiments:
            there = ", ".join(params.experiments)
            problems.append(f"explain.experiments: {name!r} is not one of the experiments; there is {there}")
    for key in ("experiments", "methods"):
        names = getattr(explain, key)
        if isinstance(names, list) and len(set(names)) < len(names):
            problems.append(f"explain.{key}: names one twice")
    if explain.occlusion_stride > explain.occlusion_patch:
        problems.append(
            f"explain.occlusion_stride: {explain.occlusion_stride} is more than explain.occlusion_patch "
            f"({explain.occlusion_patch}), so that some pixels would never be covered"
        )
    return problems


def _augmented(params: Params) -> bool:
    """Whether any experiment would predict from other images than the cached ones."""
    own = [overrides.get("augment") or {} for overrides in params.experiments.values()]
    changed = [merged(params.augment.model_dump(), part) for part in own if isinstance(part, dict)]
    return any(set(changing(part)) - set(NOT_IN_COPIES) for part in changed)


def _experiments_problems(params: Params) -> list[str]:
    in_base = _contradictions(params, params)
    problems: dict[str, None] = {f"{key}: {problem}": None for key, problem in in_base.items()}
    for name in params.experiments:
        prefix = f"experiments.{name}."
        if not EXPERIMENT_NAME.fullmatch(name):
            problems[
                f"experiments.{name}: a name is up to 64 lower-case letters, digits, - and _, "
                "and begins with a letter or digit; it becomes a folder and part of a command"
            ] = None
            continue
        try:
            experiment = params.experiment(name)
        except ValidationError as error:
            problems.update(dict.fromkeys(messages.problems(error, Experiment, prefix)))
            continue
        for key, problem in _contradictions(experiment, params).items():
            problems[f"{'' if key in in_base else prefix}{key}: {problem}"] = None
    return list(problems)


def _search_problems(params: Params) -> list[str]:
    """What a search would run into only after it has begun; nothing where there is no space."""
    search = params.search
    if not search.space:
        return []
    if search.experiment not in params.experiments:
        return [f"search.experiment: {search.experiment!r} is not one of the experiments"]
    keys = [problem for key in search.space if (problem := _key_problem(key))]
    return keys + condition_problems(search.space) or _corner_problems(params)


def _key_problem(dotted: str) -> str | None:
    """Why this key of a space is no setting that can be varied."""
    where = f"search.space.{dotted}"
    if dotted in JUDGES:
        return f"{where}: trials that are judged differently cannot be compared"
    section: Any = Experiment
    parents: list[str] = []
    for key in dotted.split("."):
        fields = getattr(section, "model_fields", {})
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.7)
            known = f"did you mean {'.'.join([*parents, *near])}?" if near else f"there is {', '.join(fields)}"
            return f"{where}: unknown key; {known}" if fields else f"{where}: {'.'.join(parents)} is a single value"
        section, parents = fields[key].annotation, [*parents, key]
    return f"{where}: is a whole section; name one of {', '.join(section.model_fields)}" if _section(section) else None


def _section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _corner_problems(params: Params) -> list[str]:
    """Wrong types and contradictions of every choice with every other, each under its key and once."""
    problems: dict[str, None] = {}
    for values in corners(params.search.space):
        try:
            experiment = params.experiment(params.search.experiment, values)
        except ValidationError as error:
            problems.update(dict.fromkeys(messages.problems(error, Experiment, "search.space.")))
            continue
        given = ", ".join(f"{key}: {value}" for key, value in values.items())
        for key, problem in _contradictions(experiment, params).items():
            if not any(known.startswith(f"search.space: {key}: {problem}") for known in problems):
                problems[f"search.space: {key}: {problem} (with {given})"] = None
    return list(problems)


def _contradictions(experiment: Experiment, params: Params) -> dict[str, str]:
    """What no single field can know: dotted key -> problem."""
    model, train = experiment.model, experiment.train
    found = of_train.contradictions(model, experiment.augment, experiment.loss, train, params.data.classes)
    if model.pixels > params.images.pixels:
        found["model.pixels"] = (
            f"{model.pixels} is more than images.pixels ({params.images.pixels}): raise images.pixels"
        )
    found |= of_model.contradictions(model)
    if model.freeze.cache and (problem := _not_exact(experiment)):
        found["model.freeze.cache"] = problem
    if params.split.valid == 0 and train.select_on == "valid":
        found["train.select_on"] = (
            "there is no validation side to select on (split.valid is 0): set split.valid to a fraction such as 0.15, "
            "or train.select_on to test, the published mode"
        )
    return found


def _not_exact(experiment: Experiment) -> str | None:
    """Why the frozen part's output cannot be computed once and for all."""
    if problem := of_model.uncacheable(experiment.model.freeze):
        return problem
    moving = [f"augment.{name}" for name in changing(experiment.augment.model_dump())]
    if moving:
        return (
            f"{' and '.join(moving)} shows the frozen part another image in every epoch, so its output cannot be "
            "computed once: switch that off, or set this to false"
        )
    return None
