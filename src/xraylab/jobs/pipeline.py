"""What dvc's graph of stages says about order: what comes before the experiments, and which stages are one experiment.

The instances of a matrix stage are those with an @ in their name, such as train@l2-0.
"""

import re
from graphlib import TopologicalSorter
from itertools import chain

Needs = dict[str, set[str]]
Job = tuple[str, ...]


def needs(dot: str) -> Needs:
    """What each stage directly depends on, in the order of dvc.yaml; from the output of `dvc dag --dot`."""
    found: Needs = {name: set() for name in re.findall(r'^"([^"]+)";?$', dot, re.MULTILINE)}
    for first, second in re.findall(r'^"([^"]+)" -> "([^"]+)";?$', dot, re.MULTILINE):
        found[second].add(first)
    return found


def jobs(graph: Needs) -> list[Job]:
    """The matrix stages in groups that need nothing of one another, each in the order in which it must run.

    A matrix stage that waits for a plain stage that waits for matrix stages is in none: it comes after all jobs.
    """
    above, groups = _above(graph), list[Job]()
    for name in above:
        if _matrix(name) and not any(_late(above, need) for need in above[name]):
            joined = [group for group in groups if graph[name] & set(group)]
            groups = [group for group in groups if group not in joined] + [(*chain(*joined), name)]
    order = list(graph)
    return sorted(groups, key=lambda job: order.index(job[0]))


def before(graph: Needs, found: list[Job]) -> list[str]:
    """The plain stages that must be up to date before any job starts."""
    above = _above(graph)
    wanted = {need for job in found for stage in job for need in above[stage]}
    return [name for name in graph if name in wanted and not _matrix(name)]


def _matrix(name: str) -> bool:
    return "@" in name


def _late(above: Needs, name: str) -> bool:
    """A plain stage that waits for a matrix stage."""
    return not _matrix(name) and any(_matrix(need) for need in above[name])


def _above(graph: Needs) -> Needs:
    """All that each stage depends on, directly or not; a stage comes after what it depends on."""
    above: Needs = {}
    for name in TopologicalSorter(graph).static_order():
        above[name] = graph[name].union(*(above[need] for need in graph[name]))
    return above
