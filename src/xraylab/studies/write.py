"""A study's files: params.yaml with a preset's values, and dvc.yaml for a folder without our source code."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from xraylab import code, files, template
from xraylab.errors import ParamsError
from xraylab.params import config
from xraylab.studies import watch
from xraylab.studies.presets import Preset, leaves

COLUMN = 30  # where the shipped file's comments stand
WHOLE = ("experiments",)  # replaced as a whole, not value by value
CODE = "src/xraylab"  # the code in a checkout of this repository
Tree = dict[str, Any]


def params_text(preset: Preset | None, published: bool, values: Tree) -> str:
    """The shipped params.yaml with its comments, a preset's values, each marked `published` or `ours`, and `values`.

    `values` are by dotted key.
    """
    tree = _yaml().load(template.file("params.yaml"))
    if preset is not None:
        tree["study"]["preset"] = preset.name
        _lay_over(tree, preset, published)
    return _params_text(_with(tree, values))


def updated_text(path: Path, values: Tree) -> str:
    """The params.yaml at `path` with its comments, and `values` by dotted key. Errors: ParamsError."""
    tree = files.read_yaml(path, _yaml())
    if not isinstance(tree, CommentedMap):
        raise ParamsError(f"{path.name} holds no sections")
    return _params_text(_with(tree, values))


def _params_text(tree: Tree) -> str:
    """As DVC writes it: where `dvc exp run -S` then sets a value, no other line changes."""
    return _text(_without_comments_in_lists(tree), _yaml())


def _without_comments_in_lists(tree: Tree) -> Tree:
    """DVC puts a new list in each list's place, and loses the comment or blank line that follows its last item."""
    for key, value in tree.items():
        if isinstance(value, CommentedMap):
            _without_comments_in_lists(value)
        elif isinstance(value, list):
            tree[key] = _plain(value)
    return tree


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _with(tree: CommentedMap, values: Tree) -> CommentedMap:
    for dotted, value in values.items():
        *parents, key = dotted.split(".")
        node = tree
        for parent in parents:
            node = node.get(parent)
            if not isinstance(node, dict):
                raise ParamsError(f"params.yaml has no section {parent}, where {dotted} belongs")
        node[key] = value
    return tree


def dvc_text() -> str:
    """The shipped dvc.yaml, where code is the installed package, which DVC cannot see."""
    yaml = watch.yaml()
    tree = yaml.load(template.file("dvc.yaml"))
    for stage in tree["stages"].values():
        stage["cmd"] = stage["cmd"].replace("python src ", "xraylab ", 1)
        stage["deps"] = [dep for dep in stage["deps"] if dep not in (CODE, code.VERSIONS)]
    del tree["stages"]["code"]["deps"]
    tree.yaml_set_start_comment(
        "The study as stages, run by the installed xraylab. code/<stage>.txt says what of it and of its libraries can\n"
        "change the stage's result; after an update, `dvc repro --force code` makes it anew. Everything is cached by\n"
        "DVC, so that finished work can be restored elsewhere."
    )
    return _text(tree, yaml)


def _lay_over(tree: CommentedMap, preset: Preset, published: bool) -> None:
    values = preset.values(published)
    for section in WHOLE:
        if section in values:
            tree[section] = values.pop(section)
    for dotted, value in leaves(values):
        *parents, key = dotted.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[key] = value
        _mark(node, key, preset.origin(dotted, value))


def _mark(node: CommentedMap, key: str, origin: str) -> None:
    """Say before the key's own comment where its value comes from."""
    tokens = node.ca.items.get(key)
    old = tokens[2].value.strip().lstrip("# ") if tokens and tokens[2] else ""
    if not isinstance(node[key], dict | list):
        node.yaml_add_eol_comment(f"{origin}{'; ' if old else ''}{old}", key, column=COLUMN)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.default_flow_style = False
    return yaml


def _text(tree: Any, yaml: YAML) -> str:
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def study(folder: Path, preset: Preset | None, published: bool, values: Tree) -> None:
    """A new folder with all that a study needs but its data; `values` are by dotted key of params.yaml."""
    with files.replacing_folder(folder) as temporary:
        for name in template.FILES:
            files.write_text(template.file(name).read_text(encoding="utf-8"), temporary / name)
        files.write_text(params_text(preset, published, values), temporary / "params.yaml")
        files.write_text(dvc_text(), temporary / "dvc.yaml")
        for name in ("data", "reports", "reports/external", "reports/search"):
            files.write_text("", temporary / name / ".gitkeep")
        watch.write(config.read(temporary / "params.yaml"), temporary)
