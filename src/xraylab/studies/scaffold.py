"""Beginning a study: in a new folder, or in this repository."""

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from xraylab import files, template
from xraylab.data import sources
from xraylab.data.layouts import multi_source
from xraylab.data.layouts.annotations import COLUMNS
from xraylab.data.layouts.records import ALL_TABLES, TableConfig
from xraylab.errors import DataError, MissingError, ParamsError
from xraylab.params import config
from xraylab.params.config import merge
from xraylab.params.search import unflatten
from xraylab.studies import detect, detect_several, presets, recipes, watch, write
from xraylab.studies.detect import Detected
from xraylab.studies.presets import leaves
from xraylab.task import SINGLE_LABEL, is_multi

SHIPPED_TITLE = "Tuberculosis on chest radiographs"
SHIPPED_STRATEGY = "sorted-id"  # means something where numbers in names do
Data = str | Sequence[str] | None
"""One source, several, or none."""
OWN_SPLIT = {"split.strategy": "random"}


def new(
    folder: Path,
    study: str | None,
    data: Data,
    published: bool,
    columns: Sequence[str] = (),
    recipe: str | None = None,
) -> list[str]:
    """Make `folder`, and say what comes next. Errors: DataError where there is something, ParamsError without study.

    `data` (one source, or several) that is a folder on this machine is looked at first, and params.yaml written to fit
    it; with a `study` its own values stay. `columns` are WHAT=NAME, for data.columns; a `recipe` is laid over all that,
    and not over a study: its experiments are compared with `baseline` alone.
    """
    if recipe and study:
        raise ParamsError(f"--recipe {recipe} is for images of your own: leave --study {study} out, or --recipe")
    laid_over = recipes.find(recipe) if recipe else None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not empty: name a new folder")
    preset = presets.read(study) if study else None
    renamed, data = _columns(columns), _as_list(data)
    _refuse_several(data, study, columns)
    places = [_source(each, Path.cwd()) for each in data]
    detected: Detected | None = None
    unseen: list[str] = []
    if len(data) > 1:
        detected, unseen = _detect_several(_addresses(data), Path.cwd(), None)
    elif places and places[0] and not preset:
        detected = _detect(places[0], TableConfig.of(None, renamed))
    values: dict[str, Any] = {"data.source": _as_source(data)} if data else {}
    values |= {"data.columns": renamed} if renamed else {}
    values |= {**OWN_SPLIT, **detected.values} if detected else {}
    left_out: list[str] = []
    if laid_over:
        recipe_values, left_out = laid_over.values(_new_tree(values))
        values |= recipe_values
    write.study(folder, preset, published, values)
    _initialise_git(folder)
    missing = []
    if preset and not data:
        missing = [f"set data.source in params.yaml (the study's own: {preset.data['where']})"]
    if data and list(data) != ["demo"] and not preset and (unseen or not detected):
        missing = ["dvc repro fetch", "xraylab init"]
    steps = [f"cd {folder}", *missing, "git add --all && git commit -m 'A new study'", "dvc repro"]
    lines = [*detected.lines] if detected else []
    lines += ["params.yaml says so:", *_value_lines(values), *left_out] if detected or recipe else []
    return [*lines, f"{folder} is a study. Next:", *(f"    {step}" for step in steps)]


def init(root: Path, data: Data, columns: Sequence[str] = (), recipe: str | None = None) -> list[str]:
    """Fit the params.yaml of `root` to its images: those of `data`, else of data.source, else what was fetched.

    Errors: MissingError without params.yaml, DataError where there is no folder to look at or its images do not fit.
    """
    path = root / "params.yaml"
    if not path.is_file():
        raise MissingError(f"no params.yaml in {root}: run this command in the top folder of a study")
    tree = files.read_yaml(path)
    before = _values(tree)
    name = _as_source(_as_list(data)) if data else before["data.source"]
    if name == "demo":
        raise DataError("data.source is demo, which params.yaml fits already: name your own images with --data FOLDER")
    renamed = {**(tree["data"].get("columns") or {}), **_columns(columns)}
    tables = TableConfig.of(tree["data"].get("table"), renamed)
    if isinstance(name, list):
        _refuse_several([each["path"] for each in name], None, columns)
        detected = _look_at_each({each["name"]: each["path"] for each in name}, root)
    else:
        detected = _look_at(name, root, tables)
    values = {"data.source": name, **detected.values}
    values |= {"data.columns": renamed} if columns else {}
    if before["split.strategy"] == SHIPPED_STRATEGY:
        values = OWN_SPLIT | values
    values = _of_task(before, values)
    if before["study.title"] != SHIPPED_TITLE:
        del values["study.title"]
    left_out: list[str] = []
    if recipe:
        recipe_values, left_out = recipes.find(recipe).values(merge(tree, unflatten(values)))
        values |= recipe_values
    return [*detected.lines, *_update(path, values), *left_out]


def _values(tree: Any) -> dict[str, Any]:
    """The values of a params.yaml by dotted key. Errors: ParamsError where it lacks one that decides what to do."""
    if not isinstance(tree, dict):
        raise ParamsError("params.yaml holds no sections")
    values = dict(leaves(tree))
    for key in ("data.source", "data.task", "split.strategy", "study.title", "train.monitor"):
        if not isinstance(values.get(key), (str, list) if key == "data.source" else str):
            raise ParamsError(f"params.yaml has no {key}: `git checkout params.yaml` brings it back")
    return values


def _of_task(before: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`values` with what one class per image takes after several findings; a loss that fits the task stays."""
    if not is_multi(before["data.task"]):
        return values
    if "data.task" in values:
        return {key: value for key, value in values.items() if key not in ("loss.name", "train.monitor")}
    monitor = before["train.monitor"].replace("auroc", "f1").replace("auprc", "f1")
    loss = {"loss.name": "cross_entropy", "loss.pos_weight": "none", "loss.uncertain": None}
    return {**values, "data.task": SINGLE_LABEL, "train.monitor": monitor, **loss}


def use(root: Path, study: str, data: str | None, published: bool, force: bool) -> list[str]:
    """Make params.yaml that of a study, or lay the recipe of that name over it.

    Errors: DataError where another study's was edited and `force` is not given, ParamsError where there is none.
    """
    path = root / "params.yaml"
    preset = None if study in recipes.RECIPES else presets.read(study)
    if not path.is_file():
        raise MissingError(f"no params.yaml in {root}: run this command in the top folder of a study")
    if preset is None:
        _refuse_options(study, data, published, force)
        tree = files.read_yaml(path)
        _values(tree)
        values, left_out = recipes.find(study).values(tree)
        return [*_update(path, values), *left_out]
    if not force and _has_edits(path):
        raise DataError(f"{path} has changes that git does not know: commit them, or overwrite them with --force")
    _source(data, Path.cwd())
    values = {"data.source": _absolute(data)} if data else {}
    files.write_text(write.params_text(preset, published, values), path)
    if (root / "dvc.yaml").is_file():
        watch.write(config.read(path), root)
    return [
        f"params.yaml is the study {study} now; `dvc repro` runs it, `git checkout params.yaml dvc.yaml` takes it back"
    ]


def _refuse_options(recipe: str, data: str | None, published: bool, force: bool) -> None:
    """Errors: ParamsError for options of studies, which replace what is there."""
    options = {"--data": data, "--published": published, "--force": force}
    if used := " and ".join(option for option, value in options.items() if value):
        raise ParamsError(
            f"{recipe} is a recipe, laid over the params.yaml that is there: leave {used} out "
            f"(`xraylab init --data FOLDER --recipe {recipe}` fits it to other images first)"
        )


def _update(path: Path, values: dict[str, Any]) -> list[str]:
    """Write values, by dotted key, that params.yaml does not say already, and say which. Errors: ParamsError."""
    tree = files.read_yaml(path)
    before = dict(leaves(tree))
    changed = {key: value for key, value in values.items() if _now(tree, before, key) != value}
    with files.replacing(path) as temporary:
        temporary.write_text(write.updated_text(path, changed), encoding="utf-8")
        params = config.validate(files.read_yaml(temporary), path.name)
    if (path.parent / "dvc.yaml").is_file():
        watch.write(params, path.parent)
    return ["params.yaml says now:", *_value_lines(changed)] if changed else ["params.yaml says so already"]


def _new_tree(values: dict[str, Any]) -> dict[str, Any]:
    """The shipped params.yaml with one experiment, and `values` by dotted key."""
    shipped = {**files.read_yaml(template.file("params.yaml")), "experiments": {"baseline": {}}}
    return merge(shipped, unflatten(values))


def _columns(written: Sequence[str]) -> dict[str, str]:
    """What -> the column's name, of WHAT=NAME. Errors: DataError."""
    renamed = {}
    for text in written:
        kind, equals, name = text.partition("=")
        if kind not in COLUMNS or not equals or not name:
            raise DataError(f"--column {text!r}: write WHAT=NAME, WHAT being one of {', '.join(COLUMNS)}")
        renamed[kind] = name
    return renamed


def _as_list(data: Data) -> list[str]:
    return [data] if isinstance(data, str) else list(data or ())


def _refuse_several(data: Sequence[str], study: str | None, columns: Sequence[str]) -> None:
    """Errors: DataError for options that speak of one source where there are several."""
    if len(data) > 1 and study:
        raise DataError(f"--data: the study {study} has one source: begin it with one, and write data.source as a list")
    if len(data) > 1 and columns:
        raise DataError(
            "--column: with several sources, write columns below each source in data.source that needs them"
        )


def _addresses(data: Sequence[str]) -> dict[str, str]:
    """Name -> path or address of several sources."""
    return dict(zip(multi_source.source_names(data), map(_absolute, data), strict=True))


def _as_source(data: Sequence[str]) -> str | list[dict[str, str]]:
    """As data.source has it."""
    if len(data) == 1:
        return _absolute(data[0])
    return [{"name": name, "path": path} for name, path in _addresses(data).items()]


def _detect_several(addresses: dict[str, str], home: Path, fetched: Path | None) -> tuple[Detected | None, list[str]]:
    """What the sources hold, or what was fetched of them; and the names of those that cannot be seen before that."""
    folders = {}
    with ExitStack() as stack:
        for name, path in addresses.items():
            source = _source(path, home)
            seen = stack.enter_context(sources.previewed(source, detect.UNPACKED)) if source else None
            folder = seen or (fetched / name if fetched else None)
            if folder and folder.is_dir():
                folders[name] = folder
        unseen = [name for name in addresses if name not in folders]
        return detect_several.folders(folders, addresses) if folders else None, unseen


def _look_at_each(addresses: dict[str, str], root: Path) -> Detected:
    detected, unseen = _detect_several(addresses, root, root / "data/raw")
    if detected is None or unseen:
        raise DataError(
            "data.source lists what is no folder of this machine: bring it here with `dvc repro fetch` first:",
            [f"{name}: {addresses[name]}" for name in unseen],
        )
    return detected


def _source(data: str | None, home: Path) -> Path | None:
    """The path that `data` names, None for an address or the demo. Errors: DataError where nothing is there."""
    if data in (None, "demo"):
        return None
    location = sources.locate(data, home, None)
    if isinstance(location, Path) and not location.exists():
        raise DataError(f"--data {data}: {location} is not there: name a folder, an archive, an address, or demo")
    return location if isinstance(location, Path) else None


def _detect(source: Path, tables: TableConfig = ALL_TABLES) -> Detected | None:
    with sources.previewed(source, detect.UNPACKED) as folder:
        return detect.folder(folder, str(source), tables) if folder else None


def _look_at(name: str, root: Path, tables: TableConfig) -> Detected:
    """What the source itself holds, or what was fetched from an archive or address."""
    source, fetched = _source(name, root), root / "data/raw"
    if source and (detected := _detect(source, tables)):
        return detected
    if fetched.is_dir():
        return detect.folder(fetched, str(fetched), tables)
    raise DataError(f"data.source {name} is no folder of this machine: bring it here with `dvc repro fetch` first")


def _now(tree: dict[str, Any], values: dict[str, Any], key: str) -> Any:
    """The value at a dotted key; what can be no value where there is none."""
    return tree.get(key) if key in tree else values.get(key, tree)


def _value_lines(values: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in values.items():
        if key == "data.source" and isinstance(value, list):
            lines += [f"    {key}:", *(f"      - {', '.join(f'{k}: {v}' for k, v in each.items())}" for each in value)]
        else:
            text = ", ".join(value) if key == "experiments" else value
            lines.append(f"    {key}: {'null' if text is None else text}")
    return lines


def _absolute(data: str) -> str:
    """A path as seen from here holds from elsewhere too; addresses stay as they are."""
    return str(Path(data).expanduser().resolve()) if Path(data).expanduser().exists() else data


def _has_edits(path: Path) -> bool:
    """Whether git does not have the file as it stands; without git, whether it is not the shipped one."""
    command = ["git", "status", "--porcelain", "--", path.name]
    result = subprocess.run(command, cwd=path.parent, capture_output=True, encoding="utf-8", check=False)  # noqa: S603 - no user's text
    if result.returncode == 0:
        return result.stdout != ""
    return path.read_bytes() != template.file("params.yaml").read_bytes()


def _initialise_git(folder: Path) -> None:
    """DVC compares with what git has; a folder that lies in a repository already belongs to that."""
    if shutil.which("git") is None:
        raise MissingError("git is not installed, and DVC needs it: install git, then run this again")
    inside = subprocess.run(["git", "rev-parse"], cwd=folder, capture_output=True, check=False)  # noqa: S607 - the user's own git
    if inside.returncode != 0:
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)  # noqa: S607 - the same
