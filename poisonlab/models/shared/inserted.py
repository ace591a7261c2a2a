"""A layer that a repair puts before one of a network's own; the names of its weights say where, in every file."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

PLACE = "inserted"  # the layer's name within the module before which it stands
_MARK = f".{PLACE}."


class Polarizer(nn.Module):
    """A linear map of the channels at each place, and batch norm; the identity at first.

    Args:
        channels: of the map that goes in and comes out, ``(n, channels, h, w)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        with torch.no_grad():
            self.mix.weight.copy_(torch.eye(channels).view(channels, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.mix(x))
        return out


def insert(network: nn.Module, before: str) -> Polarizer:
    """Put a polarizer before a convolution, in place; copies of the network have one of their own.

    Args:
        before: name of the convolution within the network.

    Raises:
        ValueError: there is no such convolution, or a layer stands before it already.
    """
    target = dict(network.named_modules()).get(before)
    if not isinstance(target, nn.Conv2d) or hasattr(target, PLACE):
        raise ValueError(f"no layer can be put before {before[:120]!r}")
    device = target.weight.device
    layer = Polarizer(target.in_channels).to(device)
    target.add_module(PLACE, layer.train(target.training))
    target.register_forward_pre_hook(_through)
    return layer


def _through(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A function of the module alone: what is copied with the network is the layer, not this."""
    layer = module.get_submodule(PLACE)
    return (layer(inputs[0]), *inputs[1:])


def insert_named(network: nn.Module, names: Iterable[str]) -> None:
    """Put layers wherever the names of weights tell of one, in place.

    Args:
        names: of a state dict that is about to be loaded.

    Raises:
        ValueError: as :func:`insert`.
    """
    for before in sorted({name.split(_MARK)[0] for name in names if _MARK in name}):
        insert(network, before)
