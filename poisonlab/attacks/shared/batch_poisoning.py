"""Backdoors of attackers who control training: the rows that carry the trigger change with every batch."""

import math

import torch
from torch import Tensor, nn

from poisonlab.attacks.shared.backdoor import BackdoorAttack
from poisonlab.context import Context
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import TrainingHook
from poisonlab.types import ImageSet, Poison


class BatchPoisoning(TrainingHook):
    """Of each batch, one share gets the trigger and the attacker's label, another a false trigger and keeps its label.

    The first share is that of the poisoned images in the training set, at least one image; all-to-one passes over
    images of the target class. The false triggers teach the network that only the true one counts.

    Args:
        false_rate: share of a batch that gets a false trigger.
    """

    def __init__(self, attack: BackdoorAttack, poison: Poison, false_rate: float, ctx: Context) -> None:
        self.attack = attack
        self.poison = poison
        self.false_rate = false_rate
        self.ctx = ctx

    def paste(self, x: Tensor, decoys: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` with the trigger, and ``decoys`` with one that must not work.

        Args:
            x, decoys, others: float images in [0, 1], three disjoint parts of a batch, the last two equally long.
        """
        raise NotImplementedError

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        self.threat = self.attack.threat(self.poison, len(data.classes))
        self.share = self.poison.budget / len(data)
        self.steps_an_epoch = steps_an_epoch
        self.steps = torch.zeros((), dtype=torch.int64)
        # (true, false trigger) x (images given their label in training, images)
        self.counts = torch.zeros(2, 2, device=data.x.device)

    def checkpoint(self) -> Checkpoint:
        return Checkpoint({"steps": self.steps, "counts": self.counts})

    def rows(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions in a batch, which is in random order: of true triggers, of false ones, and of other images."""
        allowed = torch.ones_like(y, dtype=torch.bool)
        if self.threat.target_class is not None:
            allowed = y != self.threat.target_class
        true = allowed.nonzero().squeeze(1)[: max(1, round(self.share * len(y)))]
        rest = torch.ones_like(allowed)
        rest[true] = False
        places = rest.nonzero().squeeze(1)
        count = min(math.ceil(self.false_rate * len(y)), len(places) // 2)
        return true, places[:count], places[count : 2 * count]

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        self.true, self.false, others = self.rows(y)
        triggered, decoys = self.paste(x[self.true], x[self.false], x[others])
        x = x.clone()
        y = y.clone()
        x[self.true] = triggered
        x[self.false] = decoys
        y[self.true] = self.threat.relabel(y[self.true])
        return x, y

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        self._count(logits.argmax(1) == y)
        return super().loss(logits, y, label_smoothing)

    def _count(self, right: Tensor) -> None:
        """Once an epoch: how many images with the true and the false trigger got their label in training."""
        for sums, rows in zip(self.counts, (self.true, self.false), strict=True):
            sums += torch.stack([right[rows].sum(), torch.tensor(len(rows), device=right.device)])
        self.steps += 1
        step = int(self.steps)  # on the host, like the tensor
        if step % self.steps_an_epoch == 0:
            (hits, triggered), (kept, false) = self.counts.tolist()
            self.ctx.metric("triggered_accuracy", step, hits / max(1, triggered))
            if false:
                self.ctx.metric("cross_accuracy", step, kept / false)
            self.counts.zero_()
