"""How long the shipped study takes, what of it is the network alone, and what it finds: part of `make bench`, 8 min.

In a clean clone: `dvc repro` (time, highest memory of a process); `dvc repro` again, in turns with the same where the
one stage that always runs does nothing, which leaves DVC's own time; `xraylab --help`; and the images per second of the
bare network (forward, backward, optimizer step; same precision, size and batch), measured before and after the study.
What the networks reach on the test images, where two of them look, and the baseline with two more seeds.
Writes bench/results/study.json; with a precision, as in `python bench/study.py float32`, study_<precision>.json.
"""

import csv
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import pandas as pd
import torch
from measure import REPOSITORY, Gate
from sklearn.metrics import roc_auc_score

from xraylab import files
from xraylab.model import hardware, networks, optimizers
from xraylab.params import config
from xraylab.params.config import Params

NOTHING_CHANGED_RUNS, HELP_RUNS, BARE_STEPS = 3, 5, 12
HELP_LIMIT = 0.3
MORE_SEEDS = (1, 2)


def seconds(command: list[str], folder: Path) -> float:
    """Runs it and prints as DVC does which stage runs."""
    start = time.monotonic()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("Running stage"):
                measure.say(line.strip())
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - start


def bare_images_per_second(shipped: Params, precision: str) -> float:
    """The median over steps of the network without loading, augmentation, history or checkpoints."""
    machine = hardware.choose(precision)
    network = networks.build(shipped.model.arch, len(shipped.data.classes), shipped.model.channels, 0.0)
    network = network.to(memory_format=torch.channels_last).to(machine.device)
    optimizer = optimizers.factory("adam", shipped.train.weight_decay, None)([list(network.parameters())], lr=1e-3)
    size, pixels = shipped.train.batch_size, shipped.model.img_size
    batch = torch.randn(size, shipped.model.channels, pixels, pixels, device=machine.device)
    labels = torch.zeros(size, dtype=torch.int64, device=machine.device)
    times = []
    for _ in range(BARE_STEPS):
        start = time.monotonic()
        with machine.autocast():
            logits = network(batch)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.monotonic() - start)
    return size / statistics.median(times[2:])


def trained(clone: Path) -> dict[str, float]:
    """Images that trained a network, and the seconds that it took with validation and checkpoints."""
    models = [json.loads(path.read_text()) for path in clone.glob("models/*/*/model.json")]
    rows = len((clone / "data/split/train_data.csv").read_text().splitlines()) - 1
    epochs = sum(model["last_epoch"] + 1 for model in models)
    return {"images": rows * epochs, "seconds": sum(model["train_seconds"] for model in models)}


def experiments(clone: Path) -> list[dict[str, Any]]:
    """What each experiment's best epoch reaches, from reports/comparison.csv."""
    rows = list(csv.DictReader((clone / "reports/comparison.csv").open()))
    best = {(row["experiment"], row["split"]): row for row in rows if row["checkpoint"] == "best"}
    return [
        {
            "experiment": name,
            "epoch": int(row["epoch"]),
            "validation F1": round(float(best[name, "valid"]["f1"]), 3),
            **{metric: round(float(row[metric]), 3) for metric in ("accuracy", "precision", "recall", "f1", "auroc")},
            "TN FP FN TP": " ".join(row[cell] for cell in ("tn", "fp", "fn", "tp")),
        }
        for (name, split), row in best.items()
        if split == "test"
    ]


def seeds(clone: Path) -> list[dict[str, Any]]:
    """The baseline trained with `MORE_SEEDS` besides: the test AUROC of each seed's best epoch."""
    edited(clone, lambda tree: tree["study"].update(repeats=[0, *MORE_SEEDS]))
    runs = [f"predict@baseline-{seed}" for seed in MORE_SEEDS]
    seconds([sys.executable, "-m", "dvc", "repro", *runs], clone)
    return [{"seed": seed, "AUROC": round(_auroc(clone, seed), 3)} for seed in (0, *MORE_SEEDS)]


def _auroc(clone: Path, seed: int) -> float:
    table = pd.read_csv(clone / f"predictions/baseline/{seed}.csv")
    tested = table[(table["checkpoint"] == "best") & (table["split"] == "test")]
    return float(roc_auc_score(tested["label"] == "TB", tested["p_TB"]))


def looks(clone: Path) -> list[dict[str, Any]]:
    """The pointing game of each explained network and of random weights, from reports/explain/summary.json."""
    summary = json.loads((clone / "reports/explain/summary.json").read_text())
    return [
        {
            "experiment": record["experiment"],
            "method": method,
            "network": kind,
            "images": measured["images"],
            "highest point inside": round(measured["hit_rate"], 3),
            "saliency inside": round(measured["inside"], 3),
            "chance": round(measured["chance"], 3),
        }
        for record in summary["experiments"]
        for method, kinds in record["localisation"]["methods"].items()
        for kind, measured in kinds.items()
    ]


def edited(clone: Path, change: Callable[[Any], object]) -> None:
    """Change the clone's params.yaml."""
    tree = files.read_yaml(clone / "params.yaml")
    change(tree)
    files.write_yaml(tree, clone / "params.yaml")


def dvc_alone(clone: Path) -> Path:
    """A copy of the finished study whose stage `source` does nothing."""
    copy = clone.with_name("alone")
    shutil.copytree(clone, copy, symlinks=True)
    stages = copy / "dvc.yaml"
    stages.write_text(stages.read_text().replace("cmd: python src source", "cmd: 'true'"))
    seconds([sys.executable, "-m", "dvc", "repro"], copy)
    return copy


def main() -> None:
    shipped = config.read(REPOSITORY / "params.yaml")
    precision = sys.argv[1] if len(sys.argv) > 1 else shipped.train.precision
    dvc = [sys.executable, "-m", "dvc", "repro"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
        edited(clone, lambda tree: tree["train"].update(precision=precision))
        measure.say("the bare network")
        bare = [measure.alone(bare_images_per_second, shipped, precision)]
        measure.say(f"the bare network: {bare[0]:.1f} images/s; dvc repro")
        study = seconds(dvc, clone)
        # a child's maximum begins with what this process had, which is little: the bare network ran elsewhere
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
        bare.append(measure.alone(bare_images_per_second, shipped, precision))
        measure.say(f"dvc repro: {study:.0f} s; the bare network: {bare[1]:.1f} images/s; dvc repro, nothing changed")
        alone = dvc_alone(clone)
        unchanged = [(seconds(dvc, clone), seconds(dvc, alone)) for _ in range(NOTHING_CHANGED_RUNS)]
        nothing, own = (statistics.median(times) for times in zip(*unchanged, strict=True))
        measure.say(f"dvc repro, nothing changed: {nothing:.2f} s; xraylab --help")
        command = [str(Path(sys.executable).parent / "xraylab"), "--help"]
        help_ = statistics.median(seconds(command, clone) for _ in range(HELP_RUNS))
        training = trained(clone)
        found = {"Experiments": experiments(clone), "Where networks look": looks(clone)}
        measure.say(f"the baseline with the seeds {MORE_SEEDS}")
        found["The baseline's seeds"] = seeds(clone)
    rate = training["images"] / training["seconds"]
    values = {
        "`dvc repro`, all stages, s": round(study, 1),
        "`dvc repro`, nothing changed, s": round(nothing, 2),
        "of this DVC's own part, s": round(own, 2),
        "`xraylab --help`, s": round(help_, 2),
        "highest memory of a process, GiB": round(memory, 2),
        "images trained": training["images"],
        "images/s in training, with validation and checkpoints": round(rate, 1),
        "images/s of the bare network, before the study": round(bare[0], 1),
        "images/s of the bare network, after it": round(bare[1], 1),
        "seconds of the bare network for the same images": round(training["images"] / statistics.mean(bare), 1),
    }
    tables = {"The shipped study": [{"what": what, "value": value} for what, value in values.items()]} | found
    gates = {"`xraylab --help`, s": Gate(help_, most=HELP_LIMIT)}
    name = "study" if len(sys.argv) == 1 else f"study_{precision}"
    sys.exit(0 if measure.write(name, tables, gates, [hardware.choose(precision).precision]) else 1)


if __name__ == "__main__":
    main()
