"""code: fingerprint, for each stage, the modules that can change its result."""

from xraylab import code
from xraylab.params.config import Params
from xraylab.paths import Paths


def run(_: Params, paths: Paths) -> None:
    """Write code/<stage>.txt; outside the repository, which has constraints.txt, with the versions of libraries."""
    code.write(paths.code, libraries=not paths.has_code)
