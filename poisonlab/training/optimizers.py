"""What a training from scratch steps with: groups of parameters, and the learning rate over the steps."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from poisonlab.spec.config import TrainingConfig
from poisonlab.spec.shares import parse_shares

# A triangular learning rate, as shares of its peak (airbench94).
TRIANGLE_START = 0.2
TRIANGLE_END = 0.07


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """All that is learned; the biases of batch norms apart where they have a rate of their own."""
    if config.norm_bias_factor == 1:
        return [{"params": list(model.parameters())}]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.bias is not None]
    biases = [norm.bias for norm in norms]
    apart = {id(bias) for bias in biases}
    others = [p for p in model.parameters() if id(p) not in apart]
    factor = config.norm_bias_factor
    own = {"params": biases, "lr": config.lr * factor, "weight_decay": config.weight_decay / factor}
    return [{"params": others}, own]


def triangle(total: int, peak_at: float) -> Callable[[int], float]:
    """Step, from 0 on -> share of the peak rate: up along one line, down along another."""
    peak = max(1, math.floor(peak_at * total))

    def share(step: int) -> float:
        if step <= peak:
            return TRIANGLE_START + (1 - TRIANGLE_START) * step / peak
        return 1 - (1 - TRIANGLE_END) * (step - peak) / max(1, total - peak)

    return share


def falling(optimizer: torch.optim.Optimizer, drops: str, total: int) -> torch.optim.lr_scheduler.LRScheduler:
    """A tenth of the rate before from each of ``drops`` on, shares of ``total`` steps.

    The rates are those of ``MultiStepLR``, whose state is no JSON and so cannot be kept.
    """
    # a product that should be whole may come out a little less
    milestones = [max(1, math.floor(share * total + 1e-6)) for share in parse_shares(drops)]
    return torch.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda step: 0.1 ** milestones.count(step))


def learning_rate(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, total: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "triangle":
        return torch.optim.lr_scheduler.LambdaLR(optimizer, triangle(total, config.peak_at))
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    if config.schedule == "steps":
        return falling(optimizer, config.drops, total)
    if config.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=total + 1, cycle_momentum=False
    )
