"""The channel between the caller and its jobs: a folder on the study's DVC remote, which both can reach."""

import json
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from xraylab.errors import XraylabError

NAME = "xraylab"  # of the folder on the remote, beside DVC's own `files`


class Channel:
    """Small files and uploads below one folder of a remote; names are relative, with slashes."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self.filesystem, self.root = filesystem, root

    @classmethod
    def open(cls, study: Path, folder: str) -> "Channel":
        """The channel of a study on its default remote, with DVC's own configuration and credentials.

        Errors: XraylabError where the remote cannot be used from here.
        """
        from dvc.config import Config, ConfigError  # type: ignore[import-untyped] # noqa: PLC0415 - slow to import
        from dvc.exceptions import DvcException  # type: ignore[import-untyped] # noqa: PLC0415
        from dvc.fs import get_cloud_fs  # type: ignore[import-untyped] # noqa: PLC0415

        try:
            config = Config(dvc_dir=str(study / ".dvc"))
            made, settings, root = get_cloud_fs(config, name=config["core"]["remote"])
            return cls(made(**settings), f"{root}/{NAME}/{folder}")
        except (ConfigError, DvcException, ImportError, KeyError) as error:
            raise XraylabError(f"DVC's remote cannot be used from {study}", [str(error)]) from None

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def upload(self, source: Path, name: str) -> None:
        self.filesystem.put_file(str(source), self.path(name))

    def download(self, name: str, target: Path) -> None:
        """Errors: FileNotFoundError."""
        self.filesystem.get_file(self.path(name), str(target))

    def write(self, text: str, name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "file")
            file.write_text(text, encoding="utf-8")
            self.upload(file, name)

    def read(self, name: str) -> str | None:
        """The text, or None where there is none (yet)."""
        with suppress(FileNotFoundError), tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "file")
            self.download(name, file)
            return file.read_text(encoding="utf-8")
        return None

    def read_json(self, name: str) -> Any:
        """The value, or None where there is none, or half of it as a remote without atomic uploads may show it."""
        with suppress(ValueError):
            return json.loads(self.read(name) or "null")
        return None

    def names(self, folder: str) -> list[str]:
        """The names of the files and folders in a folder; nothing where it does not exist."""
        path = self.path(folder)
        self.filesystem.fs.invalidate_cache()
        try:
            listed = self.filesystem.ls(path, detail=False)
        except FileNotFoundError:
            return []
        names = {str(each).rstrip("/").rpartition("/")[2] for each in listed if str(each).rstrip("/") != path}
        return sorted(names)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files or whole folders, as far as they are there."""
        for name in names:
            with suppress(FileNotFoundError):
                self.filesystem.rm(self.path(name), recursive=True)
