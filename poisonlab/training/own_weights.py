"""Weights that training starts from and no seed draws: those that a spec names, and those that a victim brings."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import nn

from poisonlab.models.base import Classifier, drawn
from poisonlab.models.shared.fit_weights import fit
from poisonlab.models.shared.inserted import has_inserted
from poisonlab.models.shared.kept_weights import kept
from poisonlab.models.shared.weights_file import Tensors
from poisonlab.spec.config import ExperimentSpec, VictimPart


def start_from(
    network: Classifier, spec: ExperimentSpec, shape: tuple[int, int, int], classes: int
) -> list[str]:
    """Put the weights that a spec names, or else those that its victim brings, into a network whose others are drawn.

    Args:
        network: drawn from the seed; changed in place, and given the layers that a repair put into the weights.
        shape: ``(c, h, w)`` of an image.

    Returns:
        what to tell about it.

    Raises:
        WeightsError: the weights are not there, or do not fit.
    """
    if not spec.weights:
        network.load_state_dict(brought(spec.victim, shape, classes), strict=False)
        return []
    found = fit(network, kept(spec.weights))
    network.load_state_dict(found.state, strict=False)
    said = [f"training starts from the weights {spec.weights}, whose layers were found by {found.by}"]
    if any(has_inserted(name) for name in found.state):
        said.append("they hold a layer that a repair put in, which is trained with the rest")
    if found.new_head:
        said.append("their last layer is for other classes and is drawn anew")
    if not found.normalized:
        said.append("they state no normalization: images are normalized by the training set's statistics")
    return said


@lru_cache(maxsize=32)  # nearly all are empty
def brought(victim: VictimPart, shape: tuple[int, int, int], classes: int) -> Tensors:
    """State of a victim that comes with weights of its own; empty of one whose weights are all drawn.

    Built twice: what comes out equal was not drawn, but loaded or set, and what was measured should be of it.

    Args:
        shape: ``(c, h, w)`` of an image.
    """
    statistics = torch.full((shape[0],), 0.5), torch.full((shape[0],), 0.25)
    method = victim.build()

    def build() -> Classifier:
        network: Classifier = method.network(shape, classes, *statistics)
        return network

    first, second = _two(build)
    if not own_weights(first, second):
        return {}
    other = second.state_dict()
    return {
        name: value
        for name, value in first.state_dict().items()
        if not name.startswith("normalize.") and torch.equal(value, other[name])
    }


def own_weights(first: nn.Module, second: nn.Module) -> list[str]:
    """Names of the weights of convolutions and linear layers that are the same in two networks.

    A layer with a method ``initialize`` draws its weights itself and is not looked at.
    """
    found = []
    for (name, layer), (_, other) in zip(drawn(first), drawn(second), strict=True):
        looked_at = isinstance(layer, nn.Conv2d | nn.Linear) and not hasattr(layer, "initialize")
        if looked_at and torch.equal(layer.get_parameter("weight"), other.get_parameter("weight")):
            found.append(f"{name}.weight".removeprefix("."))
    return found


def _two(build: Callable[[], Classifier]) -> tuple[Classifier, Classifier]:
    """A network from two random states; the state outside is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(1)
        first = build()
        torch.random.manual_seed(2)
        second = build()
    return first, second
