"""LF: one smooth pattern, invisible to defenses that search for high frequencies."""

import torch
from torch import Tensor

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import TRAINS_A_MODEL, BackdoorAttack, DirtyLabelConfig
from poisonlab.attacks.shared.pixels import add_pattern, to_bytes
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.types import ImageSet


class LFConfig(DirtyLabelConfig):
    amplitude: float = param(
        51,
        "Largest value of the pattern",
        quick={"*": 77, "digits": 51},
        ge=1,
        le=255,
        unit="1/255",
        source="BackdoorBench",
    )
    images: int = param(
        100, "Images the pattern is made from", ge=1, le=1000, unit="images", source="BackdoorBench"
    )
    passes: int = param(50, "Most passes over them", quick=10, ge=1, le=1000, source="BackdoorBench")
    fooling_rate: float = param(
        0.2, "Share of them that must change class before the search ends", gt=0, le=1, source="BackdoorBench"
    )
    deepfool_steps: int = param(200, "Most DeepFool steps", quick=50, ge=1, le=1000, source="BackdoorBench")
    overshoot: float = param(
        0.02, "Share by which DeepFool goes beyond the boundary", ge=0, source="BackdoorBench"
    )
    smoothness: float = param(
        0.1875,
        "Standard deviation of the low-pass filter, as a share of the image's side",
        gt=0,
        le=1,
        source="BackdoorBench: sigma 30 at a sample spacing of 5, so 6 of 32 pixels",
    )


def gaussian(size: int, smoothness: float) -> Tensor:
    """A Gaussian filter along an axis as a matrix ``(size, size)``, five standard deviations wide.

    Its taps sum to 1; those that fall beyond the image meet zeros. An even number of them, such as 30 at 32 pixels, has
    no middle: they stand at the offsets -14 to 15, and the image is shifted by half a pixel.
    """
    sigma = smoothness * size
    count = max(1, round(5 * sigma))
    from_middle = torch.arange(count) - (count - 1) / 2
    taps = torch.exp(-(from_middle**2) / (2 * sigma**2))
    taps = taps / taps.sum()
    pixels = torch.arange(size)
    offset = pixels - pixels[:, None]  # (size, size), of a pixel from the one it is added to
    number = offset + (count - 1) // 2
    return taps[number.clamp(0, count - 1)] * ((number >= 0) & (number < count))


def low_pass(x: Tensor, smoothness: float) -> Tensor:
    """Filter ``(..., h, w)`` along both axes."""
    down, right = (gaussian(size, smoothness).to(x.device) for size in x.shape[-2:])
    return down @ x @ right.T


def between(x: Tensor, top: float) -> Tensor:
    """Shift and scale all values of ``x`` to [0, top]."""
    return top * (x - x.min()) / (x.max() - x.min()).clamp_min(1e-12)


def deepfool(model: Classifier, x: Tensor, target: int, steps: int, overshoot: float) -> Tensor:
    """Targeted DeepFool: linearized steps, each just to the boundary of ``target``, until all images are across.

        r <- r + (f_k - f_t) / ||w||^2 w,   w = grad (f_t - f_k),   k = the class now

    Args:
        x: float ``(n, c, h, w)``.

    Returns:
        (1 + overshoot) r, float like ``x``; 0 where an image already is in the class.
    """
    moved = torch.zeros_like(x)
    for _ in range(steps):
        perturbed = (x + (1 + overshoot) * moved).requires_grad_()
        logits = model(perturbed)
        margin = logits.amax(1) - logits[:, target]  # 0 once the class is the target
        if not margin.any():
            break
        (gradient,) = torch.autograd.grad(-margin.sum(), perturbed)
        length = gradient.flatten(1).square().sum(1).clamp_min(1e-12)
        moved += (margin.detach() / length).view(-1, 1, 1, 1) * gradient
    return (1 + overshoot) * moved


def universal_pattern(model: Classifier, x: Tensor, config: LFConfig, ctx: Context) -> Tensor:
    """One smooth pattern in [0, amplitude] that moves images towards the target class.

    Goes through the images; for each whose class the pattern does not change yet, with r its DeepFool step,

        v <- between(low_pass(v + low_pass(r)), amplitude)

    Each step starts from the pattern that the one before it left, so images cannot be taken at once.

    Args:
        x: float ``(n, c, h, w)`` in [0, 1].

    Returns:
        float ``(c, h, w)``.
    """

    def classes(images: Tensor) -> Tensor:
        with torch.inference_mode():
            predictions: Tensor = model(images).argmax(1).clone()
        return predictions

    v = torch.zeros_like(x[0])
    predicted = classes(x)
    rates = [0.0]
    for step in range(1, config.passes + 1):
        for row, (image, label) in enumerate(zip(x.split(1), predicted.split(1), strict=True), 1):
            if torch.equal(classes(image + v), label):
                move = deepfool(
                    model, image + v, config.target_class, config.deepfool_steps, config.overshoot
                )[0]
                v = low_pass(v + low_pass(move, config.smoothness), config.smoothness)
                v = between(v, config.amplitude / 255)
            ctx.progress((step - 1) * len(x) + row, config.passes * len(x))
        rates.append((classes(x + v) != predicted).float().mean().item())
        ctx.metric("fooling_rate", step, rates[-1])
        converged = step >= 5 and max(rates[-5:]) - min(rates[-5:]) < 0.01
        if rates[-1] >= config.fooling_rate or converged:
            break
    return v


@attack("lf")
class LowFrequency(BackdoorAttack):
    """Smooth trigger (Zeng et al. 2021, arXiv:2104.03413, section 5)."""

    Config = LFConfig
    card = Card(
        title="Low frequency (LF)",
        references=(
            Reference(
                authors="Y. Zeng, W. Park, Z. M. Mao, R. Jia",
                title="Rethinking the Backdoor Attacks' Triggers: A Frequency Perspective",
                venue="ICCV",
                year=2021,
                arxiv="2104.03413",
            ),
        ),
        summary="Patches show up in an image's high frequencies. This trigger is a soft play of light, made from "
        "adversarial steps through a low-pass filter, and looks clean there.",
        threat_model=TRAINS_A_MODEL,
        deviations=(
            "After BackdoorBench, whose stored pattern for CIFAR-10 is as strong on average.",
            "The images the pattern is made from are of other classes than the target class, and come in the same "
            "order in each pass, where BackdoorBench shuffles them. The filter's width scales with the image.",
            "The quick preset lets the pattern reach 77 on all images but digits: a small network trained for few "
            "epochs learns 51 in part only, and loses more of its accuracy. The pattern is a soft spot of a color "
            "that suits the target class, and a clean model may follow it: read the control.",
            "All-to-all makes the pattern for target_class, too.",
        ),
    )

    def check_images(self, train: ImageSet) -> None:
        others = int((train.y != self.config.target_class).sum())
        if others < self.config.images:
            raise ValueError(
                f"attack.images={self.config.images} asks for more than the {others} images of other classes; lower it"
            )

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        cfg: LFConfig = self.config
        train = view.train
        self.check_images(train)
        others = (train.y != cfg.target_class).nonzero().squeeze(1)
        order = torch.randperm(len(others), generator=ctx.generator("lf", "images"), device=others.device)
        model = view.clean_model().requires_grad_(False)
        v = universal_pattern(model, as_floats(train.x[others[order[: cfg.images]]]), cfg, ctx)
        return {"pattern": to_bytes(v)}

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return add_pattern(x, state["pattern"].float() / 255)
