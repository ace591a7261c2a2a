"""What is special about Feature Collision: every poison alone meets the target, by steps that never cost it."""

from functools import partial
from typing import Any

import pytest
import torch
from core_helpers import clean_model, digits, listening, normed_net, smooth_net, surrogate

from poisonlab.attacks.feature_collision import (
    FeatureCollision,
    FeatureCollisionConfig,
    collide,
    collision_loss,
    pull,
)
from poisonlab.context import Context, derive
from poisonlab.events import Metric


def images(trials: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Bases ``(trials, 3, ...)`` and targets."""
    return digits().train.x[: 3 * trials].view(trials, 3, 1, 16, 16), digits().test.x[:trials]


def test_the_objective_never_rises_and_features_approach_the_target() -> None:
    ctx, heard = listening()
    base, targets = images()
    config = FeatureCollisionConfig(eps=64, step_size=10, steps=40, opacity=0)

    FeatureCollision(config).craft([surrogate(clean_model())], base, targets, ctx)

    objectives = [e.value for e in heard if isinstance(e, Metric)]
    assert objectives == sorted(objectives, reverse=True) and objectives[-1] < 0.8 * objectives[0]


def test_an_images_poison_does_not_depend_on_the_others() -> None:
    base, targets = images()
    attack, victims = (
        FeatureCollision(FeatureCollisionConfig(eps=32, step_size=1, steps=5)),
        [surrogate(clean_model())],
    )

    together = attack.craft(victims, base, targets, Context())
    alone = attack.craft(victims, base[1:, :1], targets[1:], Context())

    assert int((together[1, :1].int() - alone[0].int()).abs().max()) <= 1  # sums of floats in another order


def test_loss_is_the_squared_distance_and_its_gradient_equals_finite_differences() -> None:
    victim, draws = surrogate(smooth_net()), derive(0, "x")
    x = torch.rand(2, 1, 6, 6, generator=draws, dtype=torch.float64).requires_grad_()
    target = victim.features(torch.rand(2, 1, 6, 6, generator=draws, dtype=torch.float64))[0]

    expected = (smooth_net().features(x) - target).norm(dim=1) ** 2
    assert torch.allclose(collision_loss(victim, target, x), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda at: collision_loss(victim, target, at), x)


BASE = torch.full((1, 1, 6, 6), 0.5, dtype=torch.float64)
SLOPE = torch.linspace(-1, 1, 36, dtype=torch.float64).view(1, 1, 6, 6)


def along_the_slope(base: torch.Tensor, **params: Any) -> torch.Tensor:
    """Descent on <x, SLOPE>, whose gradient is SLOPE everywhere; networks normalize by a deviation of 0.3."""
    config = FeatureCollisionConfig(opacity=0, eps=255, **params)
    loss = partial(lambda slope, x: (x * slope).flatten(1).sum(1), SLOPE)
    return collide(base, base, [loss], [surrogate(smooth_net())], config, Context())


def test_a_step_is_a_share_of_the_gradient_by_the_image_in_0_to_1() -> None:
    """As in poisoning-benchmark, ``craft_poisons_fc.py``: no deviation of a channel comes in."""
    moved = along_the_slope(BASE, step_size=1e-3, steps=1)

    assert torch.allclose(BASE - moved, 1e-3 * SLOPE, rtol=1e-6)


def test_an_image_ends_when_a_step_changes_it_by_less_than_the_tolerance() -> None:
    """||x - x'|| / ||x||, here 0.05 * |SLOPE| / (0.5 * 6) for the first step, and about that for all others."""
    change = 0.05 * float(SLOPE.norm()) / 3

    once, often = (along_the_slope(BASE, step_size=0.05, steps=4, tolerance=f * change) for f in (1.01, 0.9))

    assert torch.allclose(BASE - once, 0.05 * SLOPE) and torch.allclose(BASE - often, 4 * 0.05 * SLOPE)


def test_a_proximal_step_is_the_papers_update() -> None:
    victim = surrogate(smooth_net())  # 4 features, 36 pixels
    config = FeatureCollisionConfig(bound="proximal", beta=8100)

    moved = along_the_slope(BASE, bound="proximal", beta=8100, step_size=0.05, steps=1)

    beta = 8100 * (4 / 36) ** 2
    assert pull(config, [victim], 36) == pytest.approx(beta) == pytest.approx(100)
    assert torch.allclose(moved, (BASE - 0.05 * SLOPE + 0.05 * beta * BASE) / (1 + 0.05 * beta))


def test_the_pull_keeps_poisons_near_their_bases() -> None:
    base, targets = images()

    def moved(beta: float) -> float:
        config = FeatureCollisionConfig(bound="proximal", beta=beta, opacity=0, step_size=1, steps=10)
        made = FeatureCollision(config).craft([surrogate(clean_model())], base, targets, Context())
        return float((made.float() - base.float()).abs().mean())

    assert moved(1e5) < 0.5 * moved(0)


def test_the_watermark_is_a_share_of_the_target() -> None:
    base, targets = images()
    config = FeatureCollisionConfig(bound="proximal", opacity=0.3, step_size=1e-9, steps=1)

    made = FeatureCollision(config).craft([surrogate(clean_model())], base, targets, Context())

    expected = 0.3 * targets[:, None].float() + 0.7 * base.float()
    assert float((made.float() - expected).abs().max()) <= 0.51


# aks2203/poisoning-benchmark @ 97a67ae, poison_crafting/craft_poisons_fc.py:154-209, in float64, after 20 steps:
# row 2, columns 1 to 3 of two poisons. beta is the benchmark's, eps 8/255.
PUBLISHED_POISONS = [
    (
        {"bound": "l_infinity", "opacity": 0, "step_size": 0.01},
        [[0.8484897629, 0.0467422952, 0.4281584722], [0.2785016159, 0.8091368685, 0.2411200671]],
    ),
    (
        {"bound": "proximal", "beta": 4.0, "opacity": 0.3, "step_size": 0.003},
        [[0.5898133561, 0.3203070792, 0.5158775738], [0.2371513841, 0.7391623397, 0.4388441935]],
    ),
]


def collided(**params: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Two poisons and the squared distances of their features from the target's."""
    net, draws = normed_net().requires_grad_(False), derive(0, "collision")
    base = torch.rand(2, 1, 6, 6, generator=draws, dtype=torch.float64)
    target = torch.rand(1, 6, 6, generator=draws, dtype=torch.float64).expand_as(base)
    victim = surrogate(net)
    loss = partial(collision_loss, victim, net.features(target))
    made = collide(base, target, [loss], [victim], FeatureCollisionConfig(**params), Context())
    return made, loss(made)


@pytest.mark.parametrize(("params", "published"), PUBLISHED_POISONS, ids=["within eps", "proximal"])
def test_the_steps_are_those_of_the_benchmark(params: dict[str, Any], published: list[list[float]]) -> None:
    pixels_to_features = (36 / 12) ** 2  # of the images and the network here
    beta = params.get("beta", 0.0) * pixels_to_features

    made, _ = collided(**params | {"beta": beta, "steps": 20})

    assert torch.allclose(made[:, 0, 2, 1:4], torch.tensor(published, dtype=torch.float64), rtol=0, atol=1e-9)


def test_within_eps_the_benchmark_stays_where_the_watermark_was_cut() -> None:
    """Its distances after 120 steps, with its own parameters: those of the first step; ours go on falling."""
    published = torch.tensor([3.4039301696, 2.4641714640], dtype=torch.float64)

    _, distances = collided(steps=120, step_size=1e-3, opacity=0.3)

    assert torch.allclose(
        distances, torch.tensor([2.7054107980, 1.9616311692], dtype=torch.float64), rtol=1e-6
    )
    assert bool((distances < 0.8 * published).all())
