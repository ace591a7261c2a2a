"""Lesson: finding the trigger. Adversarial weight masking, round by round, on a small network with a backdoor.

The steps are those of the defense itself (:mod:`poisonlab.defenses.awm`); here every round is kept to be looked at.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context, derive
from poisonlab.defenses.awm import MaskedModel, ascend, augmented_copies, scale_to
from poisonlab.lessons.backdoor import small_digits, stamp
from poisonlab.models.base import Classifier, accuracy, as_floats, channel_statistics, initialize
from poisonlab.training.loop import batches, fit
from poisonlab.types import ImageSet

TARGET = 0
POISONS = 80  # of TRAIN images, stamped with a square of white pixels and relabeled as zero
TRAIN = 1000
EPOCHS = 8
BATCH = 50
LR = 0.01
TRUSTED = 30  # clean images of the defender
COPIES = 3  # augmented ones of each
ROUNDS = 10
TRIGGER_STEPS = 6
TRIGGER_LR = 10.0
MASK_STEPS = 6
MASK_LR = 0.05
MASK_LR_DECAY = 0.8  # after each round


@dataclass(frozen=True)
class Round:
    """One round of recovering and masking; round 0 has no masks yet.

    Attributes:
        trigger: recovered before masking, ``(8, 8)``, added to images in [0, 1].
        answers: how many trusted images are given each class with it, ``(10,)``.
        clean_accuracy, asr: of the masked model after the round, on the test set.
        masks: value of each mask after the round.
    """

    trigger: Tensor
    answers: Tensor
    clean_accuracy: float
    asr: float
    masks: Tensor


@dataclass(frozen=True)
class Loop:
    """All rounds, the model before them, and the attacker's patch, which the defender does not know."""

    before: tuple[float, float]  # clean accuracy and asr
    rounds: list[Round]
    truth: Tensor  # (8, 8), the attacker's patch

    @property
    def inside(self) -> list[float]:
        """Share of each round's recovered pattern that lies where the patch is."""
        return [float((r.trigger * self.truth).abs().sum() / r.trigger.abs().sum()) for r in self.rounds]

    @property
    def finished(self) -> int | None:
        """The first round after which fewer than a tenth of the triggered images go to the target."""
        return next((n for n, r in enumerate(self.rounds, 1) if r.asr < 0.1), None)


@functools.lru_cache(maxsize=16)
def victim(patch: int, seed: int = 0) -> Classifier:
    """A small convolutional network trained on digits of which 8 % carry the patch and the label zero.

    Args:
        patch: side of the square in pixels.
    """
    pool, _ = small_digits()
    order = torch.randperm(len(pool), generator=derive(seed, "masking", "images"))[:TRAIN]
    x = pool.x[order]
    y = pool.y[order].clone()
    marked = (y != TARGET).nonzero()[:POISONS, 0]
    x[marked] = stamp(x[marked], patch)
    y[marked] = TARGET
    body = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )
    model = Classifier(body, 96, 10, *channel_statistics(x))
    initialize(model, derive(seed, "masking", "start"))
    total = EPOCHS * (TRAIN // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=total + 1)
    images = as_floats(x)
    steps = batches(TRAIN, BATCH, EPOCHS, derive(seed, "masking", "order"))
    fit(
        model,
        lambda index: (images[index], y[index]),
        F.cross_entropy,
        optimizer,
        schedule,
        steps,
        total,
        Context(),
    )
    return model.eval().requires_grad_(False)


def trusted_images(seed: int = 0) -> ImageSet:
    """What the defender has: clean images with right labels."""
    pool, _ = small_digits()
    order = torch.randperm(len(pool), generator=derive(seed, "masking", "trusted"))[:TRUSTED]
    return ImageSet(pool.x[order], pool.y[order], pool.classes)


def recover_and_mask(patch: int, budget: float, alpha: float, seed: int = 0) -> Loop:
    """Run the loop on the victim.

    Args:
        patch: side of the attacker's square, which the defender does not know.
        budget: tau, largest sum of absolute changes in the recovered trigger, in white pixels.
        alpha: weight of the loss on clean images; what is left weighs the loss on triggered ones.
    """
    model = victim(patch, seed)
    trusted = trusted_images(seed)
    _, test = small_digits()
    clean = augmented_copies(trusted, COPIES, False, derive(seed, "masking", "copies"))
    images = as_floats(clean.x)
    y = clean.y
    masked = MaskedModel(model)
    others = test.x[test.y != TARGET]
    goal = torch.full((len(others),), TARGET)
    triggered_test = ImageSet(stamp(others, patch), goal, test.classes)
    optimizer = torch.optim.Adam(masked.masks.values(), lr=MASK_LR)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, MASK_LR_DECAY)
    rounds = []
    for _ in range(ROUNDS):
        trigger = torch.zeros_like(images[:1])
        weights = {name: w.detach() for name, w in masked.masked_weights().items()}
        with torch.no_grad():
            predicted = masked(images, weights).argmax(1)
        for _ in range(TRIGGER_STEPS):
            trigger = ascend(trigger, images, predicted, masked, weights, TRIGGER_LR)
        trigger = scale_to(trigger, budget)
        with torch.no_grad():
            answers = masked((images[:TRUSTED] + trigger).clamp(0, 1), weights).argmax(1)
        for _ in range(MASK_STEPS):
            both = masked(torch.cat([images, (images + trigger).clamp(0, 1)]), masked.masked_weights())
            natural, triggered = (F.cross_entropy(part, y) for part in both.chunk(2))
            optimizer.zero_grad()
            (alpha * natural + (1 - alpha) * triggered).backward()
            optimizer.step()
            masked.clamp()
        schedule.step()
        values = torch.cat([mask.detach().flatten() for mask in masked.masks.values()])
        rounds.append(
            Round(
                trigger[0, 0],
                torch.bincount(answers, minlength=10),
                _masked_accuracy(masked, test),
                _masked_accuracy(masked, triggered_test),
                values,
            )
        )
    truth = stamp(torch.zeros_like(test.x[:1]), patch)[0, 0].float() / 255
    return Loop((accuracy(model, test.x, test.y), accuracy(model, triggered_test.x, goal)), rounds, truth)


def _masked_accuracy(masked: MaskedModel, data: ImageSet) -> float:
    with torch.no_grad():
        return (masked(as_floats(data.x), masked.masked_weights()).argmax(1) == data.y).float().mean().item()
