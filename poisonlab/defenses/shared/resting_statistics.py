"""Passes in train mode that leave batch norm's running statistics alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def resting_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norm still uses the batch's statistics, but the running ones stay."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
