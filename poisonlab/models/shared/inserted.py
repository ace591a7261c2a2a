"""Layers that a repair puts into a network; the names of their weights say which and where, in every file."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

PLACE = "inserted"  # the layer's name within the module before which it stands
_MARK = f".{PLACE}."
STAMP = "normalize.stamp"  # where a stamp stands


class Polarizer(nn.Module):
    """A linear map of the channels at each place, and batch norm; the identity at first.

    Args:
        channels: of the map that goes in and comes out, ``(n, channels, h, w)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """The identity, also in a network that is drawn anew: nothing here is drawn."""
        nn.init.dirac_(self.mix.weight)
        self.norm.reset_parameters()

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
    if not isinstance(target, nn.Conv2d):
        raise ValueError(f"no layer can be put before {before[:120]!r}, which is no convolution")
    if hasattr(target, PLACE):
        raise ValueError(f"a layer stands before {before[:120]!r} already")
    with target.weight.device:  # on meta nothing is allocated, however wide the convolution
        layer = Polarizer(target.in_channels)
    target.add_module(PLACE, layer.train(target.training))
    target.register_forward_pre_hook(_through)
    return layer


def is_there(module: nn.Module) -> bool:
    """Whether a layer stands before a module."""
    return isinstance(getattr(module, PLACE, None), Polarizer)


def has_inserted(name: str) -> bool:
    """Whether the name of a weight is that of a layer which a repair put in, a stamp included."""
    return _MARK in name or name.startswith(f"{STAMP}.")


def is_inserted(name: str) -> bool:
    """Whether the module of this name is a layer that a repair put in, or a part of one."""
    return PLACE in name.split(".")


def _through(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A function of the module alone: what is copied with the network is the layer, not this."""
    layer = module.get_submodule(PLACE)
    return (layer(inputs[0]), *inputs[1:])


def stamp(x: Tensor, color: Tensor | float, side: Tensor | int) -> Tensor:
    """Images with a square of one color in their upper left corner.

    Args:
        x: float ``(n, c, h, w)``; not changed. color: of the channels, ``(1, c, 1, 1)``, or of all. side: in pixels.
    """
    rows = torch.arange(x.shape[-2], device=x.device) < side
    columns = torch.arange(x.shape[-1], device=x.device) < side
    return torch.where(rows[:, None] & columns, color, x)


class Stamp(nn.Module):
    """Sets a square in the upper left corner of every image to 0, which of normalized images is the mean color.

    Args:
        side: of the square, in pixels.
    """

    side: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("side", torch.tensor(side))

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images ``(n, c, h, w)``."""
        return stamp(x, 0.0, self.side)


def insert_stamp(network: nn.Module, side: int) -> None:
    """Let every image that enters the network be stamped, in place; copies of the network stamp as well.

    Args:
        network: with a first layer ``normalize``.
        side: of the stamp, in pixels.

    Raises:
        ValueError: it stamps already.
    """
    if stamps(network):
        raise ValueError("the network stamps its images already")
    first = network.get_submodule("normalize")
    device = next(network.parameters()).device
    first.add_module("stamp", Stamp(side).to(device))
    first.register_forward_hook(_stamped)


def stamps(network: nn.Module) -> bool:
    """Whether every image that enters the network is stamped."""
    return hasattr(network.get_submodule("normalize"), "stamp")


def _stamped(module: nn.Module, inputs: tuple[Tensor, ...], normalized: Tensor) -> Tensor:
    """A function of the module alone, as :func:`_through`."""
    stamped: Tensor = module.get_submodule("stamp")(normalized)
    return stamped


def insert_named(network: nn.Module, names: Iterable[str]) -> None:
    """Put layers wherever the names of weights tell of one and none stands, in place.

    Args:
        names: of a state dict that is about to be loaded.

    Raises:
        ValueError: a name tells of a layer in front of what is no convolution.
    """
    given = list(names)
    modules = dict(network.named_modules())
    for before in sorted({name.split(_MARK)[0] for name in given if _MARK in name}):
        if before not in modules or not is_there(modules[before]):
            insert(network, before)
    told = any(name.startswith(f"{STAMP}.") for name in given)
    if told and STAMP not in modules:
        insert_stamp(network, side=0)  # the weights say how large it is
