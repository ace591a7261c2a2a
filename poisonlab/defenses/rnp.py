"""Reconstructive Neuron Pruning: make the model forget clean images, see which channels cannot remember them."""

import dataclasses

import torch
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.shared.pruning import Channels, PruningRule, masked_network, prune_by
from poisonlab.defenses.shared.repeated_unlearning import forget_repeatedly
from poisonlab.defenses.shared.trigger_search import SearchConfig, find_triggers
from poisonlab.defenses.shared.unlearning import Unlearning, show_predictions, unlearn
from poisonlab.models.base import Classifier, as_floats
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.augmentation import augment
from poisonlab.training.loop import batches, evaluation_is_due, steps_in_epoch
from poisonlab.types import Detection, ImageSet

REPOSITORY = "RNP repository"
OURS = "not published"


class RNPConfig(SearchConfig, PruningRule):
    unlearn_lr: float = param(
        0.01,
        "SGD learning rate of unlearning before the repair",
        quick={"*": 0.01, "cifar10": 0.001},
        gt=0,
        le=1,
        source=REPOSITORY,
    )
    unlearn_epochs: int = param(
        21,
        "Most passes of unlearning, lr / 10 after 10 and after 20; the repository's loop over 20 takes one more",
        ge=1,
        le=1000,
        source=REPOSITORY,
    )
    stop_chance: float = param(
        2.0,
        "Unlearning ends at this multiple of chance accuracy (0.20 of ten classes)",
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    recover_lr: float = param(
        0.2,
        "SGD learning rate of the masks",
        quick={"*": 0.05, "digits": 0.2, "cifar10": 0.2},
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    recover_epochs: int = param(
        20, "Passes of recovering", quick={"*": 5, "cifar10": 20}, ge=1, le=1000, source=REPOSITORY
    )
    alpha: float = param(0.2, "Factor on the recovering loss", gt=0, le=1, source=REPOSITORY)
    momentum: float = param(0.9, "SGD momentum of both", ge=0, lt=1, source=REPOSITORY)
    weight_decay: float = param(5e-4, "L2 weight decay of unlearning", ge=0, le=0.1, source=REPOSITORY)
    batch_size: int = param(
        128, "Images in a step", quick={"*": 128, "digits": 32}, ge=2, le=4096, source=REPOSITORY
    )
    crop_padding: int = param(
        4, "Random crop after padding by this much", quick=1, ge=0, le=16, unit="pixels"
    )
    flip: bool = param(True, "Images may be mirrored", quick={"*": True, "digits": False, "gtsrb": False})
    detect_lr: float = param(
        0.01,
        "Detection: SGD learning rate of unlearning, until the copies know nothing any more",
        gt=0,
        le=1,
        source=OURS,
    )
    repeats: int = param(
        5,
        "Detection: unlearned copies, each of another part of the clean images",
        full=3,
        ge=1,
        le=100,
        source=OURS,
    )
    part: float = param(
        0.5,
        "Detection: share of the clean images that a copy unlearns",
        quick={"*": 0.5, "digits": 0.8},
        gt=0,
        le=1,
        source=OURS,
    )
    agreement: float = param(
        0.75,
        "Detection: a class that holds more than this share of the clean images over all copies is flagged",
        gt=0,
        le=1,
        source=OURS,
    )
    false_alarms: float = param(
        0.05,
        "Detection: share of the clean images that may look as sure of their label as a flagged image does",
        gt=0,
        lt=1,
        source=OURS,
    )


@defense("rnp")
class RNP(Defense):
    """Li et al., ICML 2023, arXiv:2305.14876:

    1. unlearn:  max over theta of L(f(x; theta), y) on clean images, for all parameters;
    2. recover:  min over m in [0, 1]^n of  alpha L(f(x; m gamma), y)  on the unlearned network, for its filters only;
    3. prune the original network's channels with the smallest m.

    The abstract's other uses of the unlearned network: the class it falls into is the attacker's, images whose label it
    is still sure of carry the trigger.
    """

    Config = RNPConfig
    judges_models = True
    card = Card(
        title="Reconstructive neuron pruning",
        references=(
            Reference(
                authors="Y. Li et al.",
                title="Reconstructive Neuron Pruning for Backdoor Defense",
                venue="ICML",
                year=2023,
                arxiv="2305.14876",
            ),
        ),
        summary="First the model is made to forget what clean images are, then it may win that back by turning its "
        "channels up or down. The backdoor never was forgotten; the channels that stand in the way of recovery "
        "belong to it, and are cut off.",
        threat_model="Defender holds the trained model and a few clean images (1 % of the training set).",
        deviations=(
            "Unless choose_by says otherwise, the number of pruned channels weighs accuracy on the clean images "
            "against the success of a pattern recovered from them, or goes as far as two points of that accuracy where "
            "no pattern answers; the repository sweeps thresholds and has no rule.",
            "Unlearning stops at twice chance, which is the repository's 0.20 for ten classes. Before a repair, the "
            "preset quick unlearns CIFAR-10 ten times more slowly and seldom gets that far: from a network of 336 "
            "channels that has forgotten everything, the masks recover nothing.",
            "Detection unlearns several parts of the clean images and flags a class only if all these networks "
            "together fall into it: a clean network collapses, too, but each time elsewhere. The recipe is ours; under "
            "the preset full there are three.",
            "The trigger is searched on the original network, for the flagged class alone. On the unlearned one "
            "nearly every image goes there without any trigger, and the smallest mask is an empty one.",
            "Masks keep full precision; the repository writes them with four decimals, which makes ties.",
        ),
    )

    def _unlearning(self, classes: int) -> Unlearning:
        return Unlearning.of(self.config, classes, weight_decay=self.config.weight_decay, milestones=(10, 20))

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        cfg = self.config
        how = dataclasses.replace(self._unlearning(len(clean.classes)), lr=self.config.detect_lr)
        found = forget_repeatedly(model, clean, suspects, how, cfg.repeats, cfg.part, ctx)
        backdoored = bool((found.class_share > cfg.agreement).any())
        suspect = found.class_share.argmax()
        target = int(suspect) if backdoored else None
        trigger = find_triggers(model, clean, suspect[None], cfg, ctx)
        bound = found.trusted_margins.quantile(1 - cfg.false_alarms)
        flagged = (suspects.y == (-1 if target is None else target)) & (found.margins > bound)
        return Detection(
            backdoored,
            target,
            "share of the clean images after unlearning",
            found.class_share,
            cfg.agreement,
            found.margins,
            flagged,
            suspect[None],
            trigger.patterns,
            trigger.masks,
        )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        Channels(network)

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        cfg = self.config
        unlearned = unlearn(model, clean, self._unlearning(len(clean.classes)), ctx)
        show_predictions(model, unlearned, clean, ctx)

        channels, logits = masked_network(unlearned, ctx.autocast)
        mask = torch.ones(channels.count, device=ctx.device, requires_grad=True)
        optimizer = torch.optim.SGD([mask], lr=cfg.recover_lr, momentum=cfg.momentum)
        draws = ctx.generator("rnp")
        per_epoch = steps_in_epoch(len(clean), cfg.batch_size)
        total = cfg.recover_epochs * per_epoch
        loss_sum = torch.zeros((), device=ctx.device)  # of an epoch: to read a loss is to wait for the device
        ctx.observe("recovering", 0, unlearned)
        for step, rows in enumerate(batches(len(clean), cfg.batch_size, cfg.recover_epochs, draws), 1):
            x = as_floats(augment(clean.x[rows], cfg.crop_padding, cfg.flip, draws))
            loss = cfg.alpha * F.cross_entropy(logits(x, channels.scaled(mask)), clean.y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                mask.clamp_(0, 1)
            loss_sum += loss.detach()
            epoch, rest = divmod(step, per_epoch)
            if rest == 0:
                ctx.metric("recovering_loss", epoch, loss_sum.item() / per_epoch / cfg.alpha)
                loss_sum.zero_()
            if rest == 0 and evaluation_is_due(epoch, cfg.recover_epochs):
                ctx.observe("recovering", epoch, logits.holding(channels.scaled(mask.detach())))
            ctx.progress(step, total)
        return prune_by(mask.detach(), model, clean, cfg, ctx)
