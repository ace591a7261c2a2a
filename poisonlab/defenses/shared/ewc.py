"""EWC influence: which training images disagree with trusted ones, from one short, anchored training on those.

    theta_S = argmin  sum_S l(z; theta) + kappa N / 2 (theta - theta^)' diag(F) (theta - theta^)
    r_S(z)  = l(z; theta_S) - l(z; theta^)

Tanno, Pradier, Nori and Li, NeurIPS 2022, arXiv:2207.04806, with the trusted set S in place of their failures. A
positive score: what the trusted images teach speaks against this image with this label.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from poisonlab.cache.stage_cache import run_stage
from poisonlab.cache.stage_key import fingerprint_images
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats, identity, logits
from poisonlab.spec.config import Config, FineTuneConfig, param
from poisonlab.spec.stages import Stage
from poisonlab.training.loop import TrainingHook, fine_tune
from poisonlab.types import Bundle, ImageSet

CHUNK = 128  # images whose gradients are held at once
TANNO = "Tanno et al. 2022"
HOLDS_SUSPECTS = "Defender holds the trained model, its whole training set, and a few trusted images."


class InfluenceConfig(Config):
    flag_share: float = param(
        0.25,
        "Share of the training images that are flagged, those with the highest scores",
        ge=0,
        le=1,
        source="ours; the defender does not know the true share",
    )
    only_positive: bool = param(False, "Of these, flag only images with a positive score", source="ours")
    kappa: float = param(1.0, "Strength of the anchor to the given weights", ge=0, le=1000, source=TANNO)
    fisher_images: int = param(
        0,
        "Training images, drawn at random, that the Fisher information is averaged over; 0 for all",
        quick=1000,
        ge=0,
        unit="images",
        source=TANNO,
    )
    adapt_epochs: int = param(100, "Passes over the trusted images", quick=30, ge=1, le=1000, source=TANNO)
    adapt_batch: int = param(64, "Images in a step", quick=16, ge=2, le=4096, unit="images", source=TANNO)
    adapt_lr: float = param(
        1e-3,
        "Adam learning rate, x0.1 at 1/4, 1/2 and 3/4 of the steps",
        gt=0,
        le=1,
        source=f"{TANNO}, where it is constant",
    )


def fisher_diagonal(model: Classifier, data: ImageSet) -> dict[str, Tensor]:
    """Empirical Fisher information of each weight: the mean over ``data`` of (d log p(y | x) / d theta)^2.

    Args:
        model: in eval mode; batch norm uses its running statistics, so that images do not mix.
    """
    weights = {name: value.detach() for name, value in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, (theta, buffers), (x[None],)), y[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(value) for name, value in weights.items()}
    with torch.no_grad():
        for x, y in zip(data.x.split(CHUNK), data.y.split(CHUNK), strict=True):
            for name, gradient in each(weights, as_floats(x).to(next(iter(weights.values()))), y).items():
                total[name] += gradient.square().sum(0)
    return {name: value / len(data) for name, value in total.items()}


class Anchor(TrainingHook):
    """Adds  strength / 2 * sum_i F_i (theta_i - theta^_i)^2  to the loss of every step."""

    def __init__(self, model: nn.Module, fisher: dict[str, Tensor], strength: float) -> None:
        self.start = {name: value.detach().clone() for name, value in model.named_parameters()}
        self.fisher = fisher
        self.strength = strength

    def penalty(self, model: nn.Module) -> Tensor:
        terms = [
            (self.fisher[name] * (value - self.start[name]).square()).sum()
            for name, value in model.named_parameters()
            if value.requires_grad
        ]
        return self.strength / 2 * torch.stack(terms).sum()

    def backward(self, model: nn.Module, forward: Callable[[], Tensor]) -> Tensor:
        value = forward() + self.penalty(model)
        value.backward()
        return value.detach()


def drawn_fisher(model: Classifier, suspects: ImageSet, images: int, ctx: Context) -> dict[str, Tensor]:
    """:func:`fisher_diagonal` over ``images`` of the suspects, drawn at random; 0 for all."""
    draws = ctx.generator("ewc", "fisher")
    order = torch.randperm(len(suspects), generator=draws, device=suspects.y.device)
    return fisher_diagonal(model, suspects[order[: images or None]])


def plain_recipe(epochs: int, batch_size: int, lr: float) -> FineTuneConfig:
    """Training of all weights of a finished network, its batch norm untouched; only the elastic band regularizes."""
    return FineTuneConfig(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        weight_decay=0.0,
        crop_padding=0,
        flip=False,
        frozen_norm=True,
    )


def adapted(
    model: Classifier, clean: ImageSet, suspects: ImageSet, config: InfluenceConfig, ctx: Context
) -> Classifier:
    """theta_S: a copy of ``model`` after anchored training on the trusted images, its batch norm untouched."""
    recipe = plain_recipe(config.adapt_epochs, config.adapt_batch, config.adapt_lr)
    fisher = drawn_fisher(model, suspects, config.fisher_images, ctx)
    # the loop's loss is a mean over S: the sum's anchor is divided by |S|, too
    anchor = Anchor(model, fisher, config.kappa * len(suspects) / len(clean))
    moved = copy.deepcopy(model).requires_grad_(True)
    fine_tune(moved, clean, recipe, ctx, anchor)
    return moved.requires_grad_(False)


def losses(model: Classifier, data: ImageSet) -> Tensor:
    """Cross-entropy of each image with its given label, float ``(n,)``."""
    return F.cross_entropy(logits(model, data.x), data.y, reduction="none")


def influence(
    model: Classifier, clean: ImageSet, suspects: ImageSet, config: InfluenceConfig, ctx: Context
) -> Tensor:
    """r_S of every suspect, float ``(n,)``. A stage of its own, so that defenses of one model pay for it once."""
    settings = {name: getattr(config, name) for name in InfluenceConfig.model_fields}
    settings = {k: v for k, v in settings.items() if k not in ("flag_share", "only_positive")}
    given = identity(model), fingerprint_images([clean, suspects])
    compute = partial(_scored, model, clean, suspects, config)
    return run_stage(ctx, Stage.INFLUENCE, [*given, settings, ctx.seed], compute).tensors["scores"]


def _scored(
    model: Classifier, clean: ImageSet, suspects: ImageSet, config: InfluenceConfig, ctx: Context
) -> Bundle:
    moved = adapted(model, clean, suspects, config, ctx)
    return Bundle({"scores": losses(moved, suspects) - losses(model, suspects)})


def flag(scores: Tensor, config: InfluenceConfig) -> Tensor:
    """Rows of the flagged images C, the highest score first, int64 ``(k,)``."""
    order = scores.argsort(descending=True, stable=True)
    rows = order[: round(config.flag_share * len(scores))]
    return rows[scores[rows] > 0] if config.only_positive else rows
