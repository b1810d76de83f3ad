"""Memory and CPU time of training steps with and without train.grad_checkpointing, and what a ViT-L takes, computed.

Peaks are measured on a processor: what the process held at most, less what it held before there was a network. The
least that a training takes, and all of ViT-L, are sums of xraylab.model.training_memory, and no measurements.
"""

import os
import resource
import sys
import time
from typing import Any

import measure
import torch
from measure import Gate
from torch import nn

from xraylab.model import create, grad_checkpointing, memory, training_memory
from xraylab.params import config
from xraylab.params.config import ExperimentConfig

NETWORKS = {"ViT-S/16": "vit_small_patch16_224", "DenseNet-121": "densenet121"}
LARGE, LARGE_PIXELS = "vit_large_patch16_224", 512
PIXELS, BATCH, STEPS = 224, 8, 3
MIB, GIB = 2**20, 2**30


def experiment(arch: str, pixels: int, **train: Any) -> ExperimentConfig:
    """The baseline of params.yaml with another network, in float32 unless `train` says otherwise."""
    cfg = config.read(measure.REPOSITORY / "params.yaml").experiment("baseline")
    model = cfg.model.model_copy(update={"arch": arch, "img_size": pixels, "pretrained": "none"})
    given = {"precision": "float32", "batch_size": BATCH, "optimizer": "adam", "ema_decay": None, **train}
    return cfg.model_copy(update={"model": model, "train": cfg.train.model_copy(update=given)})


def steps(arch: str, checkpointed: bool) -> tuple[float, float]:
    """The peak of memory in MiB, and the CPU seconds of a step after the first."""
    memory.keep_freed()
    torch.manual_seed(0)
    cfg = experiment(arch, PIXELS).model
    images, labels = torch.rand(BATCH, cfg.channels, PIXELS, PIXELS), torch.arange(BATCH) % 2
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = create.create_model(cfg, 2).train()
    if checkpointed:
        grad_checkpointing.enable(network, arch)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    started = 0.0
    for step in range(STEPS + 1):
        started = started if step > 1 else time.process_time()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = (time.process_time() - started) / STEPS
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / MIB, seconds


def measured() -> list[dict[str, Any]]:
    rows = []
    for name, arch in NETWORKS.items():
        for checkpointed in (False, True):
            peak, seconds = measure.alone(steps, arch, checkpointed)
            least = training_memory.estimate(experiment(arch, PIXELS, grad_checkpointing=checkpointed), 2).total / MIB
            measure.say(f"{name}, {checkpointed=}: {peak:.0f} MiB, at least {least:.0f}, {seconds:.2f} s of CPU a step")
            rows.append(
                {
                    "network": name,
                    "grad_checkpointing": str(checkpointed).lower(),
                    "peak, MiB": round(peak),
                    "computed: at least, MiB": round(least),
                    "CPU time of a step, s": round(seconds, 2),
                }
            )
    return rows


def computed() -> list[dict[str, Any]]:
    """ViT-L in bfloat16, one image a batch: what does not grow with the batch, and what each image adds."""
    rows = []
    for optimizer in ("adam", "adafactor"):
        for checkpointed in (False, True):
            train = {"optimizer": optimizer, "grad_checkpointing": checkpointed, "precision": "bfloat16"}
            one, two = (
                training_memory.estimate(experiment(LARGE, LARGE_PIXELS, batch_size=size, **train), 2).activations
                for size in (2, 4)
            )
            sums = training_memory.estimate(experiment(LARGE, LARGE_PIXELS, **train), 2)
            rows.append(
                {
                    "train.optimizer": optimizer,
                    "grad_checkpointing": str(checkpointed).lower(),
                    "weights and gradients, GiB": round((sums.weights + sums.gradients) / GIB, 2),
                    "optimizer states, GiB": round(sums.optimizer / GIB, 2),
                    "activations of an image, GiB": round((two - one) / 2 / GIB, 2),
                }
            )
    return rows


def main() -> None:
    torch.set_num_threads(1)
    measure.say(f"steps of {BATCH} images of {PIXELS} px on a processor, in float32 and one thread")
    rows = measured()
    tables = {
        f"Training steps of {BATCH} images of {PIXELS} px": rows,
        f"ViT-L/16 at {LARGE_PIXELS} px in bfloat16, computed and not measured": computed(),
    }
    gates = {
        f"{row['network']}, grad_checkpointing {row['grad_checkpointing']}: peak over what was computed": Gate(
            row["peak, MiB"] / row["computed: at least, MiB"], least=1.0
        )
        for row in rows
    }
    sys.exit(0 if measure.write("checkpointing", tables, gates, ["float32"]) else 1)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
