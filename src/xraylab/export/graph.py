"""A classifier as one network from gray levels to probabilities, for runtimes that know nothing of xraylab."""

import torch
from torch import Tensor, nn

from xraylab.data import augment
from xraylab.data.image_cache import Normalise
from xraylab.inference.classifier import Classifier

INPUT = "images"
OUTPUTS = ("probabilities", "calibrated")
"""Names of the input and the outputs; `calibrated` is there where a temperature was fitted."""
LEVELS = 255.0


class ClassifierGraph(nn.Module):
    """From prepared images, uint8 (n, size, size), to probabilities float32 (n, classes), and to calibrated ones.

    It computes what `Classifier` does after `prepare`: resizing, normalisation, network, softmax or sigmoid, and the
    temperature.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        record = classifier.record
        self.resize = resizing(classifier.size, record["img_size"])
        self.normalise = Normalisation(Normalise.recorded(record["normalise"]))
        self.network = classifier.network
        self.activation: nn.Module = nn.Sigmoid() if classifier.multi_label else nn.Softmax(dim=1)
        self.calibration = calibration(classifier)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Probabilities, and calibrated ones where there is a temperature."""
        p = self.activation(self.network(self.normalise(self.resize(images.float()))))
        return (p,) if self.calibration is None else (p, self.calibration(p))


class Normalisation(nn.Module):
    """Gray levels (n, h, w) from 0 to 255 to a network's input (n, channels, h, w)."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalise: Normalise) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(normalise.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(normalise.std).view(1, -1, 1, 1))

    def forward(self, levels: Tensor) -> Tensor:
        """Each channel with its own mean and standard deviation."""
        return (levels.unsqueeze(1) / LEVELS - self.mean) / self.std


def resizing(size: int, target: int) -> nn.Module:
    """Resizing of gray levels (n, size, size) as `augment.resize` does it, rounded to whole levels.

    Sums that end in one half are frequent, and another order of adding rounds some the other way: shrinking adds
    as OpenCV does, to the last bit; of an enlarged image the matrix library decides a few pixels in 10,000.
    """
    if target == size:
        return nn.Identity()
    if target > size:
        return Enlarging(size, target)
    return Blocks(target, size // target) if size % target == 0 else Shrinking(size, target)


class Enlarging(nn.Module):
    """Products with the weights of `augment.area_weights`."""

    weights: Tensor

    def __init__(self, size: int, target: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(augment.area_weights(size, target)))

    def forward(self, levels: Tensor) -> Tensor:
        """(n, size, size) to (n, target, target)."""
        return torch.round(self.weights @ levels @ self.weights.T)


class Blocks(nn.Module):
    """Means of blocks of `factor` x `factor` pixels; one half is rounded to even, but upwards where it is 2."""

    def __init__(self, target: int, factor: int) -> None:
        super().__init__()
        self.target, self.factor = target, factor

    def forward(self, levels: Tensor) -> Tensor:
        """(n, size, size) to (n, size / factor, size / factor)."""
        blocks = levels.reshape(-1, self.target, self.factor, self.target, self.factor)
        mean = blocks.sum(dim=(2, 4)) * (1 / self.factor**2)
        return torch.floor(mean + 0.5) if self.factor == 2 else torch.round(mean)


class Shrinking(nn.Module):
    """Sums of weighted pixels, first along each row, then along each column, in the order of the pixels."""

    positions: Tensor
    weights: Tensor

    def __init__(self, size: int, target: int) -> None:
        super().__init__()
        table = torch.tensor(augment.area_weights(size, target))
        most = int((table > 0).sum(dim=1).max())
        positions = table.gt(0).to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :most]
        self.register_buffer("positions", positions.T.contiguous())
        self.register_buffer("weights", table.gather(1, positions).T.contiguous())

    def forward(self, levels: Tensor) -> Tensor:
        """(n, size, size) to (n, target, target)."""
        return torch.round(self._along(self._along(levels, 2), 1))

    def _along(self, levels: Tensor, axis: int) -> Tensor:
        shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
        total = levels.index_select(axis, self.positions[0]) * self.weights[0].view(shape)
        for at, weight in zip(self.positions[1:], self.weights[1:], strict=True):
            total = total + levels.index_select(axis, at) * weight.view(shape)
        return total


class Temperatures(nn.Module):
    """Temperature scaling of probabilities, as `evaluate.temperature.scale`; of findings each by its own."""

    temperatures: Tensor

    def __init__(self, temperatures: list[float], multi_label: bool) -> None:
        super().__init__()
        self.register_buffer("temperatures", torch.tensor(temperatures))
        self.multi_label = multi_label

    def forward(self, p: Tensor) -> Tensor:
        """(n, classes) to (n, classes)."""
        least = torch.finfo(torch.float32).tiny
        if not self.multi_label:
            return torch.softmax(p.clamp(min=least).log() / self.temperatures, dim=1)
        odds = p.clamp(min=least).log() - (1 - p).clamp(min=least).log()
        return torch.sigmoid(odds / self.temperatures)


def calibration(classifier: Classifier) -> Temperatures | None:
    """The temperature of the classes, or those of all findings; None where none was fitted."""
    thresholds = classifier.thresholds
    if not classifier.multi_label:
        return None if thresholds.temperature is None else Temperatures([thresholds.temperature], False)
    if any(name not in thresholds.temperatures for name in classifier.classes):
        return None
    return Temperatures([thresholds.temperatures[name] for name in classifier.classes], True)
