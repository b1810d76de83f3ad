"""A network with a ResNet's parts and a thousandth of its weights, and a study that begins with its weights."""

from pathlib import Path

import torch
from small import Change
from torch import Tensor, nn

from xraylab.model import networks, weights


def block(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, 8, 3), nn.BatchNorm2d(8), nn.ReLU())


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(8)
        self.relu, self.maxpool = nn.ReLU(), nn.Identity()
        self.layer1, self.layer2, self.layer3, self.layer4 = (block(8) for _ in range(4))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def pretrained(path: Path, seed: int = 7) -> Change:
    """Write weights to begin with, and return a change that begins with them."""
    torch.manual_seed(seed)
    weights.save(networks.build("resnet18", classes=5, channels=1, dropout=0.0), path)
    return lambda tree: tree["model"].update(pretrained=str(path))
