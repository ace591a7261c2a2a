"""VGG-19 with batch norm, in the form that small images take: one linear layer on 512 features."""

from torch import Tensor, nn

from poisonlab.models.base import Classifier
from poisonlab.registry import Card, victim
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param

CONVOLUTIONS = (2, 2, 4, 4, 4)  # of each stage, which ends with a pooling that halves the side
WIDEST = 8  # times the first stage's channels


class VGG19BNConfig(Config):
    width: int = param(64, "Channels of the first stage", ge=4, le=128, source="the paper, configuration E")


@victim("vgg19_bn")
class VGG19BN:
    """20,040,522 parameters at ten classes; 5,504 batch-norm channels."""

    Config = VGG19BNConfig
    card = Card(
        title="VGG-19 with batch norm",
        references=(
            Reference(
                authors="K. Simonyan, A. Zisserman",
                title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
                venue="ICLR",
                year=2015,
                arxiv="1409.1556",
            ),
        ),
        summary="Sixteen 3x3 convolutions one after the other, no shortcuts. BackdoorBench's second network.",
        deviations=(
            "One linear layer on 512 features, as is usual for small images; BackdoorBench takes torchvision's three, "
            "139.6 M parameters, of which 119.6 M read 49 copies of each feature.",
        ),
    )

    def __init__(self, config: VGG19BNConfig) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        layers: list[nn.Module] = []
        inputs = shape[0]
        side = min(shape[1:])
        for stage, count in enumerate(CONVOLUTIONS):
            outputs = self.config.width * min(2**stage, WIDEST)
            for _ in range(count):
                convolution = nn.Conv2d(inputs, outputs, 3, 1, 1)
                layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            if side > 1:  # images of 16 pixels have nothing left to halve after four stages
                layers.append(nn.MaxPool2d(2))
                side //= 2
        body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Classifier(body, inputs, classes, mean, std)
