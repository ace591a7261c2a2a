"""Bullseye Polytope: clean-label poisons whose features surround a target."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from poisonlab.attacks.shared.surrogates import Loss, Surrogate
from poisonlab.attacks.shared.targeted import (
    DEVIATIONS,
    DescentConfig,
    TargetedAttack,
    descend,
    trials_at_once,
)
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference


class BullseyePolytopeConfig(DescentConfig):
    """Nothing of its own: the coefficients of the polytope are fixed at 1/k."""


def relative_distance(poisons: Tensor, target: Tensor) -> Tensor:
    """||mean_j phi(x_j) - phi(x_t)|| / ||phi(x_t)||, norms over channels, averaged over places where there are several.

    Args:
        poisons: features ``(trials, k, channels, ...)``.
        target: features ``(trials, channels, ...)``.

    Returns:
        ``(trials,)``.
    """
    gap: Tensor = (poisons.mean(1) - target).norm(dim=1)  # (trials, ...)
    distance: Tensor = gap / target.norm(dim=1).clamp_min(1e-12)
    return distance.flatten(1).mean(1) if distance.ndim > 1 else distance


def bullseye_loss(surrogate: Surrogate, target: Sequence[Tensor], poisons: Tensor) -> Tensor:
    """Relative distance of the poisons' mean feature to the target's, averaged over depths.

    Args:
        target: its features at each depth, ``(trials, ...)``.
        poisons: float ``(trials, k, c, h, w)`` in [0, 1].

    Returns:
        ``(trials,)``.
    """
    distances = [
        relative_distance(*at) for at in zip(surrogate.poison_features(poisons), target, strict=True)
    ]
    return sum(distances[1:], distances[0]) / len(distances)


@attack("bullseye_polytope")
class BullseyePolytope(TargetedAttack):
    """Poisons whose mean feature is the target's (Aghakhani et al. 2021, arXiv:2005.00191, equations 3 and 4).

    White box and linear by default. Black box by ``surrogates``; the end-to-end mode compares features at two
    ``depths``; BP-3x and BP-5x average 3 or 5 ``draws`` with ``dropout``.
    """

    Config = BullseyePolytopeConfig
    card = Card(
        title="Bullseye Polytope",
        references=(
            Reference(
                authors="H. Aghakhani et al.",
                title="Bullseye Polytope: A Scalable Clean-Label Poisoning Attack with Improved Transferability",
                venue="EuroS&P",
                year=2021,
                arxiv="2005.00191",
            ),
        ),
        summary="A few correctly labeled images of one class are changed so slightly that nobody sees it, but their "
        "features gather around one chosen image of another class: the retrained head takes that image for theirs.",
        threat_model="Clean label, bounded perturbation of a few fine-tuning images; knows the pretrained extractor "
        "(white box), or trains surrogates of its own on the same images (black box). Knows neither the head nor its "
        "training.",
        deviations=DEVIATIONS,
    )

    def craft(self, surrogates: Sequence[Surrogate], base: Tensor, targets: Tensor, ctx: Context) -> Tensor:
        def losses_of(group: Tensor) -> list[Loss]:
            return [partial(bullseye_loss, s, s.target_features(group)) for s in surrogates]

        at_once = trials_at_once(surrogates, base)
        draws = [s.generator for s in surrogates]
        metric = "relative_feature_distance"
        return descend(base, targets, losses_of, at_once, self.config, metric, ctx, draws)
