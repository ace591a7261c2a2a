"""Features in a plane: shared axes, the same picture each time, shapes that make no sense."""

import pytest
import torch
from torch import Tensor

from poisonlab.context import derive
from poisonlab.lens.features import METHODS, Features, features, planes, principal_axes
from poisonlab.lens.pictures import networks, pictures
from poisonlab.pipeline.reopen import Opened


def values(n: int = 60, d: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=derive(seed, "features")) * torch.arange(d, 0, -1)


@pytest.mark.parametrize("method", METHODS)
def test_a_defense_that_changes_nothing_moves_no_point(method: str) -> None:
    same = values()
    found = planes(Features({"control": values(seed=1), "undefended": same, "defended": same}), method)  # type: ignore[arg-type]

    assert found.together == ("undefended", "defended")
    apart = (found.places["undefended"] - found.places["defended"]).norm(dim=1)
    extent = float(found.places["undefended"].abs().max())
    assert float(apart.median()) < (1e-6 if method == "PCA" else 0.1) * extent


def test_the_axes_are_those_of_the_undefended_network() -> None:
    before = values()
    after = before + 3.0
    found = planes(Features({"undefended": before, "defended": after}), "PCA")

    step = (torch.full((1, 8), 3.0, dtype=torch.float64) @ principal_axes(before.double())).float()
    moved = found.places["defended"] - found.places["undefended"]
    assert torch.allclose(moved, step.expand_as(moved), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_run_gives_the_same_plane_to_the_last_digit(repaired: Opened, method: str) -> None:
    shown = pictures(repaired, most=60)
    first, again = (planes(features(shown.x, networks(repaired)), method) for _ in range(2))  # type: ignore[arg-type]

    assert list(first.places) == ["control", "undefended", "defended"]
    assert all(torch.equal(first.places[name], again.places[name]) for name in first.places)
    assert all(place.isfinite().all() for place in first.places.values())


def test_axes_stand_at_right_angles_and_hold_the_largest_variance() -> None:
    axes = principal_axes(values().double())
    first, second = (values().double() @ axes).var(0)

    assert torch.allclose(axes.T @ axes, torch.eye(2, dtype=torch.float64))
    assert first > second > values().double().var(0)[2:].max() * 0.9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 8), (3, 8), (40, 1), (40, 2)])
def test_few_points_and_few_features_are_drawn(method: str, shape: tuple[int, int]) -> None:
    found = planes(Features({"control": values(*shape)}), method)  # type: ignore[arg-type]

    assert found.places["control"].shape == (shape[0], 2)
    assert bool(found.places["control"].isfinite().all())


@pytest.mark.parametrize("method", METHODS)
def test_features_that_do_not_vary_are_one_point(method: str) -> None:
    found = planes(Features({"control": torch.ones(20, 4)}), method)  # type: ignore[arg-type]

    assert float(found.places["control"].abs().max()) == 0
