"""Purification by diffusion against bare passes of the same network on a random tensor already in place.

    python benchmarks/ddpm.py --like cifar10-quick

Measured: ``purify`` with the schedule's arithmetic, noise, clipping and progress events, as PureGen-DDPM calls it.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ratio import compare, options
from poisonlab import machine
from poisonlab.context import Context
from poisonlab.defenses.puregen_ddpm import PureGenDDPM
from poisonlab.defenses.shared.puregen import BATCH
from poisonlab.generative.unet import noise_network

GOAL = 1.05


def main() -> int:
    chosen = options(__doc__, victims=False, steps=4, repeats=11)
    machine.set_threads()
    preset = "paper" if chosen.like == "cifar10" else "quick"
    config = PureGenDDPM.Config.for_preset(preset, chosen.like.removesuffix("-quick"))
    ctx = Context(device=chosen.device)
    defense = PureGenDDPM(config)
    network = noise_network(config.ddpm_network, chosen.shape[0], ctx.generator("init")).requires_grad_(False)
    defense.noise_model = network
    start = torch.rand((BATCH, *chosen.shape), generator=ctx.generator("x"), device=chosen.device)
    start = start.mul_(2).sub_(1).contiguous(memory_format=torch.channels_last)
    level = torch.full((BATCH,), chosen.steps, device=chosen.device)

    def measured() -> None:
        def visit(step: int, x: Tensor) -> None:
            ctx.progress(step, chosen.steps)

        defense.psi(start, (0, chosen.steps, 1), ctx.generator("chain"), ctx, visit)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(chosen.steps):
            network(start, level)

    return compare(measured, bare, GOAL, chosen)


if __name__ == "__main__":
    sys.exit(main())
