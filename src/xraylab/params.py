"""params.yaml as one typed, frozen and strict tree. No value has a default here: DVC sees only the file."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
)

from xraylab import files, params_model, params_training
from xraylab.errors import ParamsError
from xraylab.params_model import Model
from xraylab.params_training import Augment, Loss, Sampling, Train
from xraylab.sections import Fraction, Section
from xraylab.sections import belongs as _belongs
from xraylab.space import JUDGES, Range, Search, Values, condition_problems, corners, nested

EXPERIMENT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
CLASS_NAME = re.compile(r"[\w][\w .()-]{0,63}")
AVERAGES = ("overall", "macro", "weighted")
OVERRIDABLE = ("model", "augment", "sampling", "loss", "train")


def _class_name(name: str) -> str:
    if not CLASS_NAME.fullmatch(name):
        raise ValueError("a class name is a folder name of letters, digits, spaces and _ . ( ) -")
    return name


def _source_name(name: str) -> str:
    if not SOURCE_NAME.fullmatch(name):
        raise ValueError("a source's name is up to 64 letters, digits, - and _, and becomes a folder below data/raw")
    return name


def pattern(text: str) -> str:
    """`text`, where it is a regular expression that finds a patient. Errors: ValueError."""
    try:
        groups = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if "patient" not in groups:
        raise ValueError("has no group (?P<patient>...)")
    return text


Rate = Annotated[float, Field(gt=0, lt=1)]
ClassName = Annotated[str, AfterValidator(_class_name)]
Pattern = Annotated[str, AfterValidator(pattern)]


class Study(Section):
    title: str
    preset: str | None
    baseline: str
    repeats: Annotated[list[NonNegativeInt], Field(min_length=1)]


class Demo(Section):
    healthy: PositiveInt
    tb: PositiveInt
    pixels: Annotated[int, Field(ge=32, le=1024)]
    seed: NonNegativeInt


Text = Annotated[str, Field(min_length=1)]
Column = Literal["file", "label", "patient", "study", "side", "source", "sex", "age", "view"]
Columns = dict[Column, str | None]
Labels = dict[str, Annotated[list[str], Field(min_length=1)]]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
LayoutName = Literal[
    "auto", "class-folders", "tbx11k", "covid-radiography", "covidx", "kermany", "acse4", "nih", "shenzhen", "table"
]


class Source(Section):
    """One of several sources; a key that it does not name is as in `data`, and `sha256` is none."""

    name: Annotated[str, AfterValidator(_source_name)]
    path: Text
    sha256: Sha256 | None = None
    layout: LayoutName = "auto"
    labels: Labels | None = None
    ignore: Literal["others"] | list[str] | None = None
    table: Text | list[str] | None = None
    columns: Columns | None = None
    patient: Pattern | None = None


def _kind_of_source(value: Any) -> str:
    return "list[source]" if isinstance(value, list) else "literal[address]"  # these stand in no dotted path


class Data(Section):
    source: Annotated[
        Annotated[Text, Tag("literal[address]")] | Annotated[list[Source], Field(min_length=1), Tag("list[source]")],
        Discriminator(_kind_of_source),
    ]
    sha256: Sha256 | None
    layout: LayoutName
    classes: Annotated[list[ClassName], Field(min_length=2)]
    labels: Labels | None
    positive: str | None
    table: Text | list[str] | None
    columns: Columns | None
    patient: Pattern | None
    keep_names: bool
    on_bad_image: Literal["fail", "skip"]
    demo: Demo

    @property
    def sources(self) -> dict[str, Source]:
        """Dotted path and name -> each source of a list, with all of its keys; none for a single address."""
        listed = [] if isinstance(self.source, str) else self.source
        return {
            f"data.source.{number} ({source.name})": source.model_copy(update=self._inherited(source))
            for number, source in enumerate(listed)
        }

    def _inherited(self, source: Source) -> dict[str, Any]:
        taken = ("layout", "labels", "table", "columns", "patient")
        return {key: getattr(self, key) for key in taken if key not in source.model_fields_set}

    @property
    def source_text(self) -> str:
        """The source, or the names of several with where they are, for people."""
        return self.source if isinstance(self.source, str) else ", ".join(f"{s.name} ({s.path})" for s in self.source)


class Split(Section):
    strategy: Literal["sorted-id", "random", "given", "hash", "folds", "leave-one-source-out"]
    files: Annotated[str, Field(min_length=1)] | None
    folds: Annotated[int, Field(ge=2)] | None
    test: Annotated[float, Field(gt=0, lt=1)] | None
    valid: Fraction | None
    seed: NonNegativeInt
    train_per_class: Literal["all", "smallest"] | PositiveInt
    on_leakage: Literal["resolve", "stop", "accept"]
    max_resolved: Fraction


class Images(Section):
    pixels: Annotated[int, Field(ge=16, le=2048)]
    fit: Literal["squash", "crop", "pad"]
    crop_border: bool
    crop_lungs: bool
    window: Annotated[list[Annotated[float, Field(ge=0, le=100)]], Field(min_length=2, max_length=2)] | None
    clahe: PositiveFloat | None
    pyramid_sharpening: NonNegativeFloat


Goal = Literal[
    "accuracy", "balanced_accuracy", "mcc", "kappa", "brier", "log_loss", "sensitivity", "specificity", "ppv", "npv",
    "fpr", "fnr", "f1", "auroc", "auprc", "train_test_gap", "epochs_to_highest_accuracy",
]  # fmt: skip


class Goals(Section):
    at_least: dict[Goal, float]
    at_most: dict[Goal, float]


class Evaluate(Section):
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    primary: Literal["auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1"]
    margin: Annotated[float, Field(ge=0, lt=1)]
    n_permutations: Annotated[int, Field(ge=10_000)]
    seed: NonNegativeInt
    normal: str | None
    prevalence: Rate | list[Rate] | None
    sensitivities: list[Rate]
    specificities: list[Rate]
    bins: Annotated[int, Field(ge=2, le=100)]
    age_bands: Annotated[list[PositiveInt], Field(min_length=1)]
    smallest_group: PositiveInt
    goals: Goals


class Explain(Section):
    experiments: Literal["top-two"] | list[str]
    images: PositiveInt
    methods: Annotated[list[Literal["grad-cam", "occlusion"]], Field(min_length=1)]
    occlusion_patch: Annotated[float, Field(gt=0, le=1)]
    occlusion_stride: Annotated[float, Field(gt=0, le=1)]
    masked_images: Annotated[int, Field(ge=2)]
    feature_maps: PositiveInt
    centre: Annotated[float, Field(gt=0, lt=1)]
    nearly: Annotated[float, Field(gt=0, le=1)]


class Report(Section):
    hide_names: bool


class Experiment(Section):
    """The sections that an experiment may override, resolved."""

    model: Model
    augment: Augment
    sampling: Sampling
    loss: Loss
    train: Train


class Predict(Section):
    tta: NonNegativeInt


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
        raise ParamsError(_headline(name or path.name), _problems(error)) from None
    problems = [*_study_problems(params), *_experiments_problems(params)] or _search_problems(params)
    if problems:
        raise ParamsError(_headline(name or path.name), problems)
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


def _headline(name: str) -> str:
    return f"{name} cannot be used:"


def _problems(error: ValidationError, prefix: str = "") -> list[str]:
    return list(dict.fromkeys(_sentence(problem, prefix) for problem in error.errors()))


def _sentence(problem: Any, prefix: str) -> str:
    keys = [part for part in problem["loc"] if not str(part).startswith(("literal[", "list[", "constrained-"))]
    where = prefix + ".".join(map(str, keys))
    match problem["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key{_suggestion(keys, prefix)}"
        case "missing":
            return f"{where}: missing; it has no default outside params.yaml"
        case "value_error":
            return f"{where}: {problem['ctx']['error']}, got {problem['input']!r}"
        case _:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            return f"{where}: {message}, got {problem['input']!r}"


def _suggestion(keys: list[Any], prefix: str) -> str:
    known = _known(keys[:-1], OVERRIDABLE if prefix else None)
    near = difflib.get_close_matches(str(keys[-1]), known, n=1)
    dotted = prefix + ".".join(map(str, [*keys[:-1], *near]))
    return f"; did you mean {dotted}?" if near else f"; there is {', '.join(known)}"


def _known(parents: list[Any], top: tuple[str, ...] | None) -> list[str]:
    if parents[:2] == ["search", "space"]:
        return list(Range.model_fields)
    if parents[:2] == ["data", "source"]:
        return list(Source.model_fields)
    section: Any = Params
    for key in parents:
        section = section.model_fields[key].annotation
    return list(top) if top and not parents else list(section.model_fields)


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
    problems += _label_problems(data)
    problems += _source_problems(data)
    problems += _split_problems(params.split)
    problems += _evaluate_problems(params.evaluate, data)
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
    return any(set(params_training.changing(part)) - set(params_training.NOT_IN_COPIES) for part in changed)


def _label_problems(data: Data) -> list[str]:
    if data.labels is None:
        return []
    problems = []
    if set(data.labels) != set(data.classes):
        problems.append(f"data.labels: needs the keys {', '.join(data.classes)}, has {', '.join(data.labels)}")
    listed = [label for labels in data.labels.values() for label in labels]
    problems += [f"data.labels: {label!r} is listed twice" for label in set(listed) if listed.count(label) > 1]
    return problems


def _source_problems(data: Data) -> list[str]:
    """What is wrong with the list of several sources."""
    if isinstance(data.source, str):
        return []
    problems, names = [], [source.name.lower() for source in data.source]
    if data.sha256:
        problems.append("data.sha256: of several sources each has its own, below its name: set it to null")
    for number, source in enumerate(data.source):
        where, labels = f"data.source.{number}", source.labels or {}
        if source.name.lower() in names[:number]:
            problems.append(f"{where}.name: {source.name} is the name of another source, in upper or lower case")
        problems += [
            f"{where}.labels: {name} is none of data.classes ({', '.join(data.classes)})"
            for name in labels
            if name not in data.classes
        ]
        listed = [label for several in labels.values() for label in several]
        listed += source.ignore if isinstance(source.ignore, list) else []
        problems += [f"{where}: {label!r} is listed twice" for label in sorted(set(listed)) if listed.count(label) > 1]
    return problems


def _evaluate_problems(evaluate: Evaluate, data: Data) -> list[str]:
    problems = []
    if evaluate.primary in ("sensitivity", "specificity") and data.positive is None:
        problems.append(
            f"evaluate.primary: with more than two classes the mean {evaluate.primary} is no figure of its own; "
            "set it to auroc, accuracy, balanced_accuracy or f1"
        )
    if evaluate.normal is not None and evaluate.normal not in data.classes:
        problems.append(f"evaluate.normal: must be one of {', '.join(data.classes)}, or null, got {evaluate.normal!r}")
    if evaluate.normal is not None and evaluate.normal == data.positive:
        problems.append("evaluate.normal: is data.positive, the class that is looked for; set it to null")
    if isinstance(evaluate.prevalence, float) and data.positive is None:
        problems.append("evaluate.prevalence: with more than two classes it needs a list, one per class in their order")
    if isinstance(evaluate.prevalence, list) and len(evaluate.prevalence) != len(data.classes):
        problems.append(
            f"evaluate.prevalence: {len(evaluate.prevalence)} shares for the classes {', '.join(data.classes)}"
        )
    elif isinstance(evaluate.prevalence, list) and abs(sum(evaluate.prevalence) - 1) > 1e-6:
        problems.append(f"evaluate.prevalence: must sum to 1, sums to {sum(evaluate.prevalence):g}")
    if evaluate.age_bands != sorted(set(evaluate.age_bands)):
        problems.append(f"evaluate.age_bands: must rise, got {evaluate.age_bands}")
    both = sorted(set(evaluate.goals.at_least) & set(evaluate.goals.at_most))
    problems += [f"evaluate.goals: {name} is in at_least and in at_most" for name in both]
    averages = [name for name in AVERAGES if name in data.classes]
    problems += [f"data.classes: {name} names figures of all classes; call the class otherwise" for name in averages]
    return problems


def _split_problems(split: Split) -> list[str]:
    problems = []
    draws_test = split.strategy in {"sorted-id", "random", "hash"}
    if draws_test != (split.test is not None):
        problems.append(
            f"split.test: split.strategy is {split.strategy}, which needs a fraction here"
            if draws_test
            else f"split.test: split.strategy {split.strategy} knows the test side; set it to null"
        )
    if (split.strategy == "folds") != (split.folds is not None):
        problems.append(f"split.folds: {_belongs('split.strategy', 'folds', split.folds)}")
    if split.files is not None and split.strategy != "given":
        problems.append(f"split.files: {_belongs('split.strategy', 'given', split.files)}")
    if split.valid is None and split.strategy != "given":
        problems.append("split.valid: null keeps the given validation side, which split.strategy given alone has")
    return problems


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
            problems.update(dict.fromkeys(_problems(error, prefix)))
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
            problems.update(dict.fromkeys(_problems(error, "search.space.")))
            continue
        given = ", ".join(f"{key}: {value}" for key, value in values.items())
        for key, problem in _contradictions(experiment, params).items():
            if not any(known.startswith(f"search.space: {key}: {problem}") for known in problems):
                problems[f"search.space: {key}: {problem} (with {given})"] = None
    return list(problems)


def _contradictions(experiment: Experiment, params: Params) -> dict[str, str]:
    """What no single field can know: dotted key -> problem."""
    model, train = experiment.model, experiment.train
    found = params_training.contradictions(model, experiment.augment, experiment.loss, train, params.data.classes)
    if model.pixels > params.images.pixels:
        found["model.pixels"] = (
            f"{model.pixels} is more than images.pixels ({params.images.pixels}): raise images.pixels"
        )
    found |= params_model.contradictions(model)
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
    if problem := params_model.uncacheable(experiment.model.freeze):
        return problem
    changing = [f"augment.{name}" for name in params_training.changing(experiment.augment.model_dump())]
    if changing:
        return (
            f"{' and '.join(changing)} shows the frozen part another image in every epoch, so its output cannot be "
            "computed once: switch that off, or set this to false"
        )
    return None
