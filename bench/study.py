"""How long the shipped study takes, and what of it is the network alone: `make bench`.

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

import torch

from xraylab import params
from xraylab.model import hardware, networks, optimizers

REPOSITORY = Path(__file__).parents[1]
RESULT = REPOSITORY / "bench/results/study.json"
NOTHING_CHANGED_RUNS, HELP_RUNS, BARE_STEPS = 5, 7, 12
GATES = {"xraylab --help, s": 0.3}


def seconds(command: list[str], folder: Path) -> float:
    start = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
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
        bare = [bare_images_per_second(shipped)]
        study = seconds(dvc, clone)
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
        bare.append(bare_images_per_second(shipped))
        alone = dvc_alone(clone)
        unchanged = [(seconds(dvc, clone), seconds(dvc, alone)) for _ in range(NOTHING_CHANGED_RUNS)]
        nothing, own = (statistics.median(times) for times in zip(*unchanged, strict=True))
        help_ = statistics.median(
            seconds([str(Path(sys.executable).parent / "xraylab"), "--help"], clone) for _ in range(HELP_RUNS)
        )
        training = trained(clone)
    result = {
        "hardware": hardware.choose(shipped.train.precision).record() | {"cores": os.cpu_count()},
        "dvc repro, all stages, s": round(study, 1),
        "dvc repro, nothing changed, s": round(nothing, 2),
        "dvc repro, nothing changed, DVC's own part, s": round(own, 2),
        "xraylab --help, s": round(help_, 2),
        "highest memory of a process, GiB": round(memory, 2),
        "images trained": training["images"],
        "images/s in training, with validation and checkpoints": round(training["images"] / training["seconds"], 1),
        "images/s of the bare network, before and after": [round(value, 1) for value in bare],
        "seconds of the bare network for the same images": round(training["images"] / statistics.mean(bare), 1),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    sys.exit(any(result[what] > most for what, most in GATES.items()))


if __name__ == "__main__":
    main()
