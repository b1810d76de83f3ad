"""What optimizers and schedules do, ours and fastai's own, step by step."""

import torch
from fastai.callback.core import Callback, TrainEvalCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from torch import nn

from xraylab.model import optimizers, schedules


def one_step(name: str, momentum: float | None = None) -> float:
    p = nn.Parameter(torch.tensor([1.0]))
    opt = optimizers.factory(name, weight_decay=0.1, momentum=momentum)([[p]], lr=0.01)
    p.grad = torch.tensor([0.2])
    opt.step()
    return float(p)


def fastai_rates(method: str, **arguments: object) -> dict[str, list[object]]:
    """What fastai's own fit methods set, batch by batch."""
    recorded: dict[str, list[object]] = {"lr": [], "mom": []}

    class Record(Callback):
        order = 61
        run_valid = False

        def before_batch(self) -> None:
            recorded["lr"].append([hyper["lr"] for hyper in self.opt.hypers])
            recorded["mom"].append(self.opt.hypers[-1]["mom"])

    data = [(torch.zeros(3), torch.zeros(1))] * 8
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    opt_func = optimizers.factory("adam", weight_decay=0.0, momentum=None)
    learn = Learner(
        DataLoaders(loader, loader, device="cpu"), network, nn.MSELoss(), opt_func=opt_func, default_cbs=False,
        splitter=lambda m: [list(layer.parameters()) for layer in m], cbs=[TrainEvalCallback, Record],
        train_bn=False, wd_bn_bias=True,
    )  # fmt: skip
    getattr(learn, method)(**arguments)
    return recorded


def our_rates(phases: list[schedules.Phase], batches: int) -> dict[str, list[object]]:
    recorded: dict[str, list[object]] = {"lr": [], "mom": []}
    for phase in phases:
        for step in range(phase.epochs * batches):
            for name, curve in phase.curves.items():
                recorded[name].append(curve(step / (phase.epochs * batches)))
    return recorded
