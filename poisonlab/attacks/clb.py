"""CLB: hard images of the target class, so that the model relies on the trigger stamped on them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import BackdoorAttack, CleanLabelConfig
from poisonlab.attacks.shared.pixels import add_pattern, round_within
from poisonlab.context import Context
from poisonlab.models.base import EVALUATION_BATCH, Classifier, as_floats, predict
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.types import ImageSet

# On the right, above as below; on the left its mirror image.
CORNER = ((-1, -1, 1), (-1, 1, -1), (1, -1, 1))


class CLBConfig(CleanLabelConfig):
    poison_rate: float = param(
        0.8,
        "Share of the images that is poisoned",
        quick={"*": 0.8, "digits": 0.98},
        gt=0,
        le=1,
        source="ANP repository",
    )
    eps: float = param(
        16,
        "L-infinity bound of the hardening",
        quick={"*": 16, "digits": 48},
        ge=1,
        le=255,
        unit="1/255",
        source="ANP repository, like poison_rate; BackdoorBench 8",
    )
    steps: int = param(
        100, "Gradient steps of the hardening", quick=20, ge=1, le=1000, source="BackdoorBench"
    )
    step_size: float = param(
        1.5,
        "Length of a step",
        quick={"*": 1.5, "digits": 6},
        gt=0,
        le=255,
        unit="1/255",
        source="BackdoorBench",
    )
    amplitude: float = param(
        255,
        "Contrast of the corner patterns: 255 replaces the pixels, less adds to them",
        ge=1,
        le=255,
        unit="1/255",
        source="label-consistent repository, which also uses 16 to 64",
    )


def corners(h: int, w: int) -> Tensor:
    """+1 and -1 in the four 3x3 corners, 0 elsewhere; float ``(h, w)``."""
    if min(h, w) < 6:
        raise ValueError(f"four 3x3 corners need images of 6x6 pixels, these have {h}x{w}")
    signs = torch.zeros(h, w)
    signs[-3:, -3:] = torch.tensor(CORNER, dtype=torch.float32)
    signs[-3:, :3] = signs[-3:, -3:].flip(1)
    signs[:3] = signs[-3:]
    return signs


def loss_gradient(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of each image's loss with respect to the image, like ``x``."""
    parts = []
    for part, labels in zip(x.split(EVALUATION_BATCH), y.split(EVALUATION_BATCH), strict=True):
        part = part.detach().requires_grad_()
        loss = F.cross_entropy(model(part), labels, reduction="sum")
        parts += torch.autograd.grad(loss, part)
    return torch.cat(parts)


def harden(model: Classifier, x: Tensor, y: Tensor, config: CLBConfig, ctx: Context) -> Tensor:
    """Projected gradient ascent from a random start:  x <- Pi_eps(x + step_size sign grad L(f(x), y)).

    Args:
        x: uint8 ``(n, c, h, w)``; not modified.

    Returns:
        uint8 like ``x``, within ``eps`` of it.
    """
    eps = config.eps / 255
    step_size = config.step_size / 255
    base = as_floats(x)
    low = (base - eps).clamp_min(0)
    high = (base + eps).clamp_max(1)
    noise = 2 * torch.rand(x.shape, generator=ctx.generator("clb", "start"), device=x.device) - 1
    moved = (base + eps * noise).clamp(low, high)
    for _ in ctx.track(range(config.steps), config.steps):
        moved = (moved + step_size * loss_gradient(model, moved, y).sign()).clamp(low, high)
    return round_within(moved, x, config.eps)


@attack("clb")
class CLB(BackdoorAttack):
    """Label-consistent backdoor (Turner et al. 2019, arXiv:1912.02771, section 4)."""

    Config = CLBConfig
    clean_label = True
    card = Card(
        title="Label-consistent backdoor (CLB)",
        references=(
            Reference(
                authors="A. Turner, D. Tsipras, A. Madry",
                title="Label-Consistent Backdoor Attacks",
                year=2019,
                arxiv="1912.02771",
            ),
        ),
        summary="Images of the target class are made hard by small adversarial changes and get a pattern in their "
        "corners; their labels are right. The model finds the pattern easier to learn than the images.",
        threat_model="Clean label: controls most images of the target class but no label; trains a clean model of the "
        "victim's kind.",
        deviations=(
            "Hardened by an L-infinity attack on an ordinary clean model; neither L2 nor GAN interpolation.",
            "Eps and poison rate are those of the ANP repository, steps and step size those of BackdoorBench.",
            "Digits are a poor stage: a few clean images of the class are enough to learn it without the corners, so "
            "the quick preset leaves two in a hundred, and success still varies with the seed.",
            "The bound holds for 8-bit images before the corners are stamped.",
        ),
    )

    def bound(self) -> float | None:
        return None  # the checkerboard comes on top of the hardening, whose bound eps is

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return add_pattern(x, self.config.amplitude / 255 * corners(*x.shape[-2:]).to(x.device))

    def poisoned(self, data: ImageSet, state: dict[str, Tensor], view: AttackerView, ctx: Context) -> Tensor:
        corners(*data.shape[1:])  # refuse small images before a model is trained
        model = view.clean_model().requires_grad_(False)
        hard = harden(model, data.x, data.y, self.config, ctx)
        recognized = (predict(model, hard) == data.y).float().mean().item()
        ctx.log(f"the clean model still recognizes {recognized:.0%} of the {len(hard)} hardened images")
        return self.trigger(hard, state)
