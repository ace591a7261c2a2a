"""Cognitive Distillation: the smallest part of an image that keeps a network's answer; of a trigger it is tiny."""

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.models.base import EVALUATION_BATCH, Classifier, as_floats
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.types import ImageSet

REPOSITORY = "authors' repository"
SIDE = 32  # of the images that the published weight of the mask's norm is meant for


class CognitiveDistillationConfig(Config):
    steps: int = param(100, "Steps of Adam on each mask", quick=40, ge=1, le=10_000, source=REPOSITORY)
    lr: float = param(0.1, "Adam's rate on the masks", gt=0, le=10, source=REPOSITORY)
    momentum: float = param(0.1, "Both of Adam's decay rates", ge=0, lt=1, source=REPOSITORY)
    start: float = param(
        1.0, "Where masks start, before the hyperbolic tangent", ge=-5, le=5, source=REPOSITORY
    )
    alpha: float = param(
        0.01,
        "Weight of the mask's L1 norm, on images of 32x32; on others as much for the whole image",
        gt=0,
        le=10,
        source=f"{REPOSITORY}; 0.001 for ImageNet",
    )
    beta: float = param(
        10.0,
        "Weight of the mask's total variation",
        ge=0,
        le=1000,
        source="the paper; 1 in the repository's default",
    )


def total_variation(masks: Tensor) -> Tensor:
    """Sum of the squared differences of neighbors over the number of pixels, of masks ``(n, 1, h, w)``; ``(n,)``."""
    down = (masks[..., 1:, :] - masks[..., :-1, :]).square().flatten(1).sum(1)
    right = (masks[..., 1:] - masks[..., :-1]).square().flatten(1).sum(1)
    return (down + right) / masks[0].numel()


def distilled_masks(
    model: Classifier, x: Tensor, config: CognitiveDistillationConfig, colors: Tensor
) -> Tensor:
    """The masks m of images: min over m of  mean_c |f(x) - f(x m + (1 - m) u)|_c + alpha ||m||_1 + beta TV(m).

    f are logits before a victim's fixed factor: their scale decides what a mask may cost. Each image's mask depends on
    that image alone.

    Args:
        x: uint8 ``(n, c, h, w)``.
        colors: float ``(steps, c)`` in [0, 1], the background u of each step.

    Returns:
        float ``(n, 1, h, w)`` in [0, 1].
    """
    images = as_floats(x)
    n, _, h, w = images.shape
    alpha = config.alpha * SIDE**2 / (h * w)
    with torch.no_grad():
        wanted = model(images) / model.logit_scale
    theta = torch.full((n, 1, h, w), config.start, device=x.device, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=config.lr, betas=(config.momentum, config.momentum))
    for color in colors:
        masks = (torch.tanh(theta) + 1) / 2
        background = color.view(1, -1, 1, 1)
        logits = model(images * masks + (1 - masks) * background) / model.logit_scale
        change = (wanted - logits).abs().mean(1)
        norm = masks.flatten(1).sum(1)
        loss = (change + alpha * norm + config.beta * total_variation(masks)).sum()
        (theta.grad,) = torch.autograd.grad(loss, theta)
        optimizer.step()
    return ((torch.tanh(theta) + 1) / 2).detach()


@defense("cognitive_distillation")
class CognitiveDistillation(Defense):
    """Huang, Ma, Erfani and Bailey, ICLR 2023, arXiv:2301.10908:

    1. m: the smallest smooth mask under which an image keeps its logits, all else a plain color that changes from step
       to step;
    2. score(x) = -||m||_1, here as a share of the image: a trigger is all that the network looks at.
    """

    Config = CognitiveDistillationConfig
    card = Card(
        title="Cognitive Distillation",
        references=(
            Reference(
                authors="H. Huang, X. Ma, S. Erfani, J. Bailey",
                title="Distilling Cognitive Backdoor Patterns within an Image",
                venue="ICLR",
                year=2023,
                arxiv="2301.10908",
            ),
        ),
        summary="Ask which part of an image the network needs for its answer. For an ordinary image that is the "
        "object; with a patch it is the patch and nothing else, so a small mask is suspicious.",
        threat_model="Defender holds the trained model and a few clean images, and stops inputs; changes nothing.",
        deviations=(
            "The background of a step is one color for all images, so that an image's score does not depend on others; "
            "the repository draws one for each.",
            "The threshold is that of all screens here, 5 % of trusted images; the paper's is one deviation below "
            "their mean.",
            "Logits are taken before a victim's fixed factor, which would shrink every mask.",
            "Triggers that cover the whole image need large masks, and are missed.",
            "The preset quick takes 40 steps in place of 100. Its networks have small logits (2 on average), so that "
            "masks cost much against them: on CIFAR-10, seed 10, BadNets has an AUROC of 0.59, and of 0.35 after 100 "
            "steps, although a third of each triggered image's mask then lies in the patch.",
        ),
    )

    def screen(self, model: Classifier, clean: ImageSet, x: Tensor, ctx: Context) -> Tensor:
        cfg: CognitiveDistillationConfig = self.config
        draws = ctx.generator("cognitive distillation")
        colors = torch.rand((cfg.steps, x.shape[1]), generator=draws, device=draws.device).to(x.device)
        parts = x.split(EVALUATION_BATCH)
        masks = [distilled_masks(model, part, cfg, colors) for part in ctx.track(parts, len(parts))]
        return -torch.cat([mask.flatten(1).mean(1) for mask in masks])
