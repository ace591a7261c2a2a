"""Convex Polytope: clean-label poisons whose features span a polytope around a target."""

from collections.abc import Sequence

import torch
from torch import Tensor

from poisonlab.attacks.shared.surrogates import Surrogate
from poisonlab.attacks.shared.targeted import (
    BENCHMARK,
    DEVIATIONS,
    DescentConfig,
    TargetedAttack,
    descend,
    trials_at_once,
)
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param

CHECKED_EVERY = 20  # steps of the inner solver; each check waits for the device


class ConvexPolytopeConfig(DescentConfig):
    steps: int = param(
        4000,
        "Adam steps",
        quick={"*": 200, "digits": 150},
        ge=1,
        le=10_000,
        source="ConvexPolytopePosioning repository",
    )
    inner_steps: int = param(
        10_000,
        "Gradient steps on the coefficients after each Adam step, at most",
        quick=100,
        ge=1,
        le=100_000,
        source="ConvexPolytopePosioning repository",
    )
    tolerance: float = param(
        1e-6,
        "Relative change of the coefficients that ends them",
        gt=0,
        le=0.1,
        source="ConvexPolytopePosioning repository",
    )
    eps: float = param(
        8,
        "L-infinity bound of the perturbation",
        quick={"*": 8, "digits": 48},
        ge=1,
        le=255,
        unit="1/255",
        source=f"{BENCHMARK}; the paper 25.5",
    )


def project_to_simplex(v: Tensor) -> Tensor:
    """The nearest points with entries >= 0 that sum to 1, along the last dimension (Duchi et al. 2008, figure 1)."""
    falling = v.sort(dim=-1, descending=True).values
    excess = falling.cumsum(-1) - 1
    counts = torch.arange(1, v.shape[-1] + 1, device=v.device)
    positive = (falling * counts > excess).sum(-1, keepdim=True)  # how many entries stay above 0
    return (v - excess.gather(-1, positive - 1) / positive).clamp_min(0)


def fit_coefficients(features: Tensor, target: Tensor, start: Tensor, steps: int, tolerance: float) -> Tensor:
    """min_c ||phi(x_t) - sum_j c_j phi(x_j)||^2 over the simplex, by projected gradient (Algorithm 1, inner loop).

    Args:
        features: ``(trials, k, d)``.
        target: ``(trials, d)``.
        start: ``(trials, k)``, the coefficients of the previous step.

    Returns:
        ``(trials, k)``, entries >= 0 that sum to 1.
    """
    gram = features @ features.mT  # (trials, k, k)
    projections = (features @ target[:, :, None]).squeeze(2)  # (trials, k)
    step_size = 1 / torch.linalg.matrix_norm(gram).clamp_min(1e-12)[:, None]  # at most 1 / largest eigenvalue
    c = start
    for step in range(1, steps + 1):
        previous = c
        gradient = (gram @ c[:, :, None]).squeeze(2) - projections
        c = project_to_simplex(c - step_size * gradient)
        if step % CHECKED_EVERY:
            continue
        converged = (c - previous).norm(dim=1) < tolerance * previous.norm(dim=1)
        if bool(converged.all()):
            break
    return c


class PolytopeLoss:
    """1/2 min_c ||phi(x_t) - sum_j c_j phi(x_j)||^2 / ||phi(x_t)||^2, averaged over depths (equation 2).

    Coefficients start from those of the call before: the poisons moved only a little.
    """

    def __init__(self, surrogate: Surrogate, targets: Tensor, config: ConvexPolytopeConfig) -> None:
        self.surrogate = surrogate
        self.config = config
        self.target = [f.flatten(1) for f in surrogate.target_features(targets)]
        self.coefficients: list[Tensor] = []

    def __call__(self, poisons: Tensor) -> Tensor:
        """Float ``(trials, k, c, h, w)`` in [0, 1] -> ``(trials,)``."""
        features = [f.flatten(2) for f in self.surrogate.poison_features(poisons)]
        start = self.coefficients or [torch.full_like(f[:, :, 0], 1 / f.shape[1]).detach() for f in features]
        self.coefficients = [
            fit_coefficients(f.detach(), t, c, self.config.inner_steps, self.config.tolerance)
            for f, t, c in zip(features, self.target, start, strict=True)
        ]
        losses = [
            0.5 * ((c[:, :, None] * f).sum(1) - t).square().sum(1) / t.square().sum(1).clamp_min(1e-12)
            for f, t, c in zip(features, self.target, self.coefficients, strict=True)
        ]
        return sum(losses[1:], losses[0]) / len(losses)


@attack("convex_polytope")
class ConvexPolytope(TargetedAttack):
    """Poisons whose convex hull holds the target (Zhu et al. 2019, arXiv:1905.05897, section 3, Algorithm 1)."""

    Config = ConvexPolytopeConfig
    card = Card(
        title="Convex Polytope",
        references=(
            Reference(
                authors="C. Zhu et al.",
                title="Transferable Clean-Label Poisoning Attacks on Deep Neural Nets",
                venue="ICML",
                year=2019,
                arxiv="1905.05897",
            ),
        ),
        summary="Correctly labeled images of one class are changed so that the features of one chosen image of "
        "another class are a mixture of theirs: a linear head that gets all of them right must call it theirs, too.",
        threat_model="Clean label, bounded perturbation of a few fine-tuning images; knows the pretrained extractor "
        "(white box), or trains surrogates of its own on the same images (black box).",
        deviations=(
            *DEVIATIONS,
            "The inner step is 1 / the Frobenius norm of the features' Gram matrix, which never raises the loss; the "
            "repository guesses 2 / the largest eigenvalue and halves it when the loss rises.",
        ),
    )

    def craft(self, surrogates: Sequence[Surrogate], base: Tensor, targets: Tensor, ctx: Context) -> Tensor:
        def losses_of(group: Tensor) -> list[PolytopeLoss]:
            return [PolytopeLoss(s, group, self.config) for s in surrogates]

        at_once = trials_at_once(surrogates, base)
        return descend(base, targets, losses_of, at_once, self.config, "polytope_loss", ctx)
