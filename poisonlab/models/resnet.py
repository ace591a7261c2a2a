"""CIFAR-style residual networks (He et al. 2016, arXiv:1512.03385): 3x3 stem, no max-pooling."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.models.base import Classifier
from poisonlab.registry import Card, victim
from poisonlab.spec.config import Config, param
from poisonlab.spec.papers import RESNET

# In the gradient of a strided 1x1 convolution in channels_last, oneDNN writes out of bounds where there are few input
# channels (torch 2.14; how few depends on the processor and on the number of threads).
NARROWEST = 8
FEW_CHANNELS = 16


class Strided1x1(nn.Conv2d):
    """A 1x1 convolution of every second pixel, taken first: the same numbers without oneDNN's strided kernel."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, bias=False)
        self.every = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, :: self.every, :: self.every])


def projection(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    """The 1x1 convolution of a shortcut."""
    if stride > 1 and inputs < FEW_CHANNELS:
        return Strided1x1(inputs, outputs, stride)
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut that is 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(projection(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


def stages(
    width: int, blocks: Sequence[int], block: Callable[[int, int, int], nn.Module]
) -> tuple[list[nn.Module], int]:
    """Residual blocks of widths ``width, 2 width, ...``, and the last width; all stages but the first halve the side.

    Args:
        blocks: how many each stage has.
        block: input channels, output channels, stride -> a block.
    """
    layers: list[nn.Module] = []
    inputs = width
    for stage, count in enumerate(blocks):
        outputs = width * 2**stage
        for number in range(count):
            layers.append(block(inputs, outputs, 2 if stage and not number else 1))
            inputs = outputs
    return layers, inputs


def resnet_body(channels: int, width: int, blocks: tuple[int, ...]) -> tuple[nn.Module, int]:
    """Stem and stages of widths ``width, 2 width, ...``; returns the body and its feature count."""
    stem = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    residual, features = stages(width, blocks, BasicBlock)
    return nn.Sequential(*stem, *residual, nn.AdaptiveAvgPool2d(1), nn.Flatten()), features


class ResNet:
    """Base of the CIFAR-style residual networks.

    Class attributes:
        blocks: residual blocks of each stage.
    """

    blocks: ClassVar[tuple[int, ...]]

    def __init__(self, config: Any) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        body, features = resnet_body(shape[0], self.config.width, self.blocks)
        return Classifier(body, features, classes, mean, std)


class ResNet18Config(Config):
    width: int = param(64, "Channels of the first stage", ge=NARROWEST, le=256)


@victim("resnet18")
class ResNet18(ResNet):
    """The paper-size victim: 11,173,962 parameters at ten classes."""

    Config = ResNet18Config
    blocks = (2, 2, 2, 2)
    card = Card(
        title="ResNet-18",
        references=(RESNET.cited(detail="in the CIFAR form"),),
        summary="Four stages of two residual blocks; the usual victim in the backdoor literature. For GPUs.",
    )


class ResNet8Config(Config):
    width: int = param(16, "Channels of the first stage", ge=NARROWEST, le=128)


@victim("resnet8")
class ResNet8(ResNet):
    """A narrow net for CPUs: 78 k parameters, 336 batch-norm channels at width 16."""

    Config = ResNet8Config
    blocks = (1, 1, 1)
    card = Card(
        title="ResNet-8",
        references=(RESNET.cited(detail="one block a stage"),),
        summary="Three residual blocks. Trains on a laptop in a minute and still learns backdoors fully.",
    )
