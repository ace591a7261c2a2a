"""Lesson: adaptive attackers. A detector looks for the smallest switch of each class; the attacker knows that.

The search is that of Neural Cleanse (Wang et al. 2019) on small networks: for each class the smallest mark that turns
trusted images into it. The paper then counts median absolute deviations, which of ten classes vary so much that honest
networks are named in two of five draws; here a class is named whose mark is less than half as large as the median.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.context import derive
from poisonlab.lessons import backdoor, networks
from poisonlab.lessons.backdoor import rows, small_digits

TRAIN = 1000
POISONED = 50
TRUSTED = 60
SIDES = (2, 3, 4, 6, 8)  # of the mark, in pixels
STRENGTHS = (0.3, 0.6, 1.0)  # how opaque it is
USUAL = (3, 0.6)  # side and strength that the attacker begins with
LIMIT = 0.5  # of the median: a class with a smaller mark is named
HIDDEN = 32
STEPS = 80
LR = 0.015
SEARCH = 100
SEARCH_LR = 0.15
SIZE_WEIGHT = 0.05  # of the mark's size beside the cross-entropy


@dataclass(frozen=True)
class Hunt:
    """A network for each side and strength of the mark and an honest one, and what the detector finds in each.

    The first two dimensions ``(sides, strengths)`` are those of ``SIDES`` and ``STRENGTHS``.

    Attributes:
        asr: share of marked test images that are given the attacker's class, ``(sides, strengths)``.
        accuracy: on test images, ``(sides, strengths)``.
        sizes: of the smallest mark found for each class, in pixels, ``(sides, strengths, 10)``.
        share: each size as a share of the median over the classes, ``(sides, strengths, 10)``.
        found: the mark found for the attacker's class, ``(sides, strengths, 8, 8)``, as opaque as it is.
        honest: the same shares in the network without poison, ``(10,)``.
    """

    asr: Tensor
    accuracy: Tensor
    sizes: Tensor
    share: Tensor
    found: Tensor
    honest: Tensor

    def changes(self, target: int) -> tuple[float, dict[str, float]]:
        """The share of the attacker's class with the usual mark, and the largest after one change of each kind."""
        at = self.share[..., target]
        side, strength = SIDES.index(USUAL[0]), STRENGTHS.index(USUAL[1])
        largest = {
            "smaller": at[:side, strength].max(),
            "fainter": at[side, :strength].max(),
            "larger": at[side + 1 :, strength].max(),
        }
        return float(at[side, strength]), {change: float(value) for change, value in largest.items()}

    def best(self, target: int) -> str:
        """Which change of the usual mark hides the attacker's class best: ``smaller``, ``fainter`` or ``larger``."""
        _, largest = self.changes(target)
        return max(largest, key=lambda change: largest[change])


def mark(x: Tensor) -> Tensor:
    """Rows in [0, 1], ``(n, 64)``, with each mark: ``(sides * strengths, n, 64)``.

    A mark is a square in the lower right corner, cut out of one pattern of black and white pixels.
    """
    pattern = torch.randint(0, 2, (64,), generator=derive(0, "adaptive", "pattern")).float()
    corner = torch.zeros(len(SIDES), 8, 8)
    for number, side in enumerate(SIDES):
        corner[number, -side:, -side:] = 1
    opacity = torch.tensor(STRENGTHS)[:, None] * corner.flatten(1)[:, None]  # (sides, strengths, 64)
    opacity = opacity.flatten(0, 1)[:, None]
    return (1 - opacity) * x + opacity * pattern


def examples(target: int, side: int, strength: float) -> Tensor:
    """A test image of each class but the target's with one mark, uint8 ``(9, 1, 8, 8)``."""
    every = mark(rows(backdoor.examples(target))).view(len(SIDES), len(STRENGTHS), 9, 1, 8, 8)
    return (255 * every[SIDES.index(side), STRENGTHS.index(strength)]).round().byte()


def hunt(target: int, seed: int) -> Hunt:
    """Poison with every mark, train, and search every network for the smallest mark of every class."""
    pool, test = small_digits()
    order = torch.randperm(len(pool), generator=derive(seed, "adaptive", "images"))
    used, trusted = order[:TRAIN], rows(pool.x[order[TRAIN : TRAIN + TRUSTED]])
    x = rows(pool.x[used])
    y = pool.y[used]
    poisoned = (y != target).nonzero()[:POISONED, 0]

    marked = mark(x[poisoned])
    m = len(marked)
    data = x.repeat(m + 1, 1, 1)  # the last network is honest
    data[:m, poisoned] = marked
    labels = y.repeat(m + 1, 1)
    labels[:m, poisoned] = target
    start = networks.draw((64, HIDDEN, 10), 1, derive(seed, "adaptive", "start"))
    (trained,) = networks.train(networks.repeat(start, m + 1), data, labels, STEPS, LR)

    opacity, color = _smallest_marks(trained, trusted)
    sizes = opacity.sum(-1)  # (m + 1, 10)
    share = sizes / sizes.median(1, keepdim=True).values
    attacked = networks.pick(trained, list(range(m)))
    others = rows(test.x[test.y != target])
    both = (len(SIDES), len(STRENGTHS))
    found = (opacity * color)[:m, target]
    return Hunt(
        networks.accuracy(attacked, mark(others), torch.tensor(target)).view(both),
        networks.accuracy(attacked, rows(test.x), test.y).view(both),
        sizes[:m].view(*both, 10),
        share[:m].view(*both, 10),
        found.view(*both, 8, 8),
        share[m],
    )


def _smallest_marks(weights: networks.Weights, trusted: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity and color of the smallest mark that turns trusted rows into each class, both ``(m, 10, 64)``.

    min over opacity a and color c of  cross-entropy(f((1 - a) x + a c), class) + weight * sum a.
    """
    m, classes, n = len(weights[0]), 10, len(trusted)
    raw = torch.cat(
        [torch.full((1, m, classes, 1, 64), -2.0), torch.zeros(1, m, classes, 1, 64)]
    ).requires_grad_()
    wanted = torch.arange(classes).repeat_interleave(n)
    adam = torch.optim.Adam([raw], lr=SEARCH_LR)
    for _ in range(SEARCH):
        opacity, color = raw.sigmoid()
        tried = trusted + opacity * (color - trusted)  # (m, classes, n, 64)
        losses = networks.losses(weights, tried.flatten(1, 2), wanted)
        loss = classes * losses.mean(1).sum() + SIZE_WEIGHT * opacity.sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    opacity, color = raw.detach().sigmoid()
    return opacity[:, :, 0], color[:, :, 0]
