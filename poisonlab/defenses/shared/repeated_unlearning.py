"""What a backdoored model cannot forget: detection by clean unlearning, several times over.

Gradient ascent on clean images drives a model into one class. A clean model ends in a class that changes with the
images it was made to forget; a backdoored one always ends in the attacker's class, and is surest of that class where it
sees the trigger. One unlearning alone proves nothing: clean models collapse, too.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.shared.unlearning import Unlearning, unlearn
from poisonlab.events import Event, Metric
from poisonlab.models.base import Classifier, logits
from poisonlab.types import ImageSet


@dataclass(frozen=True)
class Forgotten:
    """Averages over several unlearned copies of a model.

    Attributes:
        class_share: float ``(classes,)``, share of the trusted images given each class.
        margins: float ``(n,)``, how sure the copies are of the suspects' labels, in units of what is usual for them.
        trusted_margins: the same of the trusted images.
    """

    class_share: Tensor
    margins: Tensor
    trusted_margins: Tensor


def margin(scores: Tensor, y: Tensor) -> Tensor:
    """The logit of a label minus the largest other one, ``(n, classes)`` and ``(n,)`` -> ``(n,)``."""
    own = scores.gather(1, y[:, None])
    others = scores.scatter(1, y[:, None], -torch.inf)
    return own[:, 0] - others.max(1).values


def forget_repeatedly(
    model: Classifier,
    clean: ImageSet,
    suspects: ImageSet,
    how: Unlearning,
    repeats: int,
    part: float,
    ctx: Context,
) -> Forgotten:
    """Unlearn a random part of the trusted images, ``repeats`` times, each time from ``model``."""
    how = dataclasses.replace(how, batch_size=max(2, how.batch_size // 2))
    quiet = dataclasses.replace(ctx, send=lambda event: _but_metrics(event, ctx))
    draws = ctx.generator("parts")
    shares = []
    suspected = []
    trusted = []
    for repeat in range(1, repeats + 1):
        order = torch.randperm(len(clean), generator=draws, device=clean.y.device)
        unlearned = unlearn(model, clean[order[: max(2, round(part * len(clean)))]], how, quiet)
        answers = logits(unlearned, clean.x)
        labels = answers.argmax(1)
        usual = margin(answers, labels).median().clamp_min(1e-6)
        shares.append(torch.bincount(labels, minlength=len(clean.classes)) / len(clean))
        with ctx.autocast():  # the suspects are many
            scores = logits(unlearned, suspects.x).float()
        suspected.append(margin(scores, suspects.y) / usual)
        trusted.append(margin(answers, clean.y) / usual)
        ctx.metric("largest_share", repeat, shares[-1].max().item())
    return Forgotten(*(torch.stack(each).mean(0) for each in (shares, suspected, trusted)))


def _but_metrics(event: Event, ctx: Context) -> None:
    """One unlearning's curve says little; its progress and a wish to cancel go through."""
    if not isinstance(event, Metric):
        ctx.send(event)
