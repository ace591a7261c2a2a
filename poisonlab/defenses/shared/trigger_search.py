"""The search for the smallest trigger of a class, by mask and pattern (Neural Cleanse).

Whatever the defense, a trigger (M, P) changes an image to  (1 - M) x + M P.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.cache.stage_cache import run_stage
from poisonlab.cache.stage_key import fingerprint, fingerprint_images
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats, identity, predict
from poisonlab.spec.config import Config, param
from poisonlab.spec.stages import Stage
from poisonlab.types import Bundle, ImageSet

REPOSITORY = "Neural Cleanse repository, recalled"
BENCH = "BackdoorBench"
COST_DOWN = 1.5  # the cost falls by the factor's power of this


class SearchConfig(Config):
    rounds: int = param(80, "Rounds of the trigger search", quick=40, full=40, ge=1, le=2000, source=BENCH)
    steps: int = param(31, "Steps in a round", quick=4, full=4, ge=1, le=1000, source=REPOSITORY)
    search_batch: int = param(
        32,
        "Images in a step, for each class",
        quick={"*": 32, "gtsrb": 16},
        ge=1,
        le=4096,
        unit="images",
        source=REPOSITORY,
    )
    search_lr: float = param(0.1, "Adam step on mask and pattern", gt=0, le=10, source=BENCH)
    cost: float = param(1e-3, "lambda, weight of the mask's L1 norm at the start", ge=0, le=10, source=BENCH)
    cost_factor: float = param(2.0, "lambda rises by this factor", gt=1, le=100, source=BENCH)
    patience: int = param(
        5,
        "Rounds in a row with (or without) success before lambda moves",
        quick=2,
        full=2,
        ge=1,
        le=100,
        source=BENCH,
    )
    success: float = param(0.98, "Share of images that must be given the class", gt=0, le=1, source=BENCH)


@dataclass(frozen=True)
class Triggers:
    """The smallest trigger found for each of k classes.

    Attributes:
        patterns: P, float ``(k, c, h, w)`` in [0, 1].
        masks: M, float ``(k, 1, h, w)`` in [0, 1].
        success: float ``(k,)``, share of the images given the class under it.
    """

    patterns: Tensor
    masks: Tensor
    success: Tensor

    @property
    def l1_norm(self) -> Tensor:
        """||M||_1, ``(k,)``."""
        return self.masks.flatten(1).sum(1)

    def tensors(self) -> dict[str, Tensor]:
        return {"patterns": self.patterns, "masks": self.masks, "success": self.success}


def paste(x: Tensor, mask: Tensor, pattern: Tensor) -> Tensor:
    """(1 - M) x + M P."""
    return (1 - mask) * x + mask * pattern


def find_triggers(
    model: Classifier, clean: ImageSet, classes: Tensor, config: SearchConfig, ctx: Context
) -> Triggers:
    """:func:`search` as a stage, so that detection and repair of one model pay for it once."""
    compute = partial(_searched, model, clean, classes, config)
    chosen = {name: getattr(config, name) for name in SearchConfig.model_fields}
    key = [
        identity(model),
        fingerprint_images([clean]),
        fingerprint(classes),
        chosen,
        ctx.seed,
    ]
    return Triggers(**run_stage(ctx, Stage.TRIGGER_SEARCH, key, compute).tensors)


def _searched(
    model: Classifier, clean: ImageSet, classes: Tensor, config: SearchConfig, ctx: Context
) -> Bundle:
    return Bundle(search(model, clean, classes, config, ctx).tensors())


def search(
    model: Classifier, clean: ImageSet, classes: Tensor, config: SearchConfig, ctx: Context
) -> Triggers:
    """For each class c on its own:  min over M, P of  L(f((1 - M) x + M P), c) + lambda_c ||M||_1.

    M and P are (tanh(z) + 1) / 2 of free z. lambda_c rises after ``patience`` rounds that succeed and falls after as
    many that do not; the smallest mask of a successful round is kept (the last one where none succeeded). All classes
    step together: their losses share no variable, and Adam works entry by entry.

    Args:
        model: in eval mode, frozen.
        classes: int64 ``(k,)``.
    """
    images = as_floats(clean.x)
    k = len(classes)
    draws = ctx.generator("trigger search")
    c, h, w = clean.shape
    start = torch.rand(
        c + 1, h, w, generator=draws, device=images.device
    )  # every class starts at the same place
    z = torch.atanh((start - 0.5) * 1.98).repeat(k, 1, 1, 1).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=config.search_lr, betas=(0.5, 0.9))
    cost = torch.full((k,), config.cost, device=images.device)
    ups = torch.zeros_like(cost)
    downs = torch.zeros_like(cost)
    best = torch.full_like(cost, torch.inf)
    kept = z.detach().clone()

    for round_ in range(1, config.rounds + 1):
        hits = torch.zeros_like(cost)
        for _ in range(config.steps):
            rows = torch.randint(len(images), (config.search_batch,), generator=draws, device=images.device)
            mask, pattern = _unpacked(z)
            x = paste(images[rows], mask[:, None], pattern[:, None])  # (k, b, c, h, w)
            with ctx.autocast():
                logits = model(x.flatten(0, 1).contiguous(memory_format=torch.channels_last)).to(x.dtype)
            wanted = classes.repeat_interleave(len(rows))
            each = F.cross_entropy(logits, wanted, reduction="none").view(k, -1).mean(1)
            optimizer.zero_grad()
            (each + cost * mask.flatten(1).sum(1)).sum().backward()
            optimizer.step()
            hits += (logits.argmax(1) == wanted).view(k, -1).float().mean(1)
        succeeded = hits / config.steps >= config.success
        norms = _unpacked(z.detach())[0].flatten(1).sum(1)
        better = torch.where(succeeded, norms < best, best.isinf())
        best = torch.where(succeeded & better, norms, best)
        kept[better] = z.detach()[better]
        ups = (ups + 1) * succeeded
        downs = (downs + 1) * ~succeeded
        rise = ups >= config.patience
        fall = downs >= config.patience
        cost = cost * config.cost_factor ** (rise.float() - COST_DOWN * fall.float())
        ups[rise], downs[fall] = 0, 0
        ctx.metric("trigger_norm", round_, norms.quantile(0.5).item())
        ctx.progress(round_, config.rounds)
    masks, patterns = _unpacked(kept)
    found = zip(masks, patterns, classes, strict=True)
    hit = [(predict(model, paste(images, m, p)) == label).float().mean() for m, p, label in found]
    return Triggers(patterns, masks, torch.stack(hit))


def _unpacked(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mask ``(k, 1, h, w)`` and pattern ``(k, c, h, w)`` in [0, 1]."""
    values = (torch.tanh(z) + 1) / 2
    return values[:, :1], values[:, 1:]
