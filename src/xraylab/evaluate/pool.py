"""With folds, each repeat tests another part of the images: their test predictions taken together.

Repeats 0 to folds - 1 are one round, in which every image is tested once; the next `folds` repeats are the next round.
A pooled AUROC compares probabilities of different networks, so it can be lower than the mean over the folds. Where each
fold tests a source of its own it would say little, since each network puts its threshold elsewhere: there every figure
is the mean over sources.
"""

from typing import Any

from xraylab.evaluate import compare, figures
from xraylab.evaluate.compare import Result
from xraylab.evaluate.units import Sample, joined

Tested = dict[tuple[str, int], dict[str, Sample]]
"""(experiment, repeat) -> checkpoint -> the test images of its fold."""


def results(tested: Tested, folds: int, positive: int | None) -> list[Result]:
    """The figures of each experiment, round and checkpoint, over the folds that its repeats tested.

    Their mean over rounds is `compare.means` of them.
    """
    rows = []
    for experiment in dict.fromkeys(name for name, _ in tested):
        repeats = sorted(repeat for name, repeat in tested if name == experiment)
        for number, members in rounds(repeats, folds).items():
            runs = [tested[experiment, repeat] for repeat in members]
            known = {"experiment": experiment, "round": number, "folds": [repeat % folds for repeat in members]}
            rows += [
                {**known, "checkpoint": checkpoint, "side": "test", **_figures(runs, checkpoint, positive)}
                for checkpoint in runs[0]
            ]
    return rows


def rounds(repeats: list[int], folds: int) -> dict[int, list[int]]:
    """Round (repeat // folds) -> its repeats, both ascending."""
    found: dict[int, list[int]] = {}
    for repeat in sorted(repeats):
        found.setdefault(repeat // folds, []).append(repeat)
    return found


def _figures(runs: list[dict[str, Sample]], checkpoint: str, positive: int | None) -> dict[str, Any]:
    whole = joined([run[checkpoint] for run in runs])
    pooled = figures.figures(whole.actual, whole.probabilities, positive)
    parts = [figures.figures(part.actual, part.probabilities, positive) for part in whole.parts]
    return pooled | {name: compare.mean([part[name] for part in parts]) for name in compare.AVERAGED if parts}
