"""Pre-activation ResNet-18 as in BackdoorBench: the network of its tables and of FT-SAM's."""

from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.models.base import Classifier
from poisonlab.models.resnet import projection, stages
from poisonlab.registry import Card, victim
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param

BLOCKS = (2, 2, 2, 2)  # of each stage
# Fewer crash oneDNN on images of 64 pixels: strided 1x1 convolutions in channels_last (torch 2.14).
NARROWEST = 16


class PreActBlock(nn.Module):
    """Norm and activation stand before each 3x3 convolution; a projected shortcut starts at the first activation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        past = x if self.shortcut is None else self.shortcut(activated)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return out + past


class PreActResNet18Config(Config):
    width: int = param(64, "Channels of the first stage", ge=NARROWEST, le=256, source="BackdoorBench")


@victim("preact_resnet18")
class PreActResNet18:
    """11,171,146 parameters at ten classes; no norm after the last block, so that features can be negative."""

    Config = PreActResNet18Config
    card = Card(
        title="PreAct-ResNet-18",
        references=(
            Reference(
                authors="K. He et al.",
                title="Identity Mappings in Deep Residual Networks",
                venue="ECCV",
                year=2016,
                arxiv="1603.05027",
                detail="in BackdoorBench's form",
            ),
        ),
        summary="A ResNet-18 whose norms and activations stand before the convolutions. The network of "
        "BackdoorBench's tables. For GPUs.",
        deviations=("Pixels are normalized by the training set's own statistics, as for every victim here.",),
    )

    def __init__(self, config: PreActResNet18Config) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        width = self.config.width
        stem = nn.Conv2d(shape[0], width, 3, 1, 1, bias=False)
        residual, features = stages(width, BLOCKS, PreActBlock)
        body = nn.Sequential(stem, *residual, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Classifier(body, features, classes, mean, std)
