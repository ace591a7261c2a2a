"""Adversarial Neuron Pruning: remove the channels that a small perturbation turns against clean images."""

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.shared.pruning import Channels, PruningRule, masked_network, prune_by
from poisonlab.models.base import Classifier, as_floats
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.augmentation import augment
from poisonlab.types import ImageSet

REPOSITORY = "ANP repository"


class ANPConfig(PruningRule):
    eps: float = param(
        0.4,
        "Bound of the relative perturbation of a channel",
        quick={"*": 0.2, "digits": 0.4},
        gt=0,
        le=2,
        source=REPOSITORY,
    )
    alpha: float = param(
        0.2, "Weight of the clean loss; the perturbed loss has 1 - alpha", ge=0, le=1, source=REPOSITORY
    )
    iterations: int = param(
        2000,
        "Steps on the masks",
        quick={"*": 90, "digits": 200},
        full=300,
        ge=1,
        le=100_000,
        source=REPOSITORY,
    )
    average: bool = param(
        False,
        "Pruned is by the average of the masks over all steps, not by the last ones",
        quick={"*": True, "digits": False},
        source="not published",
    )
    ascent_steps: int = param(1, "Sign-gradient steps on the perturbation", ge=1, le=50, source=REPOSITORY)
    mask_lr: float = param(0.2, "SGD learning rate of the masks", gt=0, le=10, source=REPOSITORY)
    momentum: float = param(0.9, "SGD momentum of the masks", ge=0, lt=1, source=REPOSITORY)
    batch_size: int = param(
        128,
        "Images in a step, drawn with replacement",
        quick={"*": 128, "digits": 32},
        ge=2,
        le=4096,
        source=REPOSITORY,
    )
    crop_padding: int = param(
        4, "Random crop after padding by this much", quick=1, ge=0, le=16, unit="pixels"
    )
    flip: bool = param(True, "Images may be mirrored", quick={"*": True, "digits": False, "gtsrb": False})


def ascend(delta: Tensor, xi: Tensor, gradients: tuple[Tensor, Tensor], step: float) -> tuple[Tensor, Tensor]:
    """One step of the inner maximisation:  delta += step sign(grad_delta L),  xi += step sign(grad_xi L)."""
    return delta + step * gradients[0].sign(), xi + step * gradients[1].sign()


@defense("anp")
class ANP(Defense):
    """Wu and Wang, NeurIPS 2021, arXiv:2110.14430:

    min over m in [0, 1]^n of  alpha L(m w, b) + (1 - alpha) max over delta, xi in [-eps, eps]^n of
    L((m + delta) w, (1 + xi) b),  with one m, delta, xi for each batch-norm channel; batch norm in train mode.
    """

    Config = ANPConfig
    card = Card(
        title="Adversarial neuron pruning",
        references=(
            Reference(
                authors="D. Wu, Y. Wang",
                title="Adversarial Neuron Pruning Purifies Backdoored Deep Models",
                venue="NeurIPS",
                year=2021,
                arxiv="2110.14430",
            ),
        ),
        summary="Shake every channel a little, in the direction that hurts most: channels that carry a backdoor make "
        "clean images fall into the target class. Those that cannot stand the shaking are cut off.",
        threat_model="Defender holds the trained model and a few clean images (1 % of the training set).",
        deviations=(
            "Unless choose_by says otherwise, the number of pruned channels weighs accuracy on the clean images "
            "against the success of a pattern recovered from them, or goes as far as two points of that accuracy where "
            "no pattern answers; the paper fixes a threshold, and some benchmarks take the one with the lowest test "
            "ASR (shown here as the oracle).",
            "The preset quick learns few steps, in which single masks still jump: on photographs it prunes by their "
            "average over all steps, and shakes half as hard, for a network with few channels has little slack.",
            "The preset full learns the masks for 300 steps, a matter of minutes.",
            "Settings are counts of pruned channels, not thresholds: small networks have many equal masks.",
            "As in the repository, the perturbation is not projected back after the ascent step from a random start.",
        ),
    )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        Channels(network)

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        cfg = self.config
        channels, logits = masked_network(model, ctx.autocast)
        draws = ctx.generator("anp")
        mask = torch.ones(channels.count, device=ctx.device, requires_grad=True)
        mean = torch.zeros_like(mask, requires_grad=False)
        optimizer = torch.optim.SGD([mask], lr=cfg.mask_lr, momentum=cfg.momentum)

        def noise() -> Tensor:
            uniform = 2 * torch.rand(channels.count, generator=draws, device=ctx.device) - 1
            scaled: Tensor = cfg.eps * uniform
            return scaled

        for step in range(1, cfg.iterations + 1):
            rows = torch.randint(len(clean), (cfg.batch_size,), generator=draws, device=ctx.device)
            x = as_floats(augment(clean.x[rows], cfg.crop_padding, cfg.flip, draws))
            y = clean.y[rows]

            delta = noise()
            xi = noise()
            for _ in range(cfg.ascent_steps):
                delta = delta.requires_grad_()
                xi = xi.requires_grad_()
                perturbed = F.cross_entropy(logits(x, channels.scaled(mask.detach() + delta, 1 + xi)), y)
                to_delta, to_xi = torch.autograd.grad(perturbed, (delta, xi))
                step_size = cfg.eps / cfg.ascent_steps
                delta, xi = ascend(delta.detach(), xi.detach(), (to_delta, to_xi), step_size)

            robust = F.cross_entropy(logits(x, channels.scaled(mask + delta, 1 + xi)), y)
            natural = F.cross_entropy(logits(x, channels.scaled(mask)), y)
            optimizer.zero_grad()
            (cfg.alpha * natural + (1 - cfg.alpha) * robust).backward()
            optimizer.step()
            with torch.no_grad():
                mask.clamp_(0, 1)
                mean.lerp_(mask, 1 / step)
            if step % 10 == 0 or step == cfg.iterations:
                ctx.metric("clean_loss", step, natural.item())
                ctx.metric("perturbed_loss", step, robust.item())
            ctx.progress(step, cfg.iterations)
        return prune_by(mean if cfg.average else mask.detach(), model, clean, cfg, ctx)
