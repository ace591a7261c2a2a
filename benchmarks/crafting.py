"""Crafting Bullseye Polytope poisons against bare forward + backward passes on images already in place.

    python benchmarks/crafting.py --like cifar10-quick

Measured: ``craft`` for all trials of the quick preset, with the loss, Adam, projection and events.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ratio import compare, options, untrained
from poisonlab import machine
from poisonlab.attacks.bullseye_polytope import BullseyePolytope, BullseyePolytopeConfig
from poisonlab.attacks.shared.surrogates import Surrogate
from poisonlab.context import Context

GOAL = 1.10


def main() -> int:
    chosen = options(__doc__)
    machine.set_threads()
    preset = BullseyePolytopeConfig.for_preset("quick", chosen.like.removesuffix("-quick"))
    config = preset.model_copy(update={"steps": chosen.steps})
    ctx = Context(device=chosen.device)
    model = untrained(chosen, ctx).requires_grad_(False)

    shape = (config.targets, config.poisons, *chosen.shape)
    draws = ctx.generator("images")
    base = torch.randint(256, shape, generator=draws, device=chosen.device, dtype=torch.uint8)
    targets = torch.randint(256, (config.targets, *chosen.shape), generator=draws, device=chosen.device)
    targets = targets.to(torch.uint8)
    resident = torch.rand(base.flatten(0, 1).shape, generator=draws, device=chosen.device)
    resident = resident.to(memory_format=torch.channels_last).requires_grad_()

    def bare() -> None:
        for _ in range(chosen.steps):
            torch.autograd.grad(model.features(resident).sum(), resident)

    attack, surrogates = BullseyePolytope(config), [Surrogate(model, 1, 0.0, 1, draws)]
    return compare(lambda: attack.craft(surrogates, base, targets, ctx), bare, GOAL, chosen)


if __name__ == "__main__":
    sys.exit(main())
