"""A plain stack of convolutions and poolings, as MetaPoison crafts on."""

import re

from pydantic import field_validator
from torch import Tensor, nn

from poisonlab.models.base import Classifier
from poisonlab.registry import Card, victim
from poisonlab.spec.config import Config, param
from poisonlab.spec.papers import METAPOISON


class ConvNetConfig(Config):
    widths: str = param(
        "16-32-32-64-64",
        "Channels of each convolution; every one is followed by a pooling that halves the side",
        quick="16-32-32-64",
        source="MetaPoison repository, ConvNetBN",
    )
    norm: bool = param(
        True, "Batch norm after each convolution, which then has no bias", source="ConvNetBN; ConvNet: no"
    )

    @field_validator("widths")
    @classmethod
    def _numbers(cls, text: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,3}(-[1-9]\d{0,3}){0,7}", text):
            raise ValueError("name one to eight numbers of channels, such as 16-32-32-64-64")
        return text


@victim("convnet")
class ConvNet:
    """70,618 parameters with batch norm, 70,410 without, for ten classes at 32x32."""

    Config = ConvNetConfig
    card = Card(
        title="ConvNet",
        references=(METAPOISON.cited("as in the repository of"),),
        summary="Convolution, batch norm, ReLU and pooling, five times over. Small enough to unroll its training.",
        deviations=(
            "Weights start He-normal as every victim's here, in the repository by Xavier's rule.",
            "In evaluation batch norm uses its running statistics; the repository uses those of the batch always.",
        ),
    )

    def __init__(self, config: ConvNetConfig) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        inputs, height, width = shape
        layers: list[nn.Module] = []
        for outputs in map(int, self.config.widths.split("-")):
            layers.append(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=not self.config.norm))
            if self.config.norm:
                layers.append(nn.BatchNorm2d(outputs))
            layers += [nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]  # a side of 1 stays 1
            inputs = outputs
            height = (height + 1) // 2
            width = (width + 1) // 2
        features = inputs * height * width
        return Classifier(nn.Sequential(*layers, nn.Flatten()), features, classes, mean, std)
