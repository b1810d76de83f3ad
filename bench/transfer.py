"""Networks that meet films of another hospital: `python bench/transfer.py DATA [--means NAME ...] [--seeds N ...]`.

DATA is a folder with `tb/{Normal,TB}`, `kermany/chest_xray/train/{NORMAL,PNEUMONIA}` and
`covid3/{No_findings,Pneumonia,Covid-19}`: three collections of chest films, in each of which healthy ones stand against
abnormal ones. A ResNet-18 from scratch is trained on one of them (`--pooled`: on two) and tested on images of patients
that were held out of it, and on the other ones. Every way to train is one of MEANS. Each network's probabilities are
kept in --out; those that are there already are not computed anew, and the tables are of all that are there.
"""

import argparse
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import learners
import measure
import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import ParamScheduler
from numpy.typing import NDArray

from xraylab import files, template
from xraylab.data import prepare
from xraylab.data.augment import Augmentation
from xraylab.data.image_cache import IMAGENET, ImageCache
from xraylab.data.prepare import Preparation
from xraylab.data.sampling import BY_GROUP
from xraylab.model import hardware, memory, networks, optimizers, schedules, scoring
from xraylab.params.images import BATCHWISE
from xraylab.studies import recipes
from xraylab.train import source_losses

PER_CLASS, HELD_OUT, CACHED_SIZE, IMG_SIZE, BATCH, EPOCHS, LR = 320, 0.25, 128, 96, 32, 8, 1e-3
N_BOOTSTRAP = 1000
HEALTHY, ABNORMAL = 0, 1
Tree = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Folders of healthy and of abnormal films, and what in a file name says the patient."""

    folders: dict[str, int]
    patient: str


SOURCES = {
    "tb": Source({"tb/Normal": HEALTHY, "tb/TB": ABNORMAL}, r"(.+)\."),
    "kermany": Source(
        {"kermany/chest_xray/train/NORMAL": HEALTHY, "kermany/chest_xray/train/PNEUMONIA": ABNORMAL},
        r"(person\d+|(?:NORMAL2-)?IM-\d+)",
    ),
    "covid3": Source(
        {"covid3/No_findings": HEALTHY, "covid3/Pneumonia": ABNORMAL, "covid3/Covid-19": ABNORMAL},
        r"(\d{8}(?=_\d{3}\.)|.+(?=\.))",
    ),
}


@dataclass(frozen=True)
class Means:
    """What is done otherwise than by params.yaml as it is shipped, in its keys."""

    images: Tree = field(default_factory=dict)
    augment: Tree = field(default_factory=dict)
    loss: Tree = field(default_factory=dict)
    sampling: str = "weighted"

    @property
    def of_sources(self) -> bool:
        """Whether it can be done only where networks train on several sources."""
        return bool(self.loss) or self.sampling in BY_GROUP


ROBUST_IMAGES = {key.partition(".")[2]: value for key, value in recipes.ROBUST_IMAGES.items()}
CONTRAST: Tree = {"clip_percentiles": [1.0, 99.0], "clahe": 4.0}
STRONG: Tree = {
    "degrees": 10.0, "translate": 0.1, "scale": [0.8, 1.2], "shear": 5.0, "crop_scale": 0.6, "brightness": 0.4,
    "contrast": 0.5, "sharpness_factor": 2.0, "p_sharpness": 0.3, "noise_std": 0.05, "p_erase": 0.3,
}  # fmt: skip
MATCHED: Tree = {"p_histogram_matching": 0.8}
MEANS = {
    "baseline": Means(),
    "crop_border": Means({"crop_border": True}),
    "crop_lungs": Means({"crop_lungs": True}),
    "clahe": Means({"clahe": 2.0}),
    "histogram_matching": Means({}, MATCHED),
    "strong_augmentation": Means({}, STRONG),
    "clahe_and_strong_augmentation": Means(CONTRAST, STRONG),
    "robust": Means(ROBUST_IMAGES, recipes.ROBUST_EXPERIMENT["augment"]),
    "source_balanced": Means(sampling="source_balanced"),
    "group_dro": Means(loss={"group_dro_step": 0.01}),
    "coral": Means(loss={"coral_weight": 1.0}),
}


def table(data: Path) -> pd.DataFrame:
    """source, path, target, patient and held_out: of each class at most about PER_CLASS images, in whole patients.

    The classes of a source are of one size, and HELD_OUT of its patients, of any class, never train.
    """
    rows = [
        (name, path, target, re.match(source.patient, path.name)[1])  # type: ignore[index]  # every name has one
        for name, source in SOURCES.items()
        for folder, target in source.folders.items()
        for path in sorted((data / folder).iterdir())
    ]
    every = pd.DataFrame(rows, columns=["source", "path", "target", "patient"])
    parts = []
    for _, of_source in every.groupby("source", sort=False):
        most, rng = min(PER_CLASS, of_source["target"].value_counts().min()), np.random.default_rng(0)
        for _, of_class in of_source.groupby("target"):
            patients = rng.permutation(of_class["patient"].unique())
            images = np.cumsum(of_class.groupby("patient").size()[patients]).to_numpy()
            parts.append(of_class[of_class["patient"].isin(patients[: np.searchsorted(images, most) + 1])])
    chosen = pd.concat(parts).reset_index(drop=True)
    held_out = np.zeros(len(chosen), bool)
    for _, of_source in chosen.groupby("source", sort=False):
        patients = np.random.default_rng(1).permutation(of_source["patient"].unique())
        held_out |= (
            of_source.reindex(chosen.index)["patient"].isin(patients[: int(HELD_OUT * len(patients))]).to_numpy()
        )
    return chosen.assign(held_out=held_out)


def cached(paths: Sequence[Path], images: Tree) -> NDArray[np.uint8]:
    preparation = Preparation.recorded(images)
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda path: prepare.read(path, preparation, CACHED_SIZE, "squash"), paths)))


@dataclass(frozen=True)
class Training:
    """The images that train: their rows among all, classes, and source numbers."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    sources: NDArray[np.int64]

    @property
    def pairs(self) -> NDArray[np.int64]:
        """A number for each pair of source and class."""
        return self.sources * 2 + self.labels


def probabilities(images: NDArray[np.uint8], training: Training, means: Means, drawn: Tree, seed: int) -> NDArray[Any]:
    """Of being abnormal, for all images, float32, by a network that is trained on these."""
    rows, labels, augmentation = training.rows, training.labels, Augmentation(**drawn)
    machine = hardware.choose("auto")
    torch.manual_seed(seed)
    network = networks.build("resnet18", 2, 1, 0.0)
    cache = ImageCache(images, IMAGENET[1], IMG_SIZE, machine.device)
    table = pd.DataFrame({"row": rows, "label": labels.astype(str), "source": training.sources.astype(str)})
    dls = learners.our_dataloaders(cache, table, table[:2], augmentation, BATCH, seed, means.sampling)
    cbs = of_sources(means, training, machine.device)
    learn = learners.with_history(dls, network, optimizers.factory("adam", 1e-4, None), machine, cbs)
    (phase,) = schedules.SCHEDULES["one_cycle"](EPOCHS, LR, networks.PARTS, True)
    learn.fit(EPOCHS, cbs=[ParamScheduler(phase.curves)])
    every = np.arange(len(images))
    (p,), _ = scoring.score(
        [network.eval()], lambda start, stop: cache.of(every[start:stop]), len(every), machine, "scoring"
    )
    return p[:, ABNORMAL].numpy()


def of_sources(means: Means, training: Training, device: str) -> list[Callback]:
    """The losses that look at sources, as the stage `train` makes them."""
    cbs: list[Callback] = []
    if "group_dro_step" in means.loss:
        cbs.append(source_losses.GroupDRO(training.pairs, means.loss["group_dro_step"], device))
    if "coral_weight" in means.loss:
        cbs.append(source_losses.Coral(training.sources, means.loss["coral_weight"]))
    return cbs


@dataclass(frozen=True)
class Trained:
    """One network's probabilities of all images."""

    means: str
    trained_on: tuple[str, ...]
    seed: int
    p: NDArray[np.float32]


def file_of(out: Path, means: str, trained_on: Sequence[str], seed: int) -> Path:
    return out / f"{means}_{'+'.join(trained_on)}_{seed}.npy"


def train(data: pd.DataFrame, out: Path, means: str, pooled: bool, seeds: Sequence[int]) -> None:
    """The networks that are not in `out` yet, one after another."""
    wanted = [(tuple(each for each in SOURCES if (each != name) == pooled), seed) for seed in seeds for name in SOURCES]
    missing = [(names, seed) for names, seed in wanted if not file_of(out, means, names, seed).is_file()]
    if not missing or (MEANS[means].of_sources and not pooled):
        return
    shipped = files.read_yaml(template.file("params.yaml"))
    images = cached(list(data["path"]), shipped["images"] | MEANS[means].images)
    drawn = {key: value for key, value in (shipped["augment"] | MEANS[means].augment).items() if key not in BATCHWISE}
    for names, seed in missing:
        rows = np.flatnonzero(data["source"].isin(names) & ~data["held_out"])
        labels, sources = data["target"].to_numpy(np.int64)[rows], data["source"].factorize()[0][rows]
        p = probabilities(images, Training(rows, labels, sources), MEANS[means], drawn, seed)
        np.save(file_of(out, means, names, seed), p)
        measure.say(f"{means}, trained on {' and '.join(names)}, seed {seed}")


def known(out: Path) -> list[Trained]:
    """Every network of MEANS whose probabilities are in `out`."""
    found = []
    for path in sorted(out.glob("*.npy")):
        means, trained_on, seed = path.stem.rsplit("_", 2)
        if means in MEANS:
            found.append(Trained(means, tuple(trained_on.split("+")), int(seed), np.load(path)))
    return found


def aurocs(positive: NDArray[np.bool_], scores: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(draws,): the weighted share of pairs in the right order, a tie counting half; `weights` are (draws, images)."""
    ours, theirs = scores[positive][:, None], scores[~positive]
    right = (ours > theirs) + 0.5 * (ours == theirs)
    of_ours, of_theirs = weights[:, positive], weights[:, ~positive]
    pairs = of_ours.sum(axis=1) * of_theirs.sum(axis=1)
    return np.asarray((of_ours @ right * of_theirs).sum(axis=1) / pairs)


def drawn(data: pd.DataFrame, every: Sequence[Trained], source: str) -> tuple[float, NDArray[np.float64]]:
    """The AUROC in `source`, mean over these networks of several seeds, and its values in draws of its patients.

    Of a source that a network was trained on, its held-out patients are tested, else all.
    """
    tested = (data["source"] == source) & (data["held_out"] | (source not in every[0].trained_on))
    rows = data[tested]
    patients = rows["patient"].factorize()[0]
    several = int(patients.max()) + 1
    counts = np.random.default_rng(0).multinomial(several, np.full(several, 1 / several), N_BOOTSTRAP)
    weights = np.vstack([np.ones(len(rows)), counts[:, patients]])
    positive = (rows["target"] == ABNORMAL).to_numpy()
    mean = np.mean([aurocs(positive, each.p[tested], weights) for each in every], axis=0)
    return float(mean[0]), mean[1:]


def row(data: pd.DataFrame, means: str, pooled: bool, every: Sequence[Trained]) -> dict[str, Any] | None:
    """One line of the tables; None where a source is missing."""
    found = [each for each in every if each.means == means and (len(each.trained_on) > 1) == pooled]
    groups: dict[tuple[str, ...], list[Trained]] = {}
    for each in found:
        groups.setdefault(each.trained_on, []).append(each)
    if len(groups) < len(SOURCES):
        return None
    inside = [drawn(data, runs, source)[0] for names, runs in groups.items() for source in names]
    outside = {
        (names, source): (runs, *drawn(data, runs, source))
        for names, runs in groups.items()
        for source in SOURCES
        if source not in names
    }
    low, high = np.percentile(np.mean([draws for _, _, draws in outside.values()], axis=0), [2.5, 97.5])
    seeds = sorted({each.seed for each in found})
    by_seed = [_outside_of(data, outside, seed) for seed in seeds]
    cells = {f"{'+'.join(names)} → {source}": f"{value:.3f}" for (names, source), (_, value, _) in outside.items()}
    return {
        "means": means,
        "seeds": len(seeds),
        "inside": f"{np.mean(inside):.3f}",
        "outside (95 %)": f"{np.mean([value for _, value, _ in outside.values()]):.3f} ({low:.3f} to {high:.3f})",
        "of single seeds": " ".join(f"{value:.3f}" for value in by_seed),
        **cells,
    }


def _outside_of(data: pd.DataFrame, outside: dict[Any, Any], seed: int) -> float:
    values = [
        drawn(data, [each], source)[0]
        for (_, source), (runs, *_) in outside.items()
        for each in runs
        if each.seed == seed
    ]
    return float(np.mean(values))


def write(data: pd.DataFrame, out: Path) -> None:
    every, tables = known(out), {}
    for title, pooled in (("Trained on one source, tested on another", False), ("Trained on two sources", True)):
        rows = [made for means in MEANS if (made := row(data, means, pooled, every))]
        tables |= {title: rows} if rows else {}
    measure.write("transfer", tables, {}, [hardware.choose("auto").precision])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--means", nargs="+", choices=MEANS, default=list(MEANS), metavar="NAME")
    parser.add_argument("--pooled", action="store_true", help="train on two sources, test on the third")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("transfer"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    memory.keep_freed()
    data = table(args.data)
    for means in args.means:
        train(data, args.out, means, args.pooled, args.seeds)
    write(data, args.out)


if __name__ == "__main__":
    main()
