"""Parts of the network that do not train: for a phase, or throughout."""

import torch
from fastai.callback.core import Callback
from torch import nn

from xraylab.model import compiling, features
from xraylab.model.hardware import memory_format

# fastai carries no types, so to mypy each callback subclasses Any: hence the ignores below


class Frozen(Callback):  # type: ignore[misc]
    """Holds parts of the network still: their weights, and their batch norm statistics too."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self.modules = modules

    def before_fit(self) -> None:
        parameters = (p for module in self.modules for p in module.parameters())
        self.trained = [p for p in parameters if p.requires_grad]  # some may be frozen throughout
        self._require_gradients(False)

    def before_train(self) -> None:
        for module in self.modules:
            module.eval()

    def after_fit(self) -> None:
        self._require_gradients(True)

    def _require_gradients(self, wanted: bool) -> None:
        for parameter in self.trained:
            parameter.requires_grad_(wanted)


class Held(Callback):  # type: ignore[misc]
    """Shows modules whose weights are frozen that nobody trains them; with `adapt` their batch norms go on learning."""

    def __init__(self, modules: list[nn.Module], adapt: bool) -> None:
        self.modules, self.adapt = modules, adapt

    def before_train(self) -> None:
        for module in self.modules:
            module.eval()
            for part in module.modules():
                if self.adapt and isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.train()


class FrozenPart(Callback):  # type: ignore[misc]
    """Shows the trained part what the frozen part makes of the images, with its batch norms folded, as features are."""

    order = 1  # within Autocast

    def __init__(self, part: nn.Module) -> None:
        self.part, _ = compiling.fuse_batch_norm(part)

    def before_fit(self) -> None:
        device = torch.device(self.dls.device)
        self.part.to(memory_format=memory_format(device.type)).to(device)

    def before_batch(self) -> None:
        self.learn.xb = (features.handed_on(self.part, *self.xb),)
