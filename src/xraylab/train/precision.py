"""Mixed precision around fastai's loop; its own works on CUDA alone and says nothing elsewhere."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from fastai.callback.core import Callback, CancelBatchException
from torch.amp.grad_scaler import GradScaler
from torch.nn import Parameter

from xraylab.model.hardware import Hardware, laid_out

# fastai carries no types, so to mypy each callback subclasses Any: hence the ignores below


class Autocast(Callback):  # type: ignore[misc]
    """Forward pass and loss in the chosen precision, weights and predictions in float32."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware, self.open = hardware, ExitStack()

    def before_batch(self) -> None:
        self.learn.xb = tuple(laid_out(images, self.hardware.device) for images in self.xb)
        self.open.enter_context(self.hardware.autocast())

    def after_pred(self) -> None:
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        self.open.close()


class LossScaling(Callback):  # type: ignore[misc]
    """Differentiates the loss times a scale, so that float16 holds the small gradients too; a step sees the true ones.

    Where they overflow there is no step at all, and the next one has half the scale (Micikevicius et al., "Mixed
    precision training", ICLR 2018).
    """

    order, run_valid = 10.5, False  # after batches have accumulated, before gradients are bounded
    saved_as = "loss_scaling"

    def __init__(self, device: str) -> None:
        self.device = device
        self.start()

    def start(self) -> None:
        """Begin with torch's first scale."""
        self.scaler = GradScaler(self.device)

    def before_backward(self) -> None:
        self.learn.loss_grad = self.scaler.scale(self.loss_grad)

    def before_step(self) -> None:
        step = _Step(self.model.parameters())
        self.scaler.step(step)  # type: ignore[arg-type]  # it needs no more of an optimizer than that
        self.scaler.update()
        if not step.taken:
            self.opt.zero_grad()
            raise CancelBatchException  # after CancelStepException, fastai would say that there was a step

    def state(self) -> dict[str, Any]:
        return dict(self.scaler.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state)


class _Step:
    """What the scaler takes for an optimizer: it divides the gradients, and then the step is taken, or it is not."""

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self.param_groups = [{"params": list(parameters)}]
        self.taken = False

    def step(self) -> None:
        self.taken = True
