"""All checks, in the order in which they are shown."""

from collections.abc import Iterator
from pathlib import Path

from xraylab.doctor import devices, dvc_cache, repository, resources, study, versions
from xraylab.doctor.finding import Check, Finding, Subject

CHECKS: dict[str, Check] = {
    versions.NAME: versions.check,
    devices.NAME: devices.check,
    resources.SPACE: resources.check_space,
    resources.LIMITS: resources.check_limits,
    study.PARAMS: study.check_params,
    repository.FOLDERS: repository.check_folders,
    repository.GIT_AND_DVC: repository.check,
    study.STATES: study.check_states,
    study.LEFT: study.check_left,
}
DEEP: dict[str, Check] = {
    devices.NAME: devices.check_deep,
    study.STATES: study.check_states_deep,
    dvc_cache.NAME: dvc_cache.check,
}
"""Checks of `xraylab doctor --deep`, which read much and take minutes on large data; of one name, the deep one runs."""


def examine(folder: Path, deep: bool) -> Iterator[Finding]:
    """The findings of each check; one that fails itself is a finding too."""
    subject = Subject.at(folder)
    for name, check in (CHECKS | (DEEP if deep else {})).items():
        try:
            yield from check(subject)
        except Exception as error:
            yield Finding(name, "error", f"this check failed: {type(error).__name__}: {error}")
