"""What is special about Convex Polytope: coefficients on the simplex, and the loss they minimize."""

import itertools

import pytest
import torch
from core_helpers import clean_model, digits, listening, smooth_net, surrogate
from hypothesis import given
from hypothesis import strategies as st

from poisonlab.attacks.convex_polytope import (
    ConvexPolytope,
    ConvexPolytopeConfig,
    PolytopeLoss,
    fit_coefficients,
    project_to_simplex,
)
from poisonlab.context import derive
from poisonlab.events import Metric


def nearest_by_trying_every_face(v: torch.Tensor) -> torch.Tensor:
    """Projection onto the simplex: the nearest of the projections onto its faces' planes that lie in it."""
    found = []
    for size in range(1, len(v) + 1):
        for kept in itertools.combinations(range(len(v)), size):
            face = list(kept)
            point = torch.zeros_like(v)
            point[face] = v[face] - (v[face].sum() - 1) / size
            if bool((point >= 0).all()):
                found.append(point)
    return min(found, key=lambda point: float((point - v).norm()))


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=5))
def test_projection_onto_the_simplex_is_the_nearest_point(values: list[float]) -> None:
    v = torch.tensor(values, dtype=torch.float64)

    assert torch.allclose(project_to_simplex(v), nearest_by_trying_every_face(v), atol=1e-9)


def test_coefficients_find_a_mixture_that_exists() -> None:
    features = torch.randn(3, 4, 10, generator=derive(0, "features"), dtype=torch.float64)
    mixture = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.25] * 4, [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    target = torch.einsum("tk,tkd->td", mixture, features)

    found = fit_coefficients(features, target, torch.full_like(mixture, 0.25), 5000, 1e-9)

    assert torch.allclose(found, mixture, atol=1e-4)


def test_no_mixture_is_nearer_than_the_coefficients() -> None:
    draws = derive(1, "features")
    features = torch.randn(1, 3, 6, generator=draws, dtype=torch.float64)
    target = torch.randn(1, 6, generator=draws, dtype=torch.float64)

    def distance(c: torch.Tensor) -> torch.Tensor:  # (n, 3) -> (n,)
        return (c @ features[0] - target).norm(dim=1)

    found = fit_coefficients(features, target, torch.full((1, 3), 1 / 3, dtype=torch.float64), 5000, 1e-9)
    grid = (
        torch.tensor([(i, j, 60 - i - j) for i in range(61) for j in range(61 - i)], dtype=torch.float64) / 60
    )

    assert float(distance(found)) <= float(distance(grid).min()) + 1e-9


def test_a_target_within_the_polytope_costs_nothing_and_one_poison_alone_is_half_the_squared_distance() -> (
    None
):
    victim = surrogate(smooth_net())
    x = torch.rand(1, 1, 1, 6, 6, generator=derive(2, "x"), dtype=torch.float64)
    loss = PolytopeLoss(
        victim, digits().test.x[:1, :, :6, :6].double() / 255, ConvexPolytopeConfig(inner_steps=10)
    )
    feature, target = victim.features(x[0])[0], loss.target[0]

    expected = 0.5 * (feature - target).square().sum() / target.square().sum()
    assert loss(x).item() == pytest.approx(expected.item(), rel=1e-12)
    loss.target = [feature]
    assert loss(x).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("depths", [1, 2])
def test_gradient_equals_finite_differences_of_the_minimised_loss(depths: int) -> None:
    """The coefficients are a minimum, so the gradient that takes them for constants is the whole gradient."""
    config = ConvexPolytopeConfig(inner_steps=3000, tolerance=1e-13)
    victim, draws = surrogate(smooth_net(), depths), derive(3, "x")
    x = torch.rand(1, 2, 1, 6, 6, generator=draws, dtype=torch.float64).requires_grad_()
    target = torch.rand(1, 1, 6, 6, generator=draws, dtype=torch.float64)

    def loss(poisons: torch.Tensor) -> torch.Tensor:
        return PolytopeLoss(victim, target, config)(poisons)

    assert torch.autograd.gradcheck(loss, x, atol=1e-5, rtol=1e-3)


def test_crafting_brings_the_polytope_to_the_target() -> None:
    base = digits().train.x[:12].view(2, 6, 1, 16, 16)
    ctx, heard = listening()
    config = ConvexPolytopeConfig(eps=64, step_size=4, steps=30, inner_steps=20)

    ConvexPolytope(config).craft([surrogate(clean_model())], base, digits().test.x[:2], ctx)

    losses = [e.value for e in heard if isinstance(e, Metric)]
    assert losses[-1] < 0.5 * losses[0]
