"""MobileNetV2 for small images (Sandler et al. 2018, arXiv:1801.04381): 3x3 stem, the early strides left out."""

from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.models.base import Classifier
from poisonlab.registry import Card, victim
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param

# expansion, channels, blocks, stride of the first block
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),  # stride 2 in the paper, as in the stem
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST = 1280  # features


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without activation; a shortcut where the side stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = expansion * inputs
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.keeps_side = stride == 1
        self.shortcut = nn.Sequential()
        if self.keeps_side and inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        widened = F.relu(self.bn1(self.conv1(x)))
        filtered = F.relu(self.bn2(self.conv2(widened)))
        out: Tensor = self.bn3(self.conv3(filtered))
        if not self.keeps_side:
            return out
        shortcut: Tensor = self.shortcut(x)
        return out + shortcut


class MobileNetV2Config(Config):
    width: float = param(1.0, "Factor on all channels", gt=0, le=4)


@victim("mobilenetv2")
class MobileNetV2:
    """K. Liu's CIFAR form (repository pytorch-cifar): 2,296,922 parameters at ten classes, 1,280 features."""

    Config = MobileNetV2Config
    card = Card(
        title="MobileNetV2",
        references=(
            Reference(
                authors="M. Sandler et al.",
                title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
                year=2018,
                arxiv="1801.04381",
                detail="in the CIFAR form",
            ),
        ),
        summary="Seventeen blocks that filter each channel on its own: few parameters, made for telephones. One of "
        "PureGen's victims.",
        deviations=(
            "After K. Liu's CIFAR form: ReLU in place of ReLU6, no dropout, no stride in the stem and the second "
            "stage, and a 1x1 shortcut where a block changes the channels but not the side.",
        ),
    )

    def __init__(self, config: MobileNetV2Config) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        def scaled(channels: int) -> int:
            return max(1, round(self.config.width * channels))

        inputs = scaled(32)
        last = scaled(LAST)
        layers: list[nn.Module] = [
            nn.Conv2d(shape[0], inputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
        ]
        for expansion, channels, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, scaled(channels), expansion, 1 if block else stride))
                inputs = scaled(channels)
        layers += [nn.Conv2d(inputs, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU()]
        body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Classifier(body, last, classes, mean, std)
