"""Networks of other libraries as victims: their body, their own random start, our normalization and linear head."""

import difflib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from poisonlab.models.base import Classifier

COLORS = 3  # channels that these networks take
NEAR = 5  # names that a message suggests


class Foreign(nn.Module):
    """Another library's network without its last linear layer: images ``(n, 1 or 3, h, w)`` -> features ``(n, d)``.

    Args:
        build: makes the network with random weights; called again for each random start.
    """

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self._build = build
        self.network = build()

    def initialize(self, generator: torch.Generator) -> None:
        """Weights as the library draws them, decided by ``generator`` alone."""
        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(seed)
            drawn = self._build()
        self.network.load_state_dict(drawn.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        colored = x.expand(-1, COLORS, -1, -1) if x.shape[1] == 1 else x
        with sdpa_kernel(
            SDPBackend.MATH
        ):  # the others' gradients have no gradient, and on GPUs no fixed order
            features: Tensor = self.network(colored)
        return features.flatten(1)


def as_victim(
    name: str,
    build: Callable[[], nn.Module],
    shape: tuple[int, int, int],
    classes: int,
    mean: Tensor,
    std: Tensor,
) -> Classifier:
    """A victim with the body that ``build`` makes.

    Args:
        name: for messages. shape: ``(c, h, w)`` of an image.

    Raises:
        ValueError: the network does not take images of this shape, or cannot be kept.
        NotImplementedError: it cannot be built without numbers, on torch's device ``meta``.
    """
    try:
        body = Foreign(build)
        with torch.no_grad():
            features = body.eval()(torch.zeros(2, *shape))
    except NotImplementedError:
        raise
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        height, width = shape[1:]
        said = str(error).strip().splitlines()
        raise ValueError(
            f"victim {name} does not take images of {height}x{width}: {said[0][:200] if said else type(error).__name__}"
        ) from error
    _check_seen(name, body, shape)
    _check_kept(name, body)
    return Classifier(body.train(), features.shape[1], classes, mean, std)


def _check_seen(name: str, body: nn.Module, shape: tuple[int, int, int]) -> None:
    """Whether patches cover the image: what lies beyond the last one, a trigger say, would never be seen."""
    first = next((module for module in body.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride or first.padding not in ((0, 0), "valid"):
        return
    if shape[1] % first.stride[0] or shape[2] % first.stride[1]:
        raise ValueError(
            f"victim {name} does not take images of {shape[1]}x{shape[2]}: it cuts them into patches of "
            f"{first.stride[0]} pixels, and would not see the rest; choose a multiple as dataset.size"
        )


def _check_kept(name: str, body: nn.Module) -> None:
    """Whether weights that were kept as plain tensors, without a version of the layout, can be loaded again."""
    try:
        body.load_state_dict(dict(body.state_dict()))
    except (RuntimeError, ValueError, KeyError) as error:
        said = str(error).strip().splitlines()[0][:200]
        raise ValueError(
            f"victim {name} cannot be loaded from plain tensors: {said}; choose another"
        ) from error


def without_chance(network: nn.Module) -> nn.Module:
    """Switch off dropout of units and of whole blocks, in place: training depends on the seed alone."""
    for module in network.modules():
        for name in ("p", "drop_prob"):
            if isinstance(getattr(module, name, None), float) and "Drop" in type(module).__name__:
                setattr(module, name, 0.0)
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0  # type: ignore[assignment]
    return network


def check_known(name: str, known: Iterable[str], library: str) -> str:
    """Raises:
    ValueError: the library has no such network; names those that are spelled alike.
    """
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, NEAR, 0.5) or sorted(names)[:NEAR]
        raise ValueError(f"{library} has no network {name[:60]!r}; near are {', '.join(near)}")
    return name
