"""Optimizers behind fastai's interface: torch's, fused where it can, so that a step is one call; timm's; fastai's."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from fastai.optimizer import Lamb, OptimWrapper, ranger

from xraylab.model import lazy_compiler
from xraylab.params.train import TrainPhase

Factory = Callable[..., Any]


def adafactor(params: Any, **options: Any) -> torch.optim.Optimizer:
    """timm's, whose states are small: momentum in bfloat16, and of squared gradients the means of rows and columns.

    Zhai et al., "Scaling vision transformers", CVPR 2022 (arXiv:2106.04560); on a processor and on a GPU alike.
    """
    from timm.optim.adafactor_bv import AdafactorBigVision  # noqa: PLC0415 - takes seconds

    return AdafactorBigVision(params, **options)


OPTIMIZERS: dict[str, Factory] = {
    "adam": partial(OptimWrapper, opt=torch.optim.Adam, fused=True),
    "adamw": partial(OptimWrapper, opt=torch.optim.AdamW, fused=True),
    "sgd": partial(OptimWrapper, opt=torch.optim.SGD, fused=True),
    "rmsprop": partial(OptimWrapper, opt=torch.optim.RMSprop, foreach=True),
    "adafactor": partial(OptimWrapper, opt=adafactor),
    "ranger": ranger,
    "lamb": Lamb,
}
OF_FASTAI = ("ranger", "lamb")


def create_optimizer(cfg: TrainPhase) -> Factory:
    """The `opt_func` of a phase of training."""
    return factory(cfg.optimizer, cfg.weight_decay, cfg.momentum)


def factory(name: str, weight_decay: float, momentum: float | None) -> Factory:
    """An `opt_func` for a fastai Learner.

    `adam`, `sgd` and `rmsprop` couple weight decay with the gradient, the others do not.
    """
    decay = {"wd" if name in OF_FASTAI else "weight_decay": weight_decay}
    options: dict[str, Any] = {} if momentum is None else {"momentum": momentum}
    lazy_compiler.optimizers_do_without()
    return partial(OPTIMIZERS[name], **decay, **options)


def state(optimizer: Any) -> dict[str, Any]:
    """The optimizer's state in plain lists, dicts and tensors; fastai's own have lists of another kind."""
    plain: dict[str, Any] = _plain(optimizer.state_dict())
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, str | torch.Tensor) or not hasattr(value, "__iter__"):
        return value
    return tuple(map(_plain, value)) if isinstance(value, tuple) else [_plain(item) for item in value]
