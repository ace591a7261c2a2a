"""The training loop against bare forward + backward + optimizer steps on random tensors already in place.

    python benchmarks/training.py --like cifar10-quick

Measured: ``train_network`` on resident uint8 images, with crops, flips, schedule, checks and events.
"""

import sys
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ratio import compare, options
from poisonlab import machine, registry
from poisonlab.context import Context
from poisonlab.models.base import Classifier, initialize
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network
from poisonlab.types import ImageSet

GOAL = 1.05
CLASSES = 10


def main() -> int:
    chosen = options(__doc__, steps=50)
    machine.set_threads()
    ctx = Context(device=chosen.device)
    draws = ctx.generator("benchmark")

    def network() -> Classifier:
        method = registry.victim[chosen.victim]
        channels = chosen.shape[0]
        made = method(method.Config()).network(
            chosen.shape, CLASSES, torch.full((channels,), 0.5), torch.full((channels,), 0.25)
        )
        made = initialize(made.to(chosen.device), ctx.generator("init"))
        return made.to(memory_format=torch.channels_last).train()

    count = chosen.batch * chosen.steps
    x = torch.randint(256, (count, *chosen.shape), generator=draws, device=chosen.device, dtype=torch.uint8)
    y = torch.randint(CLASSES, (count,), generator=draws, device=chosen.device)
    data = ImageSet(x, y, tuple(map(str, range(CLASSES))))
    recipe = TrainingConfig(epochs=1, batch_size=chosen.batch, lr=0.01, crop_padding=2)
    trained, floor = network(), network()

    batches = [
        torch.rand((chosen.batch, *chosen.shape), generator=draws, device=chosen.device).to(
            memory_format=torch.channels_last
        )
        for _ in range(4)
    ]
    labels = y[: chosen.batch]
    optimizer = torch.optim.SGD(
        floor.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True
    )

    def bare() -> None:
        for step in range(chosen.steps):
            loss = F.cross_entropy(floor(batches[step % 4]), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return compare(lambda: train_network(trained, data, recipe, ctx), bare, GOAL, chosen)


if __name__ == "__main__":
    sys.exit(main())
