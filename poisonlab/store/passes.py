"""How much a network computes for one image, found out without computing: on torch's device ``meta``."""

import json
from functools import lru_cache

from poisonlab import registry

CHANNELS = 3
CLASSES = 10
PER_NUMBER = 125.0  # multiplications that take as long as writing one number of a layer's output, on a CPU
PER_STEP = 6e7  # and as long as what a step of training takes however few its images are


@lru_cache(maxsize=256)
def effort(victim: str, params: str, size: int) -> float | None:
    """Multiplications of one pass of one image, and what takes as long; ``None`` of a network that is unknown here.

    Args:
        params: of the victim, as JSON.
        size: side of the image in pixels.
    """
    import torch  # noqa: PLC0415 - pages of tables stand before torch is there
    from torch import nn  # noqa: PLC0415

    counted: list[float] = []

    def count(layer: nn.Module, given: object, made: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            area = layer.kernel_size[0] * layer.kernel_size[1]
            inputs = area * layer.in_channels // layer.groups
        else:
            inputs = int(getattr(layer, "in_features", 0))
        counted.append(made.numel() * (inputs + PER_NUMBER))

    try:
        kind = registry.victim[victim]
        method = kind(kind.Config.model_validate(json.loads(params)))
        with torch.device("meta"), torch.no_grad():
            ones = torch.ones(CHANNELS)
            network = method.network((CHANNELS, size, size), CLASSES, ones, ones).eval()
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.register_forward_hook(count)
            network(torch.zeros(1, CHANNELS, size, size))
    except Exception:  # another's network may refuse the device, this size or these parameters in any way
        return None
    return sum(counted) or None
