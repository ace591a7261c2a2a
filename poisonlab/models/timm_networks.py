"""Any classifier of timm as a victim."""

import re
from types import ModuleType

from pydantic import field_validator
from torch import Tensor, nn

from poisonlab.models.base import Classifier
from poisonlab.models.shared.foreign import COLORS, as_victim, check_known, without_chance
from poisonlab.registry import Card, victim
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param

NAME = re.compile(r"[a-z0-9_]{1,80}")
MISSING = "timm is not installed; pip install 'poisonlab[timm]' or pip install timm"


class TimmConfig(Config):
    model: str = param("resnet10t", "Name of the network in timm")

    @field_validator("model")
    @classmethod
    def _known(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{name[:60]!r} is no name of a network: small letters, digits, underscores, and "
                "no tag of weights, which are random here"
            )
        library = _library()
        return (
            name
            if library is None or library.is_model(name)
            else check_known(name, library.list_models(), "timm")
        )


@victim("timm")
class TimmNetwork:
    """``timm.create_model(name, pretrained=False)``."""

    Config = TimmConfig
    card = Card(
        title="A network of timm",
        references=(
            Reference(
                authors="R. Wightman", title="PyTorch Image Models", year=2019, doi="10.5281/zenodo.4414861"
            ),
        ),
        summary="Any of a thousand classifiers of timm from random weights: small vision transformers, ConvNeXts, "
        "EfficientNets. --victim timm:NAME on the command line; needs the package timm.",
        deviations=(
            "Dropout and stochastic depth are switched off, so that training depends on the seed alone.",
            "The last linear layer is drawn as all victims' are here; images of one channel are given three times.",
        ),
    )

    def __init__(self, config: TimmConfig) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        library = _library()
        if library is None:
            raise ValueError(MISSING)
        name = self.config.model

        def build() -> nn.Module:
            settings = {"pretrained": False, "num_classes": 0, "in_chans": COLORS}
            try:
                network = library.create_model(name, img_size=shape[1], **settings)
            except TypeError:  # a network for images of any size
                network = library.create_model(name, **settings)
            return without_chance(network)

        return as_victim(f"timm:{name}", build, shape, classes, mean, std)


def _library() -> ModuleType | None:
    try:
        import timm  # noqa: PLC0415 - an extra, and seconds to import
    except ModuleNotFoundError:
        return None
    return timm
