"""How long the shipped study takes, and what of it is the network alone: part of `make bench`, 4 min.

In a clean clone: `dvc repro` (time, highest memory of a process); `dvc repro` again, in turns with the same where the
one stage that always runs does nothing, which leaves DVC's own time; `xraylab --help`; and the images per second of the
bare network (forward, backward, optimizer step; same precision, size and batch), measured before and after the study.
Writes bench/results/study.json.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import torch
from measure import REPOSITORY, Gate

from xraylab import params
from xraylab.model import hardware, networks, optimizers

NOTHING_CHANGED_RUNS, HELP_RUNS, BARE_STEPS = 3, 5, 12
HELP_LIMIT = 0.3


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


def bare_images_per_second(shipped: params.Params) -> float:
    """The median over steps of the network without loading, augmentation, history or checkpoints."""
    machine = hardware.choose(shipped.train.precision)
    network = networks.build(shipped.model.arch, len(shipped.data.classes), shipped.model.channels, 0.0)
    network = network.to(memory_format=torch.channels_last).to(machine.device)
    optimizer = optimizers.factory("adam", shipped.train.weight_decay, None)([list(network.parameters())], lr=1e-3)
    size, pixels = shipped.train.batch_size, shipped.model.pixels
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


def dvc_alone(clone: Path) -> Path:
    """A copy of the finished study whose stage `source`, which always runs, does nothing."""
    copy = clone.with_name("alone")
    shutil.copytree(clone, copy, symlinks=True)
    stages = copy / "dvc.yaml"
    stages.write_text(stages.read_text().replace("cmd: python src source", "cmd: 'true'"))
    seconds([sys.executable, "-m", "dvc", "repro"], copy)
    return copy


def main() -> None:
    shipped = params.read(REPOSITORY / "params.yaml")
    dvc = [sys.executable, "-m", "dvc", "repro"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
        measure.say("the bare network")
        bare = [measure.alone(bare_images_per_second, shipped)]
        measure.say(f"the bare network: {bare[0]:.1f} images/s; dvc repro")
        study = seconds(dvc, clone)
        # a child's maximum begins with what this process had, which is little: the bare network ran elsewhere
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
        bare.append(measure.alone(bare_images_per_second, shipped))
        measure.say(f"dvc repro: {study:.0f} s; the bare network: {bare[1]:.1f} images/s; dvc repro, nothing changed")
        alone = dvc_alone(clone)
        unchanged = [(seconds(dvc, clone), seconds(dvc, alone)) for _ in range(NOTHING_CHANGED_RUNS)]
        nothing, own = (statistics.median(times) for times in zip(*unchanged, strict=True))
        measure.say(f"dvc repro, nothing changed: {nothing:.2f} s; xraylab --help")
        command = [str(Path(sys.executable).parent / "xraylab"), "--help"]
        help_ = statistics.median(seconds(command, clone) for _ in range(HELP_RUNS))
        training = trained(clone)
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
    tables = {"The shipped study": [{"what": what, "value": value} for what, value in values.items()]}
    gates = {"`xraylab --help`, s": Gate(help_, most=HELP_LIMIT)}
    sys.exit(0 if measure.write("study", tables, gates, [hardware.choose(shipped.train.precision).precision]) else 1)


if __name__ == "__main__":
    main()
