"""Lesson: planting a backdoor. A white patch on a few relabeled digits, and what it opens (BadNets)."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.context import derive
from poisonlab.data.digits import Digits, DigitsConfig
from poisonlab.lessons import networks
from poisonlab.types import ImageSet

TRAIN = 1000
COUNTS = (0, 1, 2, 5, 10, 20, 50, 100)  # poisoned images of TRAIN
STEPS = 80
LR = 0.015
FRAMES = 11
HIDDEN = 32


@functools.cache
def small_digits() -> tuple[ImageSet, ImageSet]:
    """The 8x8 digits: pool and test set."""
    return Digits(DigitsConfig(size=8)).load()


def stamp(images: Tensor, side: int) -> Tensor:
    """The images ``(n, 1, h, w)`` with a white square in the lower right corner."""
    stamped = images.clone()
    stamped[..., -side:, -side:] = 255
    return stamped


def rows(images: Tensor) -> Tensor:
    """uint8 images as rows of floats in [0, 1]."""
    return images.flatten(1).float() / 255


def examples(target: int) -> Tensor:
    """A test image of each class but the target's, uint8 ``(9, 1, 8, 8)``."""
    _, test = small_digits()
    return torch.stack([test.x[test.y == digit][0] for digit in range(10) if digit != target])


@dataclass(frozen=True)
class Backdoor:
    """One network for each of ``COUNTS``, all from the same random start.

    Attributes:
        steps: the training steps that were kept.
        asr: of triggered test images that are not of the target class, ``(steps, counts)``.
        accuracy: on untouched test images, ``(steps, counts)``.
        examples: test images, one a class but the target's, uint8 ``(n, 1, 8, 8)``.
        triggered: the same with the patch.
        answers: to both, at the end, ``(counts, 2, n)``.
    """

    steps: list[int]
    asr: Tensor
    accuracy: Tensor
    examples: Tensor
    triggered: Tensor
    answers: Tensor

    @property
    def needed(self) -> int | None:
        """The fewest poisoned images with which more than half of the triggered ones are given the target class."""
        return next((n for n, share in zip(COUNTS, self.asr[-1].tolist(), strict=True) if share > 0.5), None)


def open_backdoor(side: int, target: int, seed: int) -> Backdoor:
    """Train on 1,000 digits of which 0 to 100 carry a patch of ``side`` pixels and the label ``target``."""
    pool, test = small_digits()
    order = torch.randperm(len(pool), generator=derive(seed, "backdoor", "images"))[:TRAIN]
    images = pool.x[order]
    labels = pool.y[order]
    candidates = (labels != target).nonzero()[: COUNTS[-1], 0]
    # an image that may be poisoned is in the data twice, clean and stamped; each network is trained on one of the two
    x = torch.cat([rows(images), rows(stamp(images[candidates], side))])
    y = torch.cat([labels, torch.full_like(candidates, target)])
    counts = torch.ones(len(COUNTS), len(x))
    for network, poisoned in enumerate(COUNTS):
        counts[network, candidates[:poisoned]] = 0
        counts[network, TRAIN + poisoned :] = 0
    network_start = networks.draw((64, HIDDEN, 10), 1, derive(seed, "backdoor", "start"))
    start = networks.repeat(network_start, len(COUNTS))
    steps = [STEPS * k // (FRAMES - 1) for k in range(FRAMES)]
    kept = networks.train(start, x, y, STEPS, LR, counts, steps)

    others = test.x[test.y != target]
    first = examples(target)
    shown = torch.cat([rows(first), rows(stamp(first, side))])
    return Backdoor(
        steps,
        torch.stack([networks.accuracy(w, rows(stamp(others, side)), torch.tensor(target)) for w in kept]),
        torch.stack([networks.accuracy(w, rows(test.x), test.y) for w in kept]),
        first,
        stamp(first, side),
        networks.probabilities(kept[-1], shown).argmax(-1).view(len(COUNTS), 2, len(first)),
    )
