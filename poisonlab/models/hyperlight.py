"""HyperlightBench: a small network for very short trainings (T. Balsam 2023), as PureGen uses it."""

import torch
from torch import Tensor, nn

from poisonlab.models.base import Classifier
from poisonlab.registry import Card, victim
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.spec.papers import PUREGEN

SMALLEST = 9  # side of an image that three halvings leave something of


class DiracConv(nn.Conv2d):
    """A 3x3 convolution whose first filters hand each input channel on unchanged at the start of training."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 1, 1, bias=False)

    def initialize(self, generator: torch.Generator) -> None:
        nn.init.kaiming_uniform_(self.weight, 5**0.5, generator=generator)
        nn.init.dirac_(self.weight.data[: self.in_channels])


class Norm(nn.BatchNorm2d):
    """Batch norm that learns a bias but no scale."""

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__(channels, eps=1e-12, momentum=momentum)
        self.weight.requires_grad_(False)


def conv_group(inputs: int, outputs: int, momentum: float) -> list[nn.Module]:
    """Two convolutions; the side is halved after the first."""
    first = [DiracConv(inputs, outputs), nn.MaxPool2d(2), Norm(outputs, momentum), nn.GELU()]
    return [*first, DiracConv(outputs, outputs), Norm(outputs, momentum), nn.GELU()]


class HyperlightConfig(Config):
    first: int = param(
        64, "Channels of the first group; preset M: 128", ge=4, le=512, source="PureGen repository, S"
    )
    others: int = param(
        256,
        "Channels of the second and third group; preset M: 384",
        ge=4,
        le=1024,
        source="PureGen repository, S",
    )
    bn_momentum: float = param(
        0.7,
        "Weight of the newest batch in the running statistics",
        gt=0,
        le=1,
        source="PureGen repository, S",
    )


@victim("hyperlight")
class Hyperlight:
    """HLB_S of the PureGen repository: 1,972,816 parameters at ten classes, and a bias on the ten logits."""

    Config = HyperlightConfig
    card = Card(
        title="HyperlightBench",
        references=(
            Reference(
                authors="T. Balsam",
                title="hlb-CIFAR10",
                year=2023,
            ),
            PUREGEN.cited("as in"),
        ),
        summary="Six convolutions with GELU that start as the identity, and a 2x2 convolution before them; on a GPU "
        "some fifteen epochs are enough for CIFAR-10. PureGen's fast victim.",
        deviations=(
            "Trained with the dataset's recipe, not with its own: there 15 epochs with a triangular learning rate, "
            "64.5 times as large for the batch norms' biases, and label smoothing 0.2.",
            "The linear head has a bias, as every victim's here.",
            "The first convolution is learned, as in PureGen; the original's is fixed and whitens 2x2 patches.",
        ),
    )

    def __init__(self, config: HyperlightConfig) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        if min(shape[1:]) < SMALLEST:
            raise ValueError(f"hyperlight needs images of side {SMALLEST} or more, got {shape[1]}x{shape[2]}")
        first = self.config.first
        others = self.config.others
        momentum = self.config.bn_momentum
        body = nn.Sequential(
            nn.Conv2d(shape[0], 24, 2, bias=False),  # (n, 24, h - 1, w - 1)
            Norm(24, momentum),
            nn.GELU(),
            *conv_group(24, first, momentum),
            *conv_group(first, others, momentum),
            *conv_group(others, others, momentum),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        return Classifier(body, others, classes, mean, std, logit_scale=1 / 9)
