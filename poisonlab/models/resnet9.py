"""A fast nine-layer residual network in the manner of DAWNBench entries (D. Page 2018)."""

from torch import Tensor, nn

from poisonlab.models.base import Classifier
from poisonlab.registry import Card, victim
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param


def conv_block(inputs: int, outputs: int, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


class Residual(nn.Module):
    """``x + block(block(x))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(conv_block(channels, channels), conv_block(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.blocks(x)
        return x + residual


class ResNet9Config(Config):
    width: int = param(64, "Channels of the first layer", ge=4, le=256)


@victim("resnet9")
class ResNet9:
    """6.6 M parameters at width 64."""

    Config = ResNet9Config
    card = Card(
        title="ResNet-9",
        references=(
            Reference(
                authors="D. Page",
                title="How to Train Your ResNet",
                year=2018,
            ),
        ),
        summary="Shallow and wide, made for short one-cycle schedules on a GPU.",
    )

    def __init__(self, config: ResNet9Config) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        w = self.config.width
        body = nn.Sequential(
            conv_block(shape[0], w),
            conv_block(w, 2 * w, pool=True),
            Residual(2 * w),
            conv_block(2 * w, 4 * w, pool=True),
            conv_block(4 * w, 8 * w, pool=True),
            Residual(8 * w),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        return Classifier(body, 8 * w, classes, mean, std, logit_scale=0.125)
