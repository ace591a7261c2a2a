"""STRIP: blend an image with others; a prediction that nothing disturbs hangs on a trigger."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.defenses.shared.sample_scores import (
    OutlierRule,
    flagged_shares,
    outlier_threshold,
    sample_verdict,
)
from poisonlab.models.base import EVALUATION_BATCH, Classifier, as_floats
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.types import Detection, ImageSet

LEAST_SPREAD = 0.02  # of the shares of flagged images


class StripConfig(OutlierRule):
    overlays: int = param(
        100,
        "Clean images that each suspect is blended with, N; one less than there are, at most",
        quick={"*": 10, "digits": 40},
        ge=1,
        le=10_000,
        unit="images",
        source="the paper; 10 suffice on GTSRB",
    )
    false_rejections: float = param(
        0.01, "Share of clean images that may be flagged", gt=0, lt=0.5, source="the paper's tables"
    )
    weight: float = param(
        1.0,
        "Weight of the other image, whose normalized pixels are added to the suspect's",
        gt=0,
        le=10,
        source="BackdoorBench",
    )


def blended_entropy(
    model: Classifier, x: Tensor, overlays: Iterable[Tensor], count: int, weight: float, ctx: Context
) -> Tensor:
    """Mean entropy in bits of what ``model`` says of each image blended with each of its overlays, ``(n,)``.

    Args:
        x: uint8 ``(n, c, h, w)``.
        overlays: ``count`` times uint8 ``(m, c, h, w)``, with m = n, or m = 1 where all images share one.
    """
    total = torch.zeros(len(x), device=x.device)
    with torch.inference_mode():
        for overlay in ctx.track(overlays, count):
            other = overlay.expand_as(x)
            parts = zip(x.split(EVALUATION_BATCH), other.split(EVALUATION_BATCH), strict=True)
            total += torch.cat([_entropy(model, *part, weight) for part in parts])
    return total.clone() / count


def _entropy(model: Classifier, x: Tensor, other: Tensor, weight: float) -> Tensor:
    blended = model.normalize(as_floats(x)) + weight * model.normalize(as_floats(other))
    logits = model.head(model.body(blended)) * model.logit_scale
    entropy: Tensor = torch.special.entr(logits.double().softmax(1)).sum(1).float() / math.log(2)
    return entropy


def boundary(entropies: Tensor, false_rejections: float) -> float:
    """The entropy below which a normal fit has this share of the clean images."""
    quantile = torch.special.ndtri(torch.tensor(false_rejections, dtype=torch.float64))
    return float(entropies.double().mean() + quantile.item() * entropies.double().std())


@defense("strip")
class Strip(Defense):
    """Gao et al., ACSAC 2019, arXiv:1902.06531, of inputs when the model is used, and of training images as well:

    1. H(x) = mean over N clean images x_k of the entropy (base 2) of f(x + x_k);
    2. boundary = the 1 % percentile of a normal fit to H of clean images;
    3. x carries a trigger if H(x) <= boundary.
    """

    Config = StripConfig
    card = Card(
        title="STRIP",
        references=(
            Reference(
                authors="Y. Gao, C. Xu, D. Wang, S. Chen, D. C. Ranasinghe, S. Nepal",
                title="STRIP: A Defence against Trojan Attacks on Deep Neural Networks",
                venue="ACSAC",
                year=2019,
                arxiv="1902.06531",
            ),
        ),
        summary="Lay other images over an image, and the network should lose track of what it shows. With a trigger it "
        "does not: whatever else is in the picture, the answer stays the attacker's. So too much certainty under "
        "disturbance is suspicious.",
        threat_model="Defender holds the trained model and a few clean images.",
        deviations=(
            "The paper judges inputs when the model is used, as the screening does; its other use here judges the "
            "training images and repairs nothing.",
            "All suspects are blended with the same images; the paper draws new ones for each input.",
            "Images are added after normalization, both at full weight, as BackdoorBench does: no average of the two.",
            "The model was trained on the suspects but not on the clean images that set the boundary, so more than "
            "1 % of the clean suspects may fall below it: see the control.",
            "It finds triggers that work on any image. Clean-label targeted poisons have none: it has nothing to say.",
            "The paper names no class. Here one is named whose share of flagged images stands out.",
            "The preset quick blends with 10 images (digits: 40).",
        ),
    )

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        cfg = self.config
        order = torch.randperm(len(clean), generator=ctx.generator("strip"), device=clean.x.device)
        bound = -1.0  # entropies are not negative: nobody is flagged
        if len(clean) > 2:
            trusted = clean.x[order]
            count = min(cfg.overlays, len(clean) - 1)
            others = (trusted.roll(-k, 0) for k in range(1, count + 1))  # never an image with itself
            bound = boundary(
                blended_entropy(model, trusted, others, count, cfg.weight, ctx), cfg.false_rejections
            )
        if bound < 0:
            ctx.log(
                f"the entropies of the {len(clean)} clean images are too few or too widely spread for a boundary: "
                "nobody is flagged",
                "warning",
            )
        overlays = clean.x[order[: cfg.overlays], None]
        entropies = blended_entropy(model, suspects.x, overlays, len(overlays), cfg.weight, ctx)
        flagged = entropies <= bound
        shares = flagged_shares(flagged, suspects)
        threshold = outlier_threshold(shares, cfg.anomaly, LEAST_SPREAD)
        return sample_verdict("share of the class flagged", shares, threshold, -entropies, flagged, ctx)

    def screen(self, model: Classifier, clean: ImageSet, x: Tensor, ctx: Context) -> Tensor:
        """-H(x), the paper's own use."""
        order = torch.randperm(len(clean), generator=ctx.generator("strip"), device=clean.x.device)
        overlays = clean.x[order[: self.config.overlays], None]
        return -blended_entropy(model, x, overlays, len(overlays), self.config.weight, ctx)
