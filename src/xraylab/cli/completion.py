"""Names that the shell completes: experiments of params.yaml and trained runs of the study in the current folder.

A shell asks at every press of Tab: only what is light is imported, and where there is no study, or a broken one,
nothing is offered.
"""

from pathlib import Path
from typing import Any


def experiments(incomplete: str) -> list[str]:
    """Names under `experiments` in params.yaml."""
    names = _params().get("experiments")
    return [name for name in names if name.startswith(incomplete)] if isinstance(names, dict) else []


def runs(incomplete: str) -> list[str]:
    """Experiments, and their trained runs as experiment/repeat."""
    trained = [f"{path.parent.name}/{path.name}" for path in Path("models").glob("*/*") if path.name.isdecimal()]
    return experiments(incomplete) + sorted(name for name in trained if name.startswith(incomplete))


def _params() -> dict[str, Any]:
    from xraylab import files
    from xraylab.errors import XraylabError

    try:
        tree = files.read_yaml(Path("params.yaml"))
    except (XraylabError, OSError):
        return {}
    return tree if isinstance(tree, dict) else {}
