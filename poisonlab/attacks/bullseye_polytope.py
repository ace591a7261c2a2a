"""Bullseye Polytope: clean-label poisons whose features surround a target."""

import torch
from torch import Tensor

from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.attacks.pixels import round_within
from poisonlab.config import Config, param
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats, predict
from poisonlab.registry import Card, attack
from poisonlab.types import ImageSet, Poison, Targeted

BENCHMARK = "poisoning-benchmark, white-box linear transfer"


class BullseyePolytopeConfig(Config):
    targets: int = param(
        100, "Independent trials, one target image each", quick=20, ge=1, le=1000, unit="images", source="PureGen"
    )
    source_class: int = param(-1, "Class of the target images; -1 for any", ge=-1)
    target_class: int = param(-1, "Class the target should be given; -1 for a random other one", ge=-1)
    poisons: int = param(
        25, "Poisoned images in a trial", quick={"*": 25, "digits": 20}, ge=1, unit="images", source=BENCHMARK
    )
    eps: float = param(
        8, "L-infinity bound of the perturbation", quick={"*": 8, "digits": 48}, ge=1, le=255, unit="1/255",
        source=BENCHMARK,
    )  # fmt: skip
    steps: int = param(1200, "Adam steps", quick={"*": 200, "digits": 150}, ge=1, le=10_000, source=BENCHMARK)
    step_size: float = param(
        10.2, "Adam learning rate", quick={"*": 1.275, "digits": 5.1}, gt=0, le=255, unit="1/255",
        source="BullseyePoison repository: 0.04 of [0, 1]",
    )  # fmt: skip


def choose_targets(
    candidates: ImageSet, predicted: Tensor, config: BullseyePolytopeConfig, generator: torch.Generator
) -> tuple[ImageSet, Tensor]:
    """Target images that a clean model gets right, and the label each should be given instead."""
    classes = len(candidates.classes)
    right = predicted == candidates.y
    if config.source_class >= 0:
        right &= candidates.y == config.source_class
    if config.target_class >= 0:
        right &= candidates.y != config.target_class
    rows = right.nonzero().squeeze(1)
    if len(rows) < config.targets:
        raise ValueError(f"targets={config.targets} asks for more than the {len(rows)} correctly classified candidates")
    order = torch.randperm(len(rows), generator=generator, device=rows.device)
    chosen = candidates[rows[order[: config.targets]]]
    if config.target_class >= 0:
        return chosen, torch.full_like(chosen.y, config.target_class)
    shift = torch.randint(1, classes, chosen.y.shape, generator=generator, device=rows.device)
    return chosen, (chosen.y + shift) % classes


def base_rows(y: Tensor, label: int, count: int, generator: torch.Generator) -> Tensor:
    """Rows of ``count`` training images of a class."""
    rows = (y == label).nonzero().squeeze(1)
    if len(rows) < count:
        raise ValueError(f"poisons={count} asks for more than the {len(rows)} training images of class {label}")
    return rows[torch.randperm(len(rows), generator=generator, device=rows.device)[:count]]


def bullseye_loss(model: Classifier, poisons: Tensor, target_features: Tensor) -> Tensor:
    """Relative distance of the poisons' mean feature to the target's:  ||mean_j phi(x_j) - phi(x_t)|| / ||phi(x_t)||.

    Args:
        poisons: float ``(trials, k, c, h, w)`` in [0, 1].
        target_features: ``(trials, d)``.

    Returns:
        ``(trials,)``.
    """
    trials, k = poisons.shape[:2]
    centre = model.features(poisons.flatten(0, 1)).view(trials, k, -1).mean(1)
    return (centre - target_features).norm(dim=1) / target_features.norm(dim=1)


@attack("bullseye_polytope")
class BullseyePolytope(Attack):
    """White-box linear transfer form (Aghakhani et al. 2021, arXiv:2005.00191, equation 3)."""

    Config = BullseyePolytopeConfig
    protocols = ("linear_transfer",)
    card = Card(
        title="Bullseye Polytope",
        paper="H. Aghakhani et al.: Bullseye Polytope, EuroS&P 2021, arXiv:2005.00191",
        summary="A few correctly labelled images of one class are changed so slightly that nobody sees it, but their "
        "features gather around one chosen image of another class: the retrained head takes that image for theirs.",
        threat_model="Clean label, bounded perturbation of a few fine-tuning images; knows the frozen extractor "
        "(white box) but neither the head nor its training.",
        deviations=(
            "All targets of a run are crafted as one batch; their losses are independent.",
            "Targets are images that a clean head gets right, of random classes unless source_class and target_class "
            "are set; the repository takes frogs to be called ships.",
            "One surrogate, the victim's own extractor; no dropout, so a single draw is exact.",
        ),
    )

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        cfg, train = self.config, view.train
        model = view.clean_model().requires_grad_(False)
        draws = ctx.generator("bullseye", "choice")
        chosen, labels = choose_targets(view.candidates, predict(model, view.candidates.x), cfg, draws)
        index = torch.stack([base_rows(train.y, int(label), cfg.poisons, draws) for label in labels])
        images = craft(model, train.x[index], chosen.x, cfg, ctx)
        state = {"target_images": chosen.x, "true_labels": chosen.y, "adversarial_labels": labels}
        return Poison(index, images, train.y[index], state)

    def threat(self, poison: Poison, classes: int) -> Targeted:
        s = poison.state
        return Targeted(s["target_images"], s["true_labels"], s["adversarial_labels"])


def craft(model: Classifier, base: Tensor, targets: Tensor, config: BullseyePolytopeConfig, ctx: Context) -> Tensor:
    """Perturb ``base`` so that each trial's features centre on its target.

    Args:
        base: uint8 ``(trials, k, c, h, w)``; not modified.
        targets: uint8 ``(trials, c, h, w)``.

    Returns:
        uint8 like ``base``, within ``eps`` of it and in [0, 255].
    """
    eps, step_size = config.eps / 255, config.step_size / 255
    x = base.float() / 255
    low, high = (x - eps).clamp_min(0), (x + eps).clamp_max(1)
    with torch.inference_mode():
        target_features = model.features(as_floats(targets))
    target_features = target_features.clone()
    poisons = x.clone().requires_grad_()
    optimiser = torch.optim.Adam([poisons], lr=step_size)
    for step in range(1, config.steps + 1):
        loss = bullseye_loss(model, poisons, target_features)
        (poisons.grad,) = torch.autograd.grad(loss.sum(), poisons)
        optimiser.step()
        with torch.no_grad():
            poisons.copy_(torch.minimum(torch.maximum(poisons, low), high))
        if step % 10 == 0 or step == config.steps:
            ctx.metric("relative_feature_distance", step, loss.mean().item())
        ctx.progress(step, config.steps)
    return round_within(poisons.detach(), base, config.eps)
