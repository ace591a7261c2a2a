"""HyperlightBench: a small network for very short trainings (T. Balsam 2023), as PureGen uses it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.models.base import Classifier
from poisonlab.registry import Card, victim
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.spec.papers import PUREGEN

LEAST_VARIANCE = 5e-4  # added to the variance of each direction before it is divided by
STEM = 24  # filters of a first convolution that is learned
PIECE = 500  # images whose patches are looked at together
SMALLEST = 9  # side of an image that three halvings leave something of


class DiracConv(nn.Conv2d):
    """A 3x3 convolution whose first filters hand each input channel on unchanged at the start of training."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 1, 1, bias=False)

    def initialize(self, generator: torch.Generator) -> None:
        nn.init.kaiming_uniform_(self.weight, 5**0.5, generator=generator)
        nn.init.dirac_(self.weight.data[: self.in_channels])


def fix(module: nn.Module, name: str) -> None:
    """Turn a parameter into a buffer: neither training nor a repair moves it, pruning may still replace it."""
    value = getattr(module, name).detach()
    delattr(module, name)
    module.register_buffer(name, value)


class Whitening(nn.Conv2d):
    """A fixed 2x2 convolution whose outputs, for patches of the training images, are uncorrelated and of variance 1.

    Its filters are the eigenvectors of the patches' covariance over the root of their variance, and their negatives.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, 2 * 4 * inputs, 2)
        nn.init.zeros_(self.weight)
        fix(self, "weight")

    def initialize(self, generator: torch.Generator) -> None:
        """The filters are those of the images, also in a network that is drawn anew: nothing here is drawn."""

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Set the filters from normalized images ``(n, c, h, w)``."""
        size = 4 * self.in_channels
        covariance = torch.zeros(size, size, dtype=torch.float64, device=x.device)
        for part in x.split(PIECE):  # all patches at once take half a gigabyte
            patches = F.unfold(part, 2).transpose(0, 1).flatten(1).double()  # (4 c, places of all images)
            covariance += patches @ patches.T / patches.shape[1] * len(part) / len(x)
        variances, directions = torch.linalg.eigh(covariance)
        filters = (directions / (variances + LEAST_VARIANCE).sqrt()).T.flip(0)  # the largest first
        filters = filters.view(-1, self.in_channels, 2, 2).to(self.weight)
        self.weight.copy_(torch.cat([filters, -filters]))


class Norm(nn.BatchNorm2d):
    """Batch norm that learns a bias but no scale."""

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__(channels, eps=1e-12, momentum=momentum)
        fix(self, "weight")


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
    whitening: bool = param(
        False,
        "The first convolution whitens 2x2 patches of the training images and is not trained",
        neutral=False,
        full=True,
        source="airbench94; not in the PureGen repository",
    )
    bn_momentum: float = param(
        0.7,
        "Weight of the newest batch in the running statistics",
        full=0.4,
        gt=0,
        le=1,
        source="PureGen repository, S; airbench94: 0.4",
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
            Reference(
                authors="K. Jordan",
                title="94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
                year=2024,
                arxiv="2404.00498",
                detail="whitening, recipe",
            ),
        ),
        summary="Six convolutions with GELU that start as the identity, and a 2x2 convolution before them; on a GPU "
        "some fifteen epochs are enough for CIFAR-10. PureGen's fast victim.",
        deviations=(
            "Trained with the dataset's recipe. That of the preset full is airbench94's, ten epochs (CIFAR-10: 12); "
            "PureGen's has 15 and a peak rate of 11.6 for sums over 1,024 images, 64.5 times as much for the batch "
            "norms' biases.",
            "The linear head has a bias, as every victim's here.",
            "The first convolution is learned, as in PureGen; under the preset full it is fixed and whitens 2x2 "
            "patches of the victim's own training images, and its bias is trained to the end, not for three epochs.",
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
        if self.config.whitening:
            filters = 8 * shape[0]
            stem: list[nn.Module] = [Whitening(shape[0])]  # (n, filters, h - 1, w - 1)
        else:
            filters = STEM
            stem = [nn.Conv2d(shape[0], filters, 2, bias=False), Norm(filters, momentum)]
        body = nn.Sequential(
            *stem,
            nn.GELU(),
            *conv_group(filters, first, momentum),
            *conv_group(first, others, momentum),
            *conv_group(others, others, momentum),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        return Classifier(body, others, classes, mean, std, logit_scale=1 / 9)
