"""Victims that bring weights of their own are refused: training starts from weights that the seed draws."""

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from poisonlab.models.base import Classifier, drawn
from poisonlab.spec.config import VictimPart


@cache
def refuse_own_weights(victim: VictimPart, shape: tuple[int, int, int], classes: int) -> None:
    """Build a victim twice and compare: weights that come out equal were not drawn, but loaded or set.

    They would silently be drawn anew, and the measured numbers would not be those of the weights that were brought.

    Args:
        shape: ``(c, h, w)`` of an image.

    Raises:
        ValueError: names the weights.
    """
    statistics = torch.full((shape[0],), 0.5), torch.full((shape[0],), 0.25)
    method = victim.build()

    def build() -> Classifier:
        network: Classifier = method.network(shape, classes, *statistics)
        return network

    own = own_weights(build)
    if own:
        raise ValueError(
            f"victim {victim.name!r} brings weights of its own ({', '.join(own[:3])}{', ...' if own[3:] else ''}), but "
            "training starts from weights that are drawn from the seed: let its network() leave out the loading"
        )


def own_weights(build: Callable[[], nn.Module]) -> list[str]:
    """Names of the weights of convolutions and linear layers that are the same whatever the random state.

    A layer with a method ``initialize`` draws its weights itself and is not looked at.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(1)
        first = build()
        torch.random.manual_seed(2)
        second = build()
    found = []
    for (name, layer), (_, other) in zip(drawn(first), drawn(second), strict=True):
        looked_at = isinstance(layer, nn.Conv2d | nn.Linear) and not hasattr(layer, "initialize")
        if looked_at and torch.equal(layer.get_parameter("weight"), other.get_parameter("weight")):
            found.append(f"{name}.weight".removeprefix("."))
    return found
