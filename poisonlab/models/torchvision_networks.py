"""Any classifier of torchvision as a victim."""

import inspect

from pydantic import field_validator
from torch import Tensor, nn
from torchvision import models

from poisonlab.models.base import Classifier
from poisonlab.models.shared.foreign import as_victim, check_known, without_chance
from poisonlab.registry import Card, victim
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param

# no linear layer at the end, or several outputs
LEFT_OUT = ("squeezenet1_0", "squeezenet1_1", "googlenet", "inception_v3")


class TorchvisionConfig(Config):
    model: str = param("resnet18", "Name of the network in torchvision")

    @field_validator("model")
    @classmethod
    def _known(cls, name: str) -> str:
        names = [known for known in models.list_models(module=models) if known not in LEFT_OUT]
        return check_known(name, names, "torchvision")


@victim("torchvision")
class TorchvisionNetwork:
    """``torchvision.models.get_model(name)`` with random weights."""

    Config = TorchvisionConfig
    card = Card(
        title="A network of torchvision",
        references=(
            Reference(
                authors="TorchVision maintainers and contributors",
                title="TorchVision: PyTorch's Computer Vision library",
                year=2016,
            ),
        ),
        summary="Any classifier of torchvision from random weights: ResNets, VGGs, DenseNets, MobileNets, "
        "EfficientNets, ConvNeXts, vision transformers. --victim torchvision:NAME on the command line.",
        deviations=(
            "Dropout and stochastic depth are switched off, so that training depends on the seed alone.",
            "The last linear layer is drawn as all victims' are here; images of one channel are given three times.",
            "These networks were made for images of 224 pixels: on thumbnails most of them shrink the image too early.",
        ),
    )

    def __init__(self, config: TorchvisionConfig) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        name = self.config.model

        def build() -> nn.Module:
            takes = inspect.signature(models.get_model_builder(name)).parameters
            size = {"image_size": shape[1]} if "image_size" in takes or name.startswith("vit_") else {}
            return without_chance(headless(models.get_model(name, weights=None, **size)))

        return as_victim(f"torchvision:{name}", build, shape, classes, mean, std)


def headless(network: nn.Module) -> nn.Module:
    """The network with its last linear layer replaced by the identity."""
    last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    network.set_submodule(last, nn.Identity())
    return network
