"""dvc.lock: what DVC has recorded of the last run of each stage, read also while DVC writes it.

DVC writes it in place, so that a reader may see half of it.
"""

import io
import re
import time
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from xraylab import documents
from xraylab.errors import DataError
from xraylab.pipeline import Tree

PAUSE = 0.25  # seconds between two looks
TRIES = 20
SCHEMA = "2.0"
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def entries(path: Path) -> dict[str, Tree]:
    """The entry of each stage; none where there is no file. Errors: DataError where it cannot be read, also later."""
    reason = ""
    for _ in range(TRIES):
        try:
            return parse(content(path))
        except (YAMLError, ValueError) as error:
            reason = "it is no whole YAML" if isinstance(error, YAMLError) else str(error)
            time.sleep(PAUSE)
    raise DataError(
        f"{path.name} cannot be read ({reason}): bring it back by `git checkout {path.name}`, or remove it, and "
        "`dvc repro` runs every stage again"
    )


def content(path: Path) -> bytes | None:
    """The file as it stands; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def parse(text: bytes | None) -> dict[str, Tree]:
    """The entries in the text of a dvc.lock. Errors: ValueError, YAMLError where it is torn or none."""
    if text is None:
        return {}
    tree: Any = documents.load_yaml(io.StringIO(text.decode()))
    if not isinstance(tree, dict):
        raise ValueError("it holds no entries of stages")
    if tree.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {tree.get('schema')!r}, and not {SCHEMA!r}")
    stages = tree.get("stages", {} if "datasets" in tree else None)  # DVC notes data sets before any stage has run
    if not isinstance(stages, dict):
        raise ValueError("it holds no entries of stages")
    for name, entry in stages.items():
        if not _is_entry(entry):
            raise ValueError(f"the entry of {name} is not as DVC writes it")
    return stages


def _is_entry(entry: Any) -> bool:
    """Return whether it has lists of files, and values of parameters by file."""
    if not isinstance(entry, dict):
        return False
    params, lists = entry.get("params") or {}, [entry.get(kind) or [] for kind in ("deps", "outs")]
    return (
        isinstance(params, dict)
        and all(isinstance(values, dict | None) for values in params.values())
        and all(isinstance(each, list) and all(map(_is_file, each)) for each in lists)
    )


def _is_file(each: Any) -> bool:
    if not isinstance(each, dict) or not isinstance(each.get("path"), str) or not isinstance(each.get("size", 0), int):
        return False
    return "md5" not in each or MD5.fullmatch(str(each["md5"])) is not None
