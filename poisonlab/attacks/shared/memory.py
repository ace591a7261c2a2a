"""How many images crafting takes at once: what autograd keeps of them has to fit into the device's memory."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from poisonlab import machine

# of the device's memory; the rest holds what is computed on the way, and other runs on a CPU
SHARE = 0.5


def images_at_once(forward: Callable[[Tensor], object], x: Tensor, graphs: float = 1) -> int:
    """How many images a graph may hold; at least one, and the same on every run on this device.

    Args:
        forward: what is derived, on float images ``(n, c, h, w)``; run on one and on two of them.
        x: float, two images or more; one image alone needs no limit.
        graphs: how many times what one such pass keeps is kept.
    """
    memory = machine.memory_bytes(x.device)
    if memory is None or len(x) < 2:
        return sys.maxsize
    an_image = graphs * (saved_bytes(forward, x[:2]) - saved_bytes(forward, x[:1]))
    return max(1, int(SHARE * memory / max(1, an_image)))


def saved_bytes(forward: Callable[[Tensor], object], x: Tensor) -> int:
    """Bytes that autograd keeps of a pass for the derivative by ``x``, weights and ``x`` included."""
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []  # so that no freed address is used twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward(x.detach().clone().requires_grad_())
    return sum(sizes.values())
