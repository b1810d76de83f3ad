"""predict: class probabilities of the best and the last epoch, for every image that did not train the network."""

import pandas as pd

from xraylab import files, tables
from xraylab.errors import XraylabError
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.predict import ahead

SIDES = ("valid", "test")


def run(given: Params, paths: Paths, experiment: str, repeat: int) -> None:
    """Write predictions/<experiment>/<repeat>.csv, and predict for the runs whose stages are still to come."""
    target = paths.prediction(experiment, repeat)
    files.read_json(paths.model(experiment, repeat) / "model.json")  # its absence is the first thing to say
    if ahead.take(ahead.place(given, paths, experiment, repeat), target):
        print(f"{experiment}-{repeat}: predicted along with the runs before it")
        return
    tables.write(_predictions(given, paths, experiment, repeat), target)
    ahead.forget(paths, experiment, repeat)
    for other in ahead.waiting(given, paths, experiment, repeat):
        place = ahead.place(given, paths, *other)
        try:
            if not place.is_file():
                ahead.forget(paths, *other)
                tables.write(_predictions(given, paths, *other), place)
        except XraylabError:
            continue  # its own stage will say so


def _predictions(given: Params, paths: Paths, experiment: str, repeat: int) -> pd.DataFrame:
    """One row per image and checkpoint: checkpoint, side, id, label, p_<class>."""
    from xraylab.model import memory  # noqa: PLC0415 - torch takes longer to import than what was made ahead to read
    from xraylab.predict import kept, table  # noqa: PLC0415

    memory.keep_freed()
    folder = paths.model(experiment, repeat)
    model = files.read_json(folder / "model.json")
    sides = [tables.read(paths.split_of(repeat) / f"{side}_data.csv").assign(side=side) for side in SIDES]
    images = pd.concat(sides, ignore_index=True)[["side", "id", "label"]]
    epochs = {checkpoint: kept.epoch_of(model, checkpoint) for checkpoint in kept.CHECKPOINTS}
    distinct = sorted(set(epochs.values()))
    print(*table.first_lines(model), sep="\n")
    scored, notes = table.probabilities(folder, model, distinct, images, paths.cache, given.predict.tta)
    if notes:
        print(f"{experiment}-{repeat}: {'; '.join(notes)}")
    of_epoch = dict(zip(distinct, scored, strict=True))
    parts = [of_epoch[epoch].assign(checkpoint=checkpoint) for checkpoint, epoch in epochs.items()]
    result = pd.concat(parts, ignore_index=True)
    return result[["checkpoint", *[name for name in result.columns if name != "checkpoint"]]]
