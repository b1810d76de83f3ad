"""The local files that params.yaml names, as dependencies of the stage `source`, so that DVC sees when they change."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from xraylab import files
from xraylab.data import sources
from xraylab.data.sources import local
from xraylab.errors import DataError, MissingError
from xraylab.params.config import Params

CODE = "code/source.txt"


def dependencies(params: Params, home: Path) -> list[str]:
    """What `source` has to depend on; nothing for the demo and for addresses, which DVC cannot look at for free."""
    return [*_of_source(params, home), *_of_lists(params, home)]


def missing(params: Params, root: Path, home: Path) -> list[str]:
    """Those of them that the dvc.yaml in `root` lacks."""
    present = _source(files.read_yaml(root / "dvc.yaml"))["deps"] if (root / "dvc.yaml").is_file() else None
    return [] if present is None else [path for path in dependencies(params, home) if path not in present]


def write(params: Params, root: Path) -> list[str]:
    """Make `source` in the dvc.yaml of `root` depend on these and on nothing else but the code; they are returned.

    Errors: MissingError without a dvc.yaml.
    """
    path, watched = root / "dvc.yaml", dependencies(params, root)
    if not path.is_file():
        raise MissingError(f"no dvc.yaml in {root}: run this command in the top folder of a study")
    tree = files.read_yaml(path, yaml())
    source = _source(tree)
    if source["deps"] != [CODE, *watched]:
        source["deps"] = [CODE, *watched]
        stream = io.StringIO()
        yaml().dump(tree, stream)
        files.write_text(stream.getvalue(), path)
    return watched


def yaml() -> YAML:
    """Reads and writes dvc.yaml in the style that it has."""
    yaml = YAML()
    yaml.width = 1000  # no line is broken
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _source(tree: Any) -> dict[str, Any]:
    """The stage. Errors: DataError where there is none with dependencies."""
    stages = tree.get("stages") if isinstance(tree, dict) else None
    stage = stages.get("source") if isinstance(stages, dict) else None
    if not isinstance(stage, dict) or not isinstance(stage.get("deps"), list):
        raise DataError("dvc.yaml has no stage source with a list of deps: `git checkout dvc.yaml` brings it back")
    return stage


def _of_source(params: Params, home: Path) -> Iterator[str]:
    """Every source, and where it is a table also the folder of its images, unless that holds the study itself."""
    data = params.data
    if isinstance(data.source, str):
        yield from _of_address("data.source", data.source, data.sha256, home)
        return
    for number, each in enumerate(data.source):
        yield from _of_address(f"data.source[{number}].path", each.path, each.sha256, home)


def _of_address(key: str, name: str, sha256: str | None, home: Path) -> Iterator[str]:
    """The local files that `key` of params.yaml names."""
    if name == "demo":
        return
    location = sources.locate(name, home, sha256)
    if isinstance(location, Path):
        yield _dependency(key, name, location)
        if local.is_table(location):
            images = os.path.commonpath([path.parent for path in local.table_files(location) if path != location])
            yield from [] if home.resolve().is_relative_to(images) else [images]


def _of_lists(params: Params, home: Path) -> Iterator[str]:
    name = params.split.files
    if name is not None:
        yield _dependency("split.files", name, home / Path(name).expanduser())


def _dependency(key: str, value: str, location: Path) -> str:
    """The key, for which DVC puts in the value, where DVC reads that as we do; else the path."""
    return str(location) if value.startswith("~") or "://" in value else f"${{{key}}}"
