"""Lesson: cleaning the data. Rows with suspicious labels are flagged, then sorted instead of dropped.

Inspired by Huang, Zhao, Huang and Pan (NeurIPS 2023), who keep what is useful in data that does harm; the steps are
ours, and their score is that of Tanno et al. (2022) with a trusted set in place of known failures.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.context import derive
from poisonlab.lessons import networks
from poisonlab.lessons.backdoor import rows, small_digits
from poisonlab.types import ImageSet

PAIRS = ((1, 7), (3, 8), (4, 9))  # look-alikes whose labels were swapped
FLIPS = 0.4  # of the images of these classes
TRAIN = 500
TRUSTED = 40
FACTORS = (0.5, 1.0, 2.0, 3.0, 4.0)  # flagged images, as a multiple of the wrong ones
WAYS = ("as it is", "trusted only", "drop", "take back", "take back and relabel")
HIDDEN = 40
LR = 0.01
STEPS = 80
FINE_TUNING = 40  # steps
# how strongly fine-tuning on the trusted set is held to the old weights, by their importance
STIFFNESS = 20.0


@dataclass(frozen=True)
class Cleaned:
    """What was flagged, what became of it, and what training on the rest gives.

    Attributes:
        images: uint8 ``(n, 1, 8, 8)``. given, true: labels ``(n,)``; ``true`` is for the reader alone.
        score: evidence against a label from fine-tuning on trusted images, ``(n,)``.
        order: the rows from the highest score down.
        flagged: how many of them each of ``FACTORS`` flags.
        agrees: whether the model without the flagged rows gives a row its label, ``(factors, n)``.
        relabeled: the labels that this model predicts, ``(factors, n)``.
        accuracy: on test images, ``(factors, ways)``.
    """

    images: Tensor
    given: Tensor
    true: Tensor
    score: Tensor
    order: Tensor
    flagged: list[int]
    agrees: Tensor
    relabeled: Tensor
    accuracy: Tensor

    @property
    def wrong(self) -> Tensor:
        return self.given != self.true


def swapped(true: Tensor, generator: torch.Generator) -> Tensor:
    """The labels, of which ``FLIPS`` of those in ``PAIRS`` are swapped with their look-alike."""
    partner = torch.arange(10)
    for a, b in PAIRS:
        partner[a] = b
        partner[b] = a
    flip = torch.rand(len(true), generator=generator) < FLIPS
    return torch.where(flip, partner[true], true)


def mislabeled(seed: int = 0) -> tuple[ImageSet, Tensor, ImageSet]:
    """The training images with their true labels, the labels given to them ``(n,)``, and the trusted images."""
    pool, _ = small_digits()
    order = torch.randperm(len(pool), generator=derive(seed, "cleaning", "images"))
    train = order[:TRAIN]
    trusted = order[TRAIN : TRAIN + TRUSTED]
    used = ImageSet(pool.x[train], pool.y[train], pool.classes)
    safe = ImageSet(pool.x[trusted], pool.y[trusted], pool.classes)
    return used, swapped(used.y, derive(seed, "cleaning", "flips")), safe


def clean(seed: int = 0) -> Cleaned:
    """Train on partly wrong labels, score, flag at every factor, sort, and train again in every way."""
    used, given, safe = mislabeled(seed)
    _, test = small_digits()
    x = torch.cat([rows(used.x), rows(safe.x)])
    y = torch.cat([given, safe.y])
    on_data = torch.cat([torch.ones(TRAIN), torch.zeros(TRUSTED)])[None]
    first = networks.draw((64, HIDDEN, 10), 1, derive(seed, "cleaning", "start"))
    (theta,) = networks.train(first, x, y, STEPS, LR, on_data)

    score = _score(theta, x, y)
    ranked = score.argsort(descending=True)
    wrong = int((given != used.y).sum())
    flagged = [min(TRAIN, round(factor * wrong)) for factor in FACTORS]
    place = ranked.argsort()  # of each row in the ranking
    caught = place < torch.tensor(flagged)[:, None]  # (factors, TRAIN)

    m = len(FACTORS)
    trusted = torch.ones(m, TRUSTED)
    dropped = torch.cat([(~caught).float(), trusted], 1)
    (reference,) = networks.train(networks.repeat(theta, m), x, y, FINE_TUNING, LR, dropped)
    predicted = networks.probabilities(reference, x[:TRAIN]).argmax(-1)  # (factors, TRAIN)
    agrees = predicted == given
    returned = torch.cat([(~caught | agrees).float(), trusted], 1)
    everything = torch.ones(m, TRAIN + TRUSTED)
    alone = torch.cat([torch.zeros(1, TRAIN), trusted[:1]], 1)
    relabeled = torch.where(caught & ~agrees, predicted, given)
    labels = torch.cat([y.expand(m + 2, -1), torch.cat([relabeled, y[TRAIN:].expand(m, -1)], 1)])
    counts = torch.cat([everything[:1], alone, returned, everything])
    (ends,) = networks.train(networks.repeat(theta, 2 * m + 2), x, labels, FINE_TUNING, LR, counts)

    test_rows = rows(test.x)
    as_it_is, safe_only, taken_back, taken_back_relabeled = networks.accuracy(ends, test_rows, test.y).split(
        [1, 1, m, m]
    )
    without_flagged = networks.accuracy(reference, test_rows, test.y)
    by_way = [as_it_is.expand(m), safe_only.expand(m), without_flagged, taken_back, taken_back_relabeled]
    accuracy = torch.stack(by_way, 1)
    return Cleaned(used.x, given, used.y, score, ranked, flagged, agrees, predicted, accuracy)


def _score(theta: networks.Weights, x: Tensor, y: Tensor) -> Tensor:
    """r(z) = loss(z; theta_S) - loss(z; theta), theta_S being theta fine-tuned on the trusted rows, ``(TRAIN,)``.

    Weights that matter for the data (large Fisher information F) are held back:
    theta_S minimises  loss on trusted rows + stiffness / 2 sum F (theta_S - theta)^2.
    """
    before = networks.losses(theta, x[:TRAIN], y[:TRAIN])[0]
    fisher = _fisher(theta, x[:TRAIN], y[:TRAIN])
    moved = [w.clone().requires_grad_() for w in theta]
    adam = torch.optim.Adam(moved, lr=LR)
    for _ in range(FINE_TUNING):
        held = sum((f * (w - w0).square()).sum() for f, w, w0 in zip(fisher, moved, theta, strict=True))
        loss = networks.losses(moved, x[TRAIN:], y[TRAIN:]).mean() + STIFFNESS / 2 * held
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        return networks.losses(moved, x[:TRAIN], y[:TRAIN])[0] - before


def _fisher(theta: networks.Weights, x: Tensor, y: Tensor) -> list[Tensor]:
    """Mean square of each row's gradient, for every weight: one network a row, all at once."""
    weights = [w.detach().repeat(len(x), 1, 1).requires_grad_() for w in theta]
    loss = networks.losses(weights, x[:, None], y[:, None]).sum()
    return [g.square().mean(0, keepdim=True) for g in torch.autograd.grad(loss, weights)]
