"""Crafting gradient-matching poisons against bare double backward passes on images already in place.

    python benchmarks/gradient_matching.py --like cifar10-quick

Measured: ``craft`` for one target of the quick preset, with augmentation, alignment, signed Adam and projection.
"""

import sys
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ratio import compare, options, untrained
from poisonlab import machine
from poisonlab.attacks.gradient_matching import GradientMatchingConfig, craft
from poisonlab.context import Context

GOAL = 1.10


def main() -> int:
    chosen = options(__doc__)
    machine.set_threads()
    preset = GradientMatchingConfig.for_preset("quick", chosen.like.removesuffix("-quick"))
    config = preset.model_copy(update={"steps": chosen.steps})
    ctx = Context(device=chosen.device)
    model = untrained(chosen, ctx)
    weights = tuple(model.parameters())

    draws = ctx.generator("images")
    shape = (config.poisons, *chosen.shape)
    base = torch.randint(256, shape, generator=draws, device=chosen.device, dtype=torch.uint8)
    labels = torch.ones(config.poisons, dtype=torch.int64, device=chosen.device)
    target, adversarial = base[:1].clone(), labels[:1]
    resident = torch.rand(shape, generator=draws, device=chosen.device)
    resident = resident.to(memory_format=torch.channels_last).requires_grad_()

    def bare() -> None:
        for _ in range(chosen.steps):
            loss = F.cross_entropy(model(resident), labels)
            gradients = torch.autograd.grad(loss, weights, create_graph=True)
            torch.autograd.grad(gradients, resident, grad_outputs=[torch.ones_like(g) for g in gradients])

    return compare(
        lambda: craft([model], base, labels, target, adversarial, config, draws), bare, GOAL, chosen
    )


if __name__ == "__main__":
    sys.exit(main())
