"""Victims of independent trials as one batch of networks against the same victims one after the other.

    python benchmarks/trials.py --like cifar10-quick

Measured: a step of all trials at once, ``torch.func.vmap`` over stacked weights and batch-norm buffers, which makes one
grouped convolution of those of all networks. Bare: the same step of each network, as ``train_from_scratch`` takes them.
Batched training would pay below the goal; while the ratio misses it, victims are trained in a loop.
"""

import copy
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ratio import compare, options, untrained
from poisonlab import machine
from poisonlab.context import Context

GOAL = 0.80
TRIALS = 10  # of gradient matching, quick
RATE = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True, "fused": True}


def main() -> int:
    chosen = options(__doc__, steps=5, repeats=7)
    machine.set_threads()
    ctx = Context(device=chosen.device)
    one_by_one = [untrained(chosen, ctx).train() for _ in range(TRIALS)]
    template = copy.deepcopy(one_by_one[0])
    weights, buffers = stack_module_state(one_by_one)  # type: ignore[arg-type]
    optimizers = [torch.optim.SGD(model.parameters(), **RATE) for model in one_by_one]
    stacked_optimizer = torch.optim.SGD(list(weights.values()), **RATE)

    draws = ctx.generator("images")
    x = torch.rand((TRIALS, chosen.batch, *chosen.shape), generator=draws, device=chosen.device)
    images = [trial.contiguous(memory_format=torch.channels_last) for trial in x]
    labels = torch.randint(10, (TRIALS, chosen.batch), generator=draws, device=chosen.device)

    def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(template, (weights, buffers), (x,)), y)

    every_loss = torch.func.vmap(loss)

    def batched() -> None:
        for _ in range(chosen.steps):
            stacked_optimizer.zero_grad(set_to_none=True)
            every_loss(weights, buffers, x, labels).sum().backward()
            stacked_optimizer.step()

    def looped() -> None:
        for _ in range(chosen.steps):
            for model, optimizer, mine, y in zip(one_by_one, optimizers, images, labels, strict=True):
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(model(mine), y).backward()
                optimizer.step()

    return compare(batched, looped, GOAL, chosen)


if __name__ == "__main__":
    sys.exit(main())
