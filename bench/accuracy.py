"""Whether our way of training learns what the studies' way learns: `python bench/accuracy.py chest_xray`.

On real images, so not part of `make bench`: 1,200 of Kermany's training images in whole patients, of whom a fifth are
set aside; 128 px, ResNet-18 from scratch, batch 32, Adam at 1e-3, 3 epochs, three seeds. Ours from the image cache, the
studies' from the files by PIL; the same images, batch size, optimizer, rate and epochs, no augmentation; one channel
against three. Writes bench/results/accuracy.json.
"""

import itertools
import statistics
import sys
from pathlib import Path

import learners
import measure
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from torchvision.models import resnet18

from xraylab.data import layouts, prepare
from xraylab.data.image_cache import IMAGENET, ImageCache
from xraylab.model import hardware, memory, networks, optimizers

IMAGES, HELD_OUT, PIXELS, BATCH, EPOCHS, SEEDS, LR = 1200, 0.2, 128, 32, 3, (0, 1, 2), 1e-3
COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Files(Dataset):  # type: ignore[type-arg]
    """Images as the studies read them."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        self.steps = T.Compose([T.Resize((PIXELS, PIXELS)), T.ToTensor(), T.Normalize(*COLOURS)])

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        row = self.table.iloc[number]
        return self.steps(Image.open(row["file"]).convert("RGB")), int(row["target"])


def chosen(raw: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Whole patients at random until there are enough images: those who train, and those who are held out."""
    found = layouts.read(raw, "kermany", ["NORMAL", "PNEUMONIA"], None, None).table
    found = found[found["split"] == "train"]
    found = found.assign(
        file=[raw / path for path in found["path"]], target=(found["label"] == "PNEUMONIA").astype(int)
    )
    patients = np.random.default_rng(0).permutation(found["patient"].unique())
    used = np.cumsum(found.groupby("patient").size()[patients]) <= IMAGES
    patients = patients[used.to_numpy()]
    out = patients[: int(HELD_OUT * len(patients))]
    used_rows = found[found["patient"].isin(patients)]
    held_out = used_rows["patient"].isin(out)
    return used_rows[~held_out].reset_index(drop=True), used_rows[held_out].reset_index(drop=True)


def studies(train: pd.DataFrame, test: pd.DataFrame, seed: int) -> float:
    """Accuracy after the last epoch of the loop that all five studies wrote, give or take."""
    torch.manual_seed(seed)
    network = resnet18(num_classes=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    loader = DataLoader(Files(train), batch_size=BATCH, shuffle=True, drop_last=len(train) % BATCH == 1)
    for x, y in itertools.chain.from_iterable(loader for _ in range(EPOCHS)):
        loss = nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        right = [(network(x).argmax(dim=1) == y).sum() for x, y in DataLoader(Files(test), batch_size=64)]
    return float(sum(right)) / len(test)


def ours(cached: np.ndarray, labels: np.ndarray, trained: int, seed: int) -> float:
    """Accuracy after the last epoch of our Learner; the first `trained` images train."""
    machine = hardware.choose("auto")
    torch.manual_seed(seed)
    network = networks.build("resnet18", 2, 1, 0.0)
    cache = ImageCache(cached, IMAGENET[1], PIXELS, machine.device)
    table = pd.DataFrame({"row": np.arange(len(cached)), "label": labels.astype(str), "source": ""})
    dls = learners.our_dataloaders(cache, table[:trained], table[trained:], learners.PLAIN, BATCH, seed)
    learn = learners.with_history(dls, network, optimizers.factory("adam", 0.0, None), machine)
    learn.fit(EPOCHS, lr=LR)
    return float(learn.history.rows[-1]["valid_accuracy"])


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    memory.keep_freed()
    train, test = chosen(Path(sys.argv[1]))
    table = pd.concat([train, test], ignore_index=True)
    preparation = prepare.Preparation(
        crop_border=False, crop_lungs=False, window=None, clahe=None, pyramid_sharpening=0.0
    )
    cached = np.stack([prepare.read(path, preparation, PIXELS, "squash") for path in table["file"]])
    labels = table["target"].to_numpy(np.int64)
    pairs = []
    for seed in SEEDS:
        pairs.append((ours(cached, labels, len(train), seed), studies(train, test, seed)))
        measure.say(f"seed {seed}: ours {pairs[-1][0]:.4f}, the studies' loop {pairs[-1][1]:.4f}")
    differences = [one - other for one, other in pairs]
    rows = [
        {"seed": seed, "accuracy, ours": round(one, 4), "accuracy, the studies' loop": round(other, 4)}
        for seed, (one, other) in zip(SEEDS, pairs, strict=True)
    ]
    patients = table["patient"].nunique()
    title = f"{len(train):,} training and {len(test):,} held-out images of {patients:,} patients"
    spread = {"mean": round(statistics.mean(differences), 4), "SD over seeds": round(statistics.stdev(differences), 4)}
    precision = hardware.choose("auto").precision
    measure.write("accuracy", {title: rows, "Difference of accuracy": [spread]}, {}, [precision])


if __name__ == "__main__":
    main()
