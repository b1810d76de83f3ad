"""torch's optimizers behind fastai's interface; fused, so that a step is one call and not one per parameter."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from fastai.optimizer import OptimWrapper

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def factory(name: str, weight_decay: float, momentum: float | None) -> Callable[..., OptimWrapper]:
    """An `opt_func` for a fastai Learner. `adam` couples weight decay with the gradient, `adamw` does not."""
    own: dict[str, Any] = {} if momentum is None else {"momentum": momentum}
    return partial(OptimWrapper, opt=OPTIMIZERS[name], weight_decay=weight_decay, fused=True, **own)
