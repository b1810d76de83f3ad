"""DVC's model registry: the entries under `artifacts` of a study's dvc.yaml."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xraylab import files
from xraylab.errors import DataError, MissingError
from xraylab.studies.watch import yaml

FILE = "dvc.yaml"


@dataclass(frozen=True)
class Artifact:
    """A model as DVC's `artifacts` describe it."""

    name: str
    path: str
    """Of the bundle, from the study's top folder; DVC tracks it."""
    desc: str
    labels: list[str]
    run: str
    """experiment/repeat."""

    def entry(self) -> dict[str, Any]:
        """Its keys in dvc.yaml."""
        return {
            "path": self.path,
            "type": "model",
            "desc": self.desc,
            "labels": self.labels,
            "meta": {"run": self.run},
        }


def write(root: Path, artifact: Artifact) -> None:
    """Add or replace an artifact in dvc.yaml; comments and all else stay as they are. Errors: MissingError."""
    path = root / FILE
    if not path.is_file():
        raise MissingError(f"no dvc.yaml in {root}: run this command in the top folder of a study")
    tree = files.read_yaml(path, yaml())
    entries = _entries(tree)
    if not entries:
        tree["artifacts"] = {}
        tree.yaml_set_comment_before_after_key("artifacts", before="\nmodels with versions: `xraylab registry list`")
    tree["artifacts"][artifact.name] = artifact.entry()
    stream = io.StringIO()
    yaml().dump(tree, stream)
    files.write_text(stream.getvalue(), path)


def names_of_run(root: Path, run: str) -> list[str]:
    """The artifacts of dvc.yaml that were made of experiment/repeat."""
    entries = _entries(files.read_yaml(root / FILE)) if (root / FILE).is_file() else {}
    return [name for name, entry in entries.items() if (entry.get("meta") or {}).get("run") == run]


def _entries(tree: Any) -> dict[str, dict[str, Any]]:
    """The artifacts of a dvc.yaml. Errors: DataError where they are not as DVC takes them."""
    entries = (tree.get("artifacts") or {}) if isinstance(tree, dict) else None
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("meta") or {}, dict) for entry in entries.values()
    ):
        raise DataError(f"{FILE}: artifacts are not as DVC takes them: `git checkout {FILE}` brings it back")
    return entries
