"""Everything that is claimed of a GPU, in one command of under ten minutes: `make bench-gpu`.

`python bench/accelerator.py [part ...]`: all parts, or those that are named. `--small --to FOLDER` is for a machine
without a GPU, where it shows in half a minute that everything runs. A part that fails is named at the end, and the
others go on. Writes bench/results/accelerator.json.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import films
import measure
import numpy as np
import studies
import torch
import torchvision.models as tv
import training
from measure import Gate, Tables

from xraylab.data import augment, gpu_cache
from xraylab.data.image_cache import IMAGENET, network_input
from xraylab.errors import XraylabError
from xraylab.model import hardware, memory, networks, scoring
from xraylab.model.hardware import Hardware
from xraylab.params.train import Train
from xraylab.stages import train

LEAST_SHARE, MOST_LEVELS, MOST_PROBABILITY = 0.90, 1, 0.01
MIXED = {None: "float32", "to_fp16": "float16", "to_bf16": "bfloat16"}  # what fastai has for a GPU


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    networks: tuple[str, ...]
    pixels: int
    batch: int
    steps: int
    rounds: int
    files: int
    file_pixels: int
    workers: int
    jobs: int
    dvc: bool  # whether DVC runs the studies, where it is there; without it stages run in this process
    gated: bool  # whether speed is held to its gates


FULL = Size(("resnet18", "resnet50"), 224, 64, 20, 3, 1024, 512, 8, 4, True, True)
SMALL = Size(("resnet18",), 64, 4, 2, 1, 12, 64, 0, 2, False, False)
Measured = tuple[Tables, dict[str, Gate]]


def precisions() -> list[Hardware]:
    """This machine in each precision that a study may name and that this device has."""
    found = []
    for name in get_args(Train.model_fields["precision"].annotation):
        try:
            found += [hardware.choose(name)] if name != "auto" else []
        except XraylabError as error:
            measure.say(f"not on this device: {error}")
    return found


def in_mode(work: Callable[[], int], deterministic: bool) -> Callable[[], int]:
    """With the algorithms that give the same bits twice, as the stage `train` has them, or with any."""

    def in_that() -> int:
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        return work()

    return in_that


def peak(work: Callable[[], int]) -> float | None:
    """The most MiB of the GPU's memory that one turn holds; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    torch.cuda.reset_peak_memory_stats()
    work()
    return round(torch.cuda.max_memory_allocated() / 2**20)


def networks_alone(size: Size, folder: Path) -> Measured:
    """Images per second and GPU memory in each precision: the network alone, the same deterministic, and ours."""
    rows, gates = [], {}
    for arch in size.networks:
        for each in precisions():
            machine = hardware.choose(each.precision)  # again, since it switches TF32 on or off
            name = f"{arch}, {size.pixels} px, batch {size.batch}, {machine.precision}"
            measure.say(name)
            bare = training.bare(arch, size.pixels, size.batch, size.steps, machine)
            ours = training.ours(arch, size.pixels, size.batch, size.steps, machine)
            variants = {
                "bare": in_mode(bare, deterministic=False),
                "bare, deterministic": in_mode(bare, deterministic=True),
                "ours": in_mode(ours, deterministic=True),
            }
            rates = measure.interleaved(variants, size.rounds)
            share = measure.times(rates["ours"], rates["bare, deterministic"])
            speeds = {f"{who}, images/s": round(rate, 1) for who, rate in measure.medians(rates).items()}
            rows.append({"network": name, **speeds, "share": round(share, 3), "peak of ours, MiB": peak(ours)})
            if size.gated:
                gates[f"{name}: share of the deterministic bare network"] = Gate(share, LEAST_SHARE)
    return {"Training, of the bare network": rows}, gates


def fastai_defaults(size: Size, folder: Path) -> Measured:
    """Ours against fastai's defaults, from PNG files by its workers, in float32 and in its own mixed precision."""
    paths = [folder / f"films/{'ab'[number % 2]}/{number:04}.png" for number in range(size.files)]
    films.write(paths, size.file_pixels)
    machine = hardware.choose("auto")
    mixed = list(MIXED) if machine.device == "cuda" else [None]
    rows, gates = [], {}
    for arch in size.networks:
        ours = training.ours(arch, size.pixels, size.batch, size.steps, machine)
        variants = {f"ours, {machine.precision}": in_mode(ours, deterministic=True)}
        for method in mixed:
            dls = training.fastai_folder(folder / "films", size.pixels, size.batch, size.workers)
            theirs = training.fastai_defaults(dls, getattr(tv, arch)(num_classes=2), method)
            name = f"fastai's defaults, {size.workers} workers, {MIXED[method]}"
            variants[name] = in_mode(theirs, deterministic=False)
        rates = measure.interleaved(variants, size.rounds)
        us = next(iter(rates.values()))
        for name, rate in measure.medians(rates).items():
            times = measure.times(us, rates[name])
            rows.append({"network": arch, "way": name, "images/s": round(rate, 1), "ours is times": round(times, 2)})
            if size.gated and name.startswith("fastai"):
                gates[f"{arch}: times {name}"] = Gate(times, 1.0)
    return {f"Training from {size.files:,} PNG files of {size.file_pixels} px, or from the cache": rows}, gates


def whole_studies(size: Size, folder: Path) -> Measured:
    """The demo study and one of 2,300 images of 256 px, from nothing to the report."""

    def large(tree: dict[str, Any]) -> None:
        tree["data"]["demo"].update(n_healthy=1840, n_tb=460, size=256)
        tree["images"]["size"], tree["model"]["img_size"] = 256, 224

    wanted = {"small": small} if size is SMALL else {"demo": lambda tree: None, "large": large}
    rows = []
    for name, change in wanted.items():
        study = studies.begun(folder / name, change)
        with_dvc = size.dvc and studies.has_dvc()
        how = "dvc repro" if with_dvc else "stages in order"
        measure.say(f"{name} study: {how}")
        seconds = studies.repro(study) if with_dvc else studies.in_order(study)
        measure.say(f"{name} study: {seconds:.0f} s")
        if not (study / "reports/index.html").is_file():
            raise RuntimeError(f"the {name} study has no report")
        images = len(np.load(study / "data/cache/images.npy", mmap_mode="r"))
        rows.append({"study": name, "images": images, "experiments": len(studies.experiments(study))})
        rows[-1] |= {"how": how, "seconds": round(seconds, 1)}
    return {"Studies from nothing to the report": rows}, {}


def both_paths(size: Size, folder: Path) -> Measured:
    """The same images by the CPU's way and by the GPU's: gray levels, and what a network makes of them."""
    pixels = size.pixels
    images = np.stack([films.film(number, pixels * 8 // 7) for number in range(size.batch)])
    machine = hardware.choose("float32")
    normalise = IMAGENET[1]
    by_cpu = network_input(images, np.arange(len(images)), normalise, pixels, "cpu")
    there = gpu_cache.plain(gpu_cache.load(images, torch.device(machine.device)), pixels)
    by_gpu = (there - normalise.mean[0]) / normalise.std[0]
    levels = np.stack([augment.resize(image, pixels) for image in images]).astype(np.float32)
    difference = float(np.abs(there.squeeze(1).cpu().numpy() * 255 - levels).max())
    torch.manual_seed(0)
    rows, gates = [], {f"largest difference of a gray level, {pixels} px": Gate(difference, most=MOST_LEVELS + 1e-3)}
    for arch in size.networks:
        network = networks.build(arch, 2, 1, 0.0).eval().to(memory_format=torch.channels_last).to(machine.device)
        one, other = (scoring.probabilities([network], [batch], machine)[0] for batch in (by_cpu, by_gpu))
        apart = float((one - other).abs().max())
        rows.append({"network": arch, "gray levels": round(difference, 3), "probabilities": float(f"{apart:.1e}")})
        gates[f"{arch}: largest difference of a probability"] = Gate(apart, most=MOST_PROBABILITY)
    return {"Largest differences between the CPU's way and the GPU's": rows}, gates


def same_bits(size: Size, folder: Path) -> Measured:
    """A short training twice: the bytes of what it writes."""

    def short(tree: dict[str, Any]) -> None:
        small(tree)
        tree["augment"].update(degrees=10.0, brightness=0.2)

    study = studies.begun(folder / "bits", short)
    for each in studies.BEFORE:
        studies.stage(study, each)
    digests = []
    for _ in range(2):
        studies.stage(study, train, studies.experiments(study)[0], 0)
        weights = sorted((study / "models").rglob("*.safetensors"))
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in weights])
        shutil.rmtree(study / "models")
    different = sum(one != other for one, other in zip(*digests, strict=True))
    rows = [{"files of weights": len(digests[0]), "different in the second run": different}]
    return {"The same training twice": rows}, {"files of weights that differ": Gate(different, most=0)}


def side_by_side(size: Size, folder: Path) -> Measured:
    """Experiments side by side on one GPU: `xraylab repro --jobs N`, or stage `train` alone where there is no DVC."""
    change = small if size is SMALL else (lambda tree: None)
    study = studies.begun(folder / "jobs", lambda tree: (change(tree), several(tree, size.jobs)))
    with_dvc = size.dvc and studies.has_dvc()
    if with_dvc:
        studies.repro(study, "features")
    else:
        for each in studies.BEFORE:
            studies.stage(study, each)
    seconds = {}
    for jobs in (1, size.jobs) if size.gated else (size.jobs,):
        copy = folder / f"jobs-{jobs}"
        shutil.copytree(study, copy, symlinks=True)
        if with_dvc:
            seconds[jobs] = studies.command(copy, sys.executable, "-m", "xraylab", "repro", "--jobs", str(jobs))
        else:
            seconds[jobs] = studies.trained_at_once(copy, jobs)
        measure.say(f"{jobs} at a time: {seconds[jobs]:.1f} s")
    how = "xraylab repro" if with_dvc else "stage train alone"
    rows = [
        {"at a time": jobs, "experiments": size.jobs, "how": how, "seconds": round(each, 1)}
        for jobs, each in seconds.items()
    ]
    if not size.gated:
        return {"Experiments side by side": rows}, {}
    times = seconds[1] / seconds[size.jobs]
    return {"Experiments side by side": rows}, {f"{size.jobs} jobs, times one after another": Gate(times, 1.0)}


def small(tree: dict[str, Any]) -> None:
    """One experiment on a few dozen images."""
    tree["data"]["demo"].update(n_healthy=24, n_tb=12, size=64)
    tree["images"]["size"] = tree["model"]["img_size"] = 32
    tree["train"].update(epochs=2, batch_size=8)
    tree["explain"].update(images=1, occlusion_patch=0.5, occlusion_stride=0.5)
    several(tree, 1)


def several(tree: dict[str, Any], count: int) -> None:
    """So many experiments, which differ in dropout; the baseline is the first."""
    tree["experiments"] = {"baseline": {}} | {f"other{n}": {"model": {"dropout": n / 10}} for n in range(1, count)}


PARTS: dict[str, Callable[[Size, Path], Measured]] = {
    "training": networks_alone,
    "fastai": fastai_defaults,
    "paths": both_paths,
    "bits": same_bits,
    "jobs": side_by_side,
    "studies": whole_studies,
}


def parts(names: list[str], size: Size) -> tuple[Tables, dict[str, Gate], dict[str, str]]:
    """What those parts measured, their gates, and why any failed."""
    tables: Tables = {}
    gates: dict[str, Gate] = {}
    failed: dict[str, str] = {}
    for name in names:
        measure.say(f"part {name}")
        with tempfile.TemporaryDirectory() as folder:
            try:
                more, checked = PARTS[name](size, Path(folder))
            except Exception as error:  # whatever it is, the other parts are still to be measured
                traceback.print_exc()
                failed[name] = f"{type(error).__name__}: {error}"
                continue
        tables, gates = tables | more, gates | checked
    return tables, gates, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few tiny images, on a CPU too")
    parser.add_argument("--to", type=Path, default=measure.RESULTS, help="folder of the result")
    parser.add_argument("part", nargs="*", choices=[[], *PARTS], help="all, where none is named")
    given = parser.parse_args()
    if not given.small and not torch.cuda.is_available():
        sys.exit("there is no GPU that torch can use; `--small` shows without one that everything runs")
    memory.keep_freed()
    hardware.deterministic_algorithms()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    tables, gates, failed = parts(given.part or list(PARTS), SMALL if given.small else FULL)
    computed_in = [each.precision for each in precisions()]
    sys.exit(0 if measure.write("accelerator", tables, gates, computed_in, device, failed, given.to) else 1)


if __name__ == "__main__":
    main()
