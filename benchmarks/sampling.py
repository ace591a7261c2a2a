"""EBM sampling against the plain loop that a straightforward reimplementation would write, in the same run.

    python benchmarks/sampling.py --like cifar10-quick

Measured: ``langevin`` as purification calls it. Plain: the same step on contiguous images, all of them at once, through
a network whose parameters ask for gradients, every operation into a new tensor.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.langevin import IMAGES, energy_model
from benchmarks.ratio import compare, options
from poisonlab import machine
from poisonlab.context import Context
from poisonlab.generative.langevin import langevin

GOAL = 1 / 1.3  # of the plain loop's time: 1.3 times its throughput


def main() -> int:
    chosen = options(__doc__, victims=False, steps=4, repeats=11)
    machine.set_threads()
    ctx = Context(device=chosen.device)
    energy, config = energy_model(chosen, ctx)
    plain_energy, _ = energy_model(chosen, ctx)
    plain_energy.requires_grad_().to(memory_format=torch.contiguous_format)
    start = (
        torch.rand((IMAGES, *chosen.shape), generator=ctx.generator("x"), device=chosen.device)
        .mul_(2)
        .sub_(1)
    )
    in_place = start.contiguous(memory_format=torch.channels_last)

    def plain() -> None:
        x = start
        for _ in range(chosen.steps):
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(plain_energy(x).sum(), x)
            drift = -config.gradient_scale * gradient
            if config.step_clamp:
                drift = drift.clamp(-config.step_clamp, config.step_clamp)
            x = x + drift + config.noise * torch.randn_like(x)
            if config.state_clamp:
                x = x.clamp(-config.state_clamp, config.state_clamp)

    return compare(
        lambda: langevin(energy, in_place, chosen.steps, config, ctx.generator("chain")), plain, GOAL, chosen
    )


if __name__ == "__main__":
    sys.exit(main())
