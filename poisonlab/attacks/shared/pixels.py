"""From float images in [0, 1] back to 8 bits: rounded once, clipped, never wrapped."""

import torch
from torch import Tensor


def to_bytes(x: Tensor) -> Tensor:
    """Float images in [0, 1] to uint8; what lies outside is clipped."""
    return (x * 255).round().clamp(0, 255).to(torch.uint8)


def add_pattern(x: Tensor, pattern: Tensor) -> Tensor:
    """x' = clip(x + P).

    Args:
        x: uint8 ``(n, c, h, w)``; not modified.
        pattern: float on the [0, 1] scale, may be negative; broadcasts to ``x``.
    """
    return to_bytes(x.float() / 255 + pattern)


def round_within(x: Tensor, base: Tensor, eps: float) -> Tensor:
    """Float images in [0, 1] to uint8, still within ``eps``/255 of ``base`` after rounding."""
    whole = int(eps)  # the bound holds for 8-bit images, so only its whole part can be used
    rounded = (x * 255).round().to(torch.int16)
    original = base.to(torch.int16)
    return (
        torch.minimum(torch.maximum(rounded, original - whole), original + whole)
        .clamp(0, 255)
        .to(torch.uint8)
    )
