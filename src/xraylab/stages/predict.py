"""predict: class probabilities of the best and the last epoch, for every image that did not train the network."""

import pandas as pd

from xraylab import files, tables
from xraylab.model import memory
from xraylab.params import Params
from xraylab.paths import Paths
from xraylab.predict import kept, table

SIDES = ("valid", "test")


def run(given: Params, paths: Paths, experiment: str, repeat: int) -> None:
    memory.keep_freed()
    folder = paths.model(experiment, repeat)
    model = files.read_json(folder / "model.json")
    sides = [tables.read(paths.split_of(repeat) / f"{side}_data.csv").assign(side=side) for side in SIDES]
    images = pd.concat(sides, ignore_index=True)[["side", "id", "label"]]
    epochs = {checkpoint: kept.epoch_of(model, checkpoint) for checkpoint in kept.CHECKPOINTS}
    distinct = sorted(set(epochs.values()))
    print(*table.first_lines(model), sep="\n")
    scored, notes = table.probabilities(folder, model, distinct, images, paths.cache, given.predict.tta)
    print(f"{experiment}-{repeat}: {'; '.join(notes)}")
    of_epoch = dict(zip(distinct, scored, strict=True))
    parts = [of_epoch[epoch].assign(checkpoint=checkpoint) for checkpoint, epoch in epochs.items()]
    result = pd.concat(parts, ignore_index=True)
    columns = ["checkpoint", *[name for name in result.columns if name != "checkpoint"]]
    tables.write(result[columns], paths.prediction(experiment, repeat))
