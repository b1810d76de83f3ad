"""Plugins: architectures, losses, samplers, callbacks and layouts of other installed packages, by entry points.

An entry point of the group `xraylab.plugins` is called `<kind>.<name>` and leads to one object; docs/plugins.md says
what each kind is. Its name is known without importing the package, which is imported when the object is used.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from xraylab import files
from xraylab.errors import PluginError

GROUP = "xraylab.plugins"
KINDS = ("architecture", "callback", "layout", "loss", "sampler")
T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """One entry point of a distribution."""

    kind: str
    name: str
    distribution: str
    version: str
    entry_point: metadata.EntryPoint

    def load(self) -> Any:
        """Import the object. Errors: PluginError with what its import raised."""
        try:
            return self.entry_point.load()
        except Exception as error:  # a package may fail in any way
            raise PluginError(
                f"plugin {self.distribution} {self.version}: its {self.kind} {self.name} ({self.entry_point.value}) "
                f"cannot be loaded: {type(error).__name__}: {error}"
            ) from error


@cache
def installed() -> tuple[Plugin, ...]:
    """All plugins, by kind and name. Errors: PluginError for an unknown kind, and for a name that two of them take."""
    plugins: dict[tuple[str, str], Plugin] = {}
    for plugin in sorted(map(_plugin, metadata.entry_points(group=GROUP)), key=lambda each: each.distribution):
        key = (plugin.kind, plugin.name)
        if plugin.kind not in KINDS or not plugin.name:
            raise PluginError(
                f"plugin {plugin.distribution}: the entry point {plugin.entry_point.name!r} is called otherwise than "
                f"<kind>.<name>, where kind is {', '.join(KINDS)}"
            )
        if key in plugins and plugins[key].distribution != plugin.distribution:
            raise _name_conflict(
                plugin, f"{plugins[key].distribution} offers one of that name too: uninstall one of the two"
            )
        plugins[key] = plugin
    return tuple(plugins[key] for key in sorted(plugins))


def _plugin(entry_point: metadata.EntryPoint) -> Plugin:
    kind, _, name = entry_point.name.partition(".")
    distribution = entry_point.dist
    if distribution is None:
        raise PluginError(f"plugin {entry_point.name}: its entry point belongs to no installed distribution")
    return Plugin(kind, name, distribution.name, distribution.version, entry_point)


def _name_conflict(plugin: Plugin, owner: str) -> PluginError:
    return PluginError(f"plugin {plugin.distribution}: the name of its {plugin.kind} {plugin.name} is taken: {owner}")


def of_kind(kind: str, built_in: Iterable[str] = ()) -> dict[str, Plugin]:
    """The plugins of a kind by name. Errors: PluginError where one takes the name of a `built_in`."""
    plugins = {plugin.name: plugin for plugin in installed() if plugin.kind == kind}
    for name in built_in:
        if name in plugins:
            raise _name_conflict(plugins[name], "xraylab has one of that name: give the plugin's entry point another")
    return plugins


def find(kind: str, name: str, built_in: Mapping[str, T]) -> T:
    """The object of that name, built in or a plugin's. Errors: PluginError where there is none."""
    if name in built_in:
        return built_in[name]
    plugins = of_kind(kind, built_in)
    if name not in plugins:
        names = ", ".join([*built_in, *plugins])
        raise PluginError(f"no installed plugin offers the {kind} {name!r}; there is {names or 'none'}")
    loaded: T = plugins[name].load()
    return loaded


def everything(kind: str, built_in: Mapping[str, T]) -> dict[str, T]:
    """All objects of a kind: those of plugins by name, then the built-in ones."""
    return {name: plugin.load() for name, plugin in of_kind(kind, built_in).items()} | dict(built_in)


def create_callbacks(options: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """The callbacks that `train.callbacks` names, each made with its arguments. Errors: PluginError."""
    return [call("callback", name, find("callback", name, {}), **arguments) for name, arguments in options.items()]


def call(kind: str, name: str, function: Any, *arguments: Any, **options: Any) -> Any:
    """Call a plugin's function. Errors: PluginError where it does not take these arguments."""
    try:
        return function(*arguments, **options)
    except TypeError as error:
        raise PluginError(f"the {kind} {name} of a plugin: {error}") from error


def fingerprints(plugins: Iterable[Plugin]) -> dict[str, str]:
    """Distribution -> its version and the hash of its source."""
    versions = {plugin.distribution: plugin.version for plugin in plugins}
    return {name: f"{version} {source_hash(name)}" for name, version in versions.items()}


def source_hash(distribution: str) -> str:
    """SHA-256 over the files of the packages that a distribution's entry points lead into, also of an editable one."""
    tops = {each.entry_point.module.split(".")[0] for each in installed() if each.distribution == distribution}
    digest = hashlib.sha256()
    for name, path in (pair for top in sorted(tops) for pair in _sources(top)):
        digest.update(f"{name} {files.sha256(path)}\n".encode())
    return digest.hexdigest()


def _sources(top: str) -> Iterator[tuple[str, Path]]:
    """Name and path of the files of a top-level package or module; compiled copies are left out."""
    spec = find_spec(top)
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    if spec and not folders and spec.origin:
        yield top, Path(spec.origin)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{top}/{path.relative_to(folder).as_posix()}", path
