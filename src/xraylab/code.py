"""Fingerprints of the code that can change a stage's result: a file per stage, on which it depends in dvc.yaml.

The stage `code` writes them: in this repository whenever `src/` changed; in a study outside it, where the code is the
installed package, at its beginning and by `dvc repro --force code`.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from xraylab import files, plugins, template
from xraylab.errors import DataError

# those that decode images and compute with them
LIBRARIES = (
    "fastai", "imagehash", "numpy", "opencv-python-headless", "pandas", "pillow", "pydicom", "pylibjpeg",
    "pylibjpeg-openjpeg", "python-gdcm", "safetensors", "scikit-learn", "scipy", "timm", "torch", "torchvision",
)  # fmt: skip
PLUGIN = "plugin"
LOADERS = {
    "architecture": "xraylab/model/backbones.py",
    "callback": "xraylab/train/learner.py",
    "layout": "xraylab/data/layouts/__init__.py",
    "loss": "xraylab/model/losses.py",
    "sampler": "xraylab/data/sampling.py",
}
"""Kind of plugin -> the module that loads it: the stages that run this module depend on the plugin's source."""
VERSIONS = "constraints.txt"  # how the shipped dvc.yaml names the versions of libraries
CARRIERS = {f"xraylab.{name}" for name in ("errors", "files", "paths", "progress", "tables")}
"""Modules that carry values and compute none: a change in them alone is no reason to run a stage again."""
RESOLVER = "configure"
"""The stage that resolves experiments: a change in `params/` reaches the others through the configs that it writes."""


def write(folder: Path, libraries: bool) -> None:
    """Write <stage>.txt for every stage that depends on one; with `libraries`, their versions too."""
    with files.replacing_folder(folder) as temporary:
        for name, stage in template.stages().items():
            if f"code/{name}.txt" in stage.get("deps", []):
                files.write_text(fingerprint(name, libraries and VERSIONS in stage["deps"]), temporary / f"{name}.txt")


def fingerprint(stage: str, libraries: bool) -> str:
    """One line per file that the stage runs or reads, with its SHA-256, one per library, and one per plugin."""
    names = [path.relative_to(template.PACKAGE.parent).as_posix() for path in modules(stage)]
    lines = [_line(name) for name in [*names, *(LIBRARIES if libraries else ())]]
    return "".join(f"{line}\n" for line in [*lines, *_plugins(names)])


def _plugins(names: list[str]) -> list[str]:
    """Version and source hash of the plugins that these modules may load."""
    kinds = [kind for kind, name in LOADERS.items() if name in names]
    return [
        f"{PLUGIN} {name} {version}"
        for name, version in plugins.fingerprints(
            plugin for plugin in plugins.installed() if plugin.kind in kinds
        ).items()
    ]


def check(stage: str, folder: Path, in_repository: bool = False) -> None:
    """Stop where a plugin, or without `in_repository` the package, is not that of the fingerprint. Errors: DataError.

    A module that joined the imports since shows in the module that imports it.
    """
    path = folder / f"{stage}.txt"
    with files.parsing(path):
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if damaged := [line for line in lines if "\0" in line or not line.strip()]:
        raise DataError(f"code/{path.name} is damaged ({damaged[0]!r}): `dvc checkout --force code` brings it back")
    recorded = [line for line in lines if line.startswith(f"{PLUGIN} ")]
    files_and_libraries = [line for line in lines if line not in recorded]
    differing = (
        [] if in_repository else [name for line in files_and_libraries if _line(name := line.split()[0]) != line]
    )
    if lines:
        current = _plugins([line.split()[0] for line in files_and_libraries])
        differing += [" ".join(line.split()[:2]) for line in sorted({*recorded} ^ {*current})]
    if differing:
        raise DataError(
            f"code/{path.name} is the fingerprint of another version ({differing[0]} differs): run "
            "`dvc repro --force code`, then `dvc repro`, which runs again what the difference can change"
        )


def is_carrier(module: str, stage: str) -> bool:
    """Return whether a change in the module alone is no reason to run the stage again."""
    return module in CARRIERS or (module.startswith("xraylab.params.") and stage != RESOLVER)


def _line(name: str) -> str:
    if "/" not in name:
        try:
            return f"{name} {metadata.version(name)}"
        except (metadata.PackageNotFoundError, ValueError):
            return f"{name} absent"
    path = template.PACKAGE.parent / name
    return f"{name} {files.sha256(path) if path.is_file() else 'absent'}"


def modules(stage: str) -> list[Path]:
    """The files of the stage's import closure, and what lies beside them that is no code, such as templates."""
    waiting, closure = [f"xraylab.stages.{stage}"], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in closure and not is_carrier(name, stage):
            closure.add(name)
            waiting += imports(_file(name) or template.PACKAGE)
    code = {path for name in closure if (path := _file(name))}
    folders = {path.parent for path in code} - {template.PACKAGE}
    return sorted(code | {path for folder in folders for path in _data(folder)})


@cache
def imports(file: Path) -> tuple[str, ...]:
    """The modules of xraylab that a file imports anywhere in it."""
    return tuple(dict.fromkeys(_imports(ast.parse(file.read_bytes()))))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _file(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield from [name] if _file(name) else [node.module] if _file(node.module) else []


def _file(module: str) -> Path | None:
    """The file of a module of xraylab; None for other modules."""
    top, *parts = module.split(".")
    base = template.PACKAGE.joinpath(*parts)
    candidates = (base.with_suffix(".py"), base / "__init__.py") if parts and top == "xraylab" else ()
    return next((path for path in candidates if path.is_file()), None)


def _data(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts:
            yield path
