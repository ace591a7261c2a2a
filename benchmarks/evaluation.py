"""Labels of 1,024 test images against a loop that decodes each image by itself, as most benchmarks of this field do.

    python benchmarks/evaluation.py --like cifar10 --victim resnet8

Measured: ``predict`` on resident uint8 images. Beside it: pixel arrays, turned into PIL images one by one and through
torchvision's resizing, ``ToTensor`` and normalization as BackdoorBench does at test time, in batches of 128, on the
same network in torch's usual memory layout.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ratio import compare, options, untrained
from poisonlab import machine
from poisonlab.context import Context
from poisonlab.models.base import predict

IMAGES = 1024
BATCH = 128
GOAL = 1 / 1.5  # the product is to be half as fast again


def main() -> int:
    chosen = options(__doc__, steps=None, repeats=9)
    chosen.steps = 1
    machine.set_threads()
    machine.keep_memory()
    ctx = Context(device=chosen.device)
    model = untrained(chosen, ctx)
    usual = untrained(chosen, ctx).to(memory_format=torch.contiguous_format)
    shape = (IMAGES, *chosen.shape)
    x = torch.randint(
        256, shape, generator=ctx.generator("benchmark"), device=chosen.device, dtype=torch.uint8
    )
    pixels = [np.ascontiguousarray(image.permute(1, 2, 0).squeeze(-1).numpy()) for image in x.cpu()]

    channels, *size = chosen.shape
    unchanged = transforms.Normalize([0.0] * channels, [1.0] * channels)  # the network normalizes
    chain = transforms.Compose([transforms.Resize(size), transforms.ToTensor(), unchanged])

    def decoded(image: np.ndarray) -> Tensor:
        tensor: Tensor = chain(Image.fromarray(image))
        return tensor

    def one_by_one() -> Tensor:
        answers = []
        with torch.no_grad():
            for start in range(0, IMAGES, BATCH):
                batch = torch.stack([decoded(image) for image in pixels[start : start + BATCH]])
                answers.append(usual(batch.to(chosen.device)).argmax(1))
        return torch.cat(answers)

    alike = (one_by_one() == predict(model, x)).float().mean().item()
    assert alike > 0.999, f"only {alike:.2%} of the labels agree"
    return compare(lambda: predict(model, x), one_by_one, GOAL, chosen)


if __name__ == "__main__":
    sys.exit(main())
