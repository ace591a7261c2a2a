"""ResNet-34 for small images (He et al. 2016, arXiv:1512.03385): 3x3 stem, no max-pooling."""

from poisonlab.models.resnet import NARROWEST, ResNet
from poisonlab.registry import Card, victim
from poisonlab.spec.config import Config, param
from poisonlab.spec.papers import RESNET


class ResNet34Config(Config):
    width: int = param(64, "Channels of the first stage", ge=NARROWEST, le=256)


@victim("resnet34")
class ResNet34(ResNet):
    """K. Liu's CIFAR form (repository pytorch-cifar): 21,282,122 parameters at ten classes."""

    Config = ResNet34Config
    blocks = (3, 4, 6, 3)
    card = Card(
        title="ResNet-34",
        references=(RESNET.cited(detail="in the CIFAR form"),),
        summary="Four stages of three, four, six and three residual blocks; PureGen's victim on Tiny-ImageNet. For "
        "GPUs.",
        deviations=(
            "Features are averaged over the whole picture; at 64x64 PureGen's code averages 4x4 places and flattens "
            "what is left, four times as many features.",
        ),
    )
