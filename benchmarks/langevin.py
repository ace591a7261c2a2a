"""Langevin chains against bare evaluations of the same energy's gradient on a random tensor already in place.

    python benchmarks/langevin.py --like cifar10-quick

Measured: ``langevin`` with drift, noise, both clamps and progress events, as purification calls it.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ratio import compare, options
from poisonlab import machine
from poisonlab.context import Context
from poisonlab.defenses.puregen_ebm import PureGenEBMConfig
from poisonlab.generative.ebm import energy_network
from poisonlab.generative.langevin import CPU_SLICE, LangevinConfig, langevin

GOAL = 1.05
IMAGES = 512  # what purification takes at once


def energy_model(chosen: argparse.Namespace, ctx: Context) -> tuple[nn.Module, LangevinConfig]:
    """The untrained, frozen network that PureGen-EBM would use, and its sampler."""
    preset = "paper" if chosen.like == "cifar10" else "quick"
    config = PureGenEBMConfig.for_preset(preset, chosen.like.removesuffix("-quick"))
    energy = energy_network(config.ebm(), chosen.shape[0], ctx.generator("init")).requires_grad_(False)
    return energy, config.sampler()


def main() -> int:
    chosen = options(__doc__, victims=False)
    machine.set_threads()
    ctx = Context(device=chosen.device)
    energy, sampler = energy_model(chosen, ctx)
    start = torch.rand((IMAGES, *chosen.shape), generator=ctx.generator("x"), device=chosen.device)
    start = start.mul_(2).sub_(1).contiguous(memory_format=torch.channels_last)

    def measured() -> None:
        def visit(step: int, x: Tensor, e: Tensor) -> None:
            ctx.progress(step, chosen.steps)

        langevin(energy, start, chosen.steps, sampler, ctx.generator("chain"), visit)

    slices = start.split(CPU_SLICE if chosen.device.type == "cpu" else IMAGES)
    parts = [part.detach().requires_grad_() for part in slices]

    def bare() -> None:
        for _ in range(chosen.steps):
            for x in parts:
                torch.autograd.grad(energy(x).sum(), x)

    return compare(measured, bare, GOAL, chosen)


if __name__ == "__main__":
    sys.exit(main())
