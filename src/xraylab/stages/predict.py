"""predict: class probabilities of the best and the last epoch, for every image that did not train the network."""

import pandas as pd

from xraylab import files, tables
from xraylab.errors import XraylabError
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.predict import ahead

SPLITS = ("valid", "test")


def run(cfg: Params, paths: Paths, experiment: str, repeat: int) -> None:
    """Write predictions/<experiment>/<repeat>.csv, and predict for the runs whose stages are still to come."""
    target = paths.prediction(experiment, repeat)
    files.read_json(paths.model(experiment, repeat) / "model.json")  # its absence is the first thing to say
    if ahead.take(ahead.path(cfg, paths, experiment, repeat), target):
        print(f"{experiment}-{repeat}: predicted along with the runs before it")
        return
    tables.write(_predictions(cfg, paths, experiment, repeat), target)
    ahead.forget(paths, experiment, repeat)
    for other in ahead.waiting(cfg, paths, experiment, repeat):
        path = ahead.path(cfg, paths, *other)
        try:
            if not path.is_file():
                ahead.forget(paths, *other)
                ahead.keep(_predictions(cfg, paths, *other), path)
        except XraylabError:
            continue  # its own stage will say so


def _predictions(cfg: Params, paths: Paths, experiment: str, repeat: int) -> pd.DataFrame:
    """One row per image and checkpoint: checkpoint, split, id, label, p_<class>."""
    from xraylab.model import memory  # noqa: PLC0415 - torch takes longer to import than what was made ahead to read
    from xraylab.predict import checkpoints, inference  # noqa: PLC0415

    memory.keep_freed()
    run = checkpoints.load_run(paths, experiment, repeat)
    splits = [tables.read(paths.split_of(repeat) / f"{split}_data.csv").assign(split=split) for split in SPLITS]
    images = pd.concat(splits, ignore_index=True)[["split", "id", "label"]]
    epoch_of = {checkpoint: run.epoch(checkpoint) for checkpoint in checkpoints.CHECKPOINTS}
    epochs = sorted(set(epoch_of.values()))
    print(*inference.first_lines(run.record), sep="\n")
    scored, notes = run.predict_cached(epochs, images, paths.cache, cfg.predict.tta)
    if notes:
        print(f"{experiment}-{repeat}: {'; '.join(notes)}")
    by_epoch = dict(zip(epochs, scored, strict=True))
    result = pd.concat([by_epoch[n].assign(checkpoint=name) for name, n in epoch_of.items()], ignore_index=True)
    return result[["checkpoint", *result.columns.drop("checkpoint")]]
