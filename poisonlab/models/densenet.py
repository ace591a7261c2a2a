"""DenseNet-121 for small images (Huang et al. 2017, arXiv:1608.06993): 3x3 stem, no max-pooling."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.models.base import Classifier
from poisonlab.registry import Card, victim
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param

BLOCKS = (6, 12, 24, 16)  # layers of each dense block


class Bottleneck(nn.Module):
    """Batch norm before each convolution; ``growth`` new channels are put in front of those that came."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat([out, x], 1)  # (n, growth + inputs, h, w)


def transition(inputs: int, outputs: int) -> list[nn.Module]:
    """Between two dense blocks: fewer channels, half the side."""
    return [nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.AvgPool2d(2)]


class DenseNet121Config(Config):
    growth: int = param(32, "Channels that each layer adds", ge=2, le=64)


@victim("densenet121")
class DenseNet121:
    """K. Liu's CIFAR form (repository pytorch-cifar): 6,956,298 parameters at ten classes, 1,024 features."""

    Config = DenseNet121Config
    card = Card(
        title="DenseNet-121",
        references=(
            Reference(
                authors="G. Huang et al.",
                title="Densely Connected Convolutional Networks",
                year=2017,
                arxiv="1608.06993",
                detail="in the CIFAR form",
            ),
        ),
        summary="Every layer sees the outputs of all layers before it in its block. One of PureGen's victims. For "
        "GPUs. Its batch norms stand before the convolutions, which CLP cannot work with.",
    )

    def __init__(self, config: DenseNet121Config) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        growth = self.config.growth
        channels = 2 * growth
        layers: list[nn.Module] = [nn.Conv2d(shape[0], channels, 3, 1, 1, bias=False)]
        for number, count in enumerate(BLOCKS):
            if number:
                layers += transition(channels, channels // 2)
                channels //= 2
            for _ in range(count):
                layers.append(Bottleneck(channels, growth))
                channels += growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return Classifier(nn.Sequential(*layers), channels, classes, mean, std)
