"""Several processes for one training, started by torchrun's own launcher: one per GPU, or so many on the CPU."""

import contextlib
import json
import logging
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from xraylab import files, leftovers, processes
from xraylab.errors import TrainingError, XraylabError
from xraylab.params.train import Train

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # torchrun's: where a process says what it failed of
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # gloo's words, where another has ended
GRACE = 3  # seconds for the others to end once one has
# a process that ended is seen by the launcher; one that is slow, such as while another writes to a slow disk, is no
# error
PATIENCE = timedelta(days=1)


def count_devices(cfg: Train) -> int:
    """How many devices of this machine train one network. Errors: TrainingError where there are not so many."""
    if cfg.devices in ("auto", 1):
        return 1
    gpus = _gpus()
    if torch.backends.mps.is_available():
        gpus = ["Apple GPU"]
    number = max(len(gpus), 1) if cfg.devices == "all" else int(cfg.devices)
    if gpus and number > len(gpus):
        raise TrainingError(
            f"train.devices: {number}, and torch sees {len(gpus)} GPU{'s' if len(gpus) > 1 else ''} here: lower it, or "
            "set it to all; CUDA_VISIBLE_DEVICES may hide some"
        )
    if len(set(gpus[:number])) > 1:
        raise TrainingError(
            f"train.devices: the GPUs differ ({', '.join(gpus[:number])}), and would come to different bits: choose "
            "equal ones by CUDA_VISIBLE_DEVICES"
        )
    if cfg.batch_size < 2 * number:
        raise TrainingError(
            f"train.batch_size: {number} devices share a batch of {cfg.batch_size}, two images or more each: set it to "
            f"{2 * number} or more, or lower train.devices"
        )
    return number


def describe(number: int) -> list[str]:
    """A line where there are no GPUs for so many processes."""
    shared = f"train.devices: {number}, and torch sees no GPU here: {number} processes share the CPU"
    return [] if _gpus() else [shared]


def _gpus() -> list[str]:
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def start(root: Path, experiment: str, repeat: int, number: int) -> None:
    """Run the stage `train` in so many processes until all are done.

    Errors: TrainingError as the first process to fail says it, once the others have ended.
    """
    # torchrun's modules take a second to import, and most trainings need one process
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415

    with leftovers.temporary_folder() as logs, _environment(number), contextlib.chdir(root):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=number,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            shutdown_timeout=GRACE,
            logs_specs=DefaultLogsSpecs(log_dir=str(logs)),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "xraylab", "train", experiment, str(repeat))
        except SignalException as ended:
            sys.exit(128 + ended.sigval)
        except ChildFailedError as failed:
            # those that were ended for the failure of another are among them
            rank, failure = min(failed.failures.items(), key=lambda each: each[1].exitcode == -signal.SIGTERM)
            raise _error(rank, number, failure.exitcode, failure.error_file_data) from None


@contextlib.contextmanager
def _environment(number: int) -> Iterator[None]:
    """The processes share the cores, and import this very xraylab; what torchrun logs is not shown."""
    logging.disable(logging.ERROR)  # torchrun's, of what `start` says itself
    before = dict(os.environ)
    path = [str(Path(files.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ |= {processes.LAUNCHER: str(os.getpid()), "PYTHONPATH": os.pathsep.join(path)}
    os.environ.setdefault("OMP_NUM_THREADS", str(max(torch.get_num_threads() // number, 1)))
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        os.environ.clear()
        os.environ.update(before)


def _error(rank: int, number: int, exit_code: int, record: dict[str, Any]) -> TrainingError:
    """What a process said that it failed of, or how it ended."""
    if "headline" in record:
        return TrainingError(record["headline"], record["problems"])
    went_on = "the others were ended; the same command goes on after the last finished epoch"
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = " (as Linux does where memory runs out: `dmesg` tells)" if name == "SIGKILL" else ""
        return TrainingError(f"process {rank} of {number} was ended by {name}{hint}: {went_on}")
    return TrainingError(f"process {rank} of {number} ended with exit code {exit_code}: {went_on}")


def is_one_of_several() -> bool:
    """Whether this process is one that `start` started."""
    return processes.LAUNCHER in os.environ


def take_part(work: Callable[[], None]) -> None:
    """Do `work` as one of the processes; the first alone prints. What it fails of is told to the launcher."""
    rank, cuda = int(os.environ["LOCAL_RANK"]), torch.cuda.is_available()
    if rank > 0:
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
    try:
        if cuda:
            torch.cuda.set_device(rank)
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
        work()
        dist.destroy_process_group()
    except Exception as error:
        if any(text in str(error) for text in LOST):
            time.sleep(GRACE)  # the one that has ended is the one to speak of: the launcher ends this one
        _tell(error, rank)
        os._exit(1)  # a normal exit would wait for the other processes


def _tell(error: Exception, rank: int) -> None:
    if isinstance(error, XraylabError):
        failure = {"headline": error.headline, "problems": error.problems}
    else:
        failure = {"headline": f"process {rank} failed:\n{traceback.format_exc()}", "problems": []}
    record = {"message": failure["headline"], "timestamp": int(time.time()), **failure}
    Path(os.environ[ERROR_FILE]).write_text(json.dumps(record))
