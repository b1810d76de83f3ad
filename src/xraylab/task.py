"""The task of a study: one class per image, or several findings, each present or absent."""

SINGLE_LABEL, MULTI_LABEL = "single-label", "multi-label"


def is_multi(task: str) -> bool:
    return task == MULTI_LABEL
