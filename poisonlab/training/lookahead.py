"""Lookahead (Zhang et al. 2019, arXiv:1907.08610) with a growing pull, as in airbench94."""

import torch
from torch import nn

EVERY = 5  # steps between two pulls


class Lookahead:
    """Slow weights that follow the trained ones, and to which these are set back every few steps.

        slow <- slow + (1 - a) (fast - slow),   fast <- slow,   a = decay^5 (t / T)^3

    At the last step the slow weights are taken as they are. The statistics of batch norms are averaged as well.

    Args:
        total: T, the steps of the training.
        decay: 0.95 in airbench94; a is 0.774 near the end.

    Attributes:
        slow: name -> the slow value of each floating-point tensor of the model.
    """

    def __init__(self, model: nn.Module, total: int, decay: float) -> None:
        self.fast = {n: v for n, v in model.state_dict().items() if v.is_floating_point()}
        self.slow = {name: value.clone() for name, value in self.fast.items()}
        self.total = total
        self.decay = decay

    def after(self, step: int) -> None:
        """To be called after each step, numbered from 1 on."""
        if step == self.total:
            self._pull(1.0)
        elif step % EVERY == 0:
            self._pull(self.decay**EVERY * (step / self.total) ** 3)

    @torch.no_grad()
    def _pull(self, a: float) -> None:
        for name, fast in self.fast.items():
            self.slow[name].lerp_(fast, 1 - a)
            fast.copy_(self.slow[name])
