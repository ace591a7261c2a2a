"""The sampler against what is known in closed form."""

import pytest
import torch
from core_helpers import noise_images
from torch import Tensor, nn

from poisonlab.context import derive
from poisonlab.generative.ebm import EBMConfig, energy_network
from poisonlab.generative.langevin import (
    CPU_SLICE,
    LangevinConfig,
    Visit,
    energy_gradient,
    langevin,
    record,
    to_bytes,
    to_model_range,
)


class Quadratic(nn.Module):
    """E(x) = k |x - center|^2 for each image."""

    def __init__(self, k: float, center: float = 0.0) -> None:
        super().__init__()
        self.k, self.center = k, center

    def forward(self, x: Tensor) -> Tensor:
        return self.k * (x - self.center).square().flatten(1).sum(1)


CONFIG = LangevinConfig(noise=0.1, temperature=0.02)  # scale eps^2 / (2 tau) = 0.25


def test_published_constants_give_the_released_step() -> None:
    assert LangevinConfig().gradient_scale == pytest.approx(0.78125)


def test_stationary_mean_and_variance_are_those_of_the_discrete_chain() -> None:
    """x' = a x + eps xi with a = 1 - 2 k s has variance eps^2 / (1 - a^2)."""
    k, center = 0.8, 0.3
    a = 1 - 2 * k * CONFIG.gradient_scale
    x = langevin(Quadratic(k, center), torch.zeros(400, 1, 10, 10), 40, CONFIG, derive(0, "chain"))

    assert x.mean().item() == pytest.approx(center, abs=0.002)
    assert x.var().item() == pytest.approx(CONFIG.noise**2 / (1 - a**2), rel=0.03)


def test_mean_after_some_steps_follows_the_recursion() -> None:
    k, steps = 0.4, 5
    a = 1 - 2 * k * CONFIG.gradient_scale
    x = langevin(Quadratic(k), torch.ones(400, 1, 10, 10), steps, CONFIG, derive(0, "chain"))

    assert x.mean().item() == pytest.approx(a**steps, abs=0.003)


def test_zero_steps_are_the_identity() -> None:
    x = torch.rand(3, 1, 4, 4)

    assert torch.equal(langevin(Quadratic(1.0), x, 0, CONFIG, derive(0)), x)


def test_start_is_not_modified() -> None:
    x = torch.rand(3, 1, 4, 4)
    before = x.clone()

    langevin(Quadratic(1.0), x, 3, CONFIG, derive(0))

    assert torch.equal(x, before)


def test_step_clamp_limits_the_drift_of_a_step() -> None:
    config = LangevinConfig(noise=1e-3, temperature=1e-6, step_clamp=0.05)
    x = torch.full((2, 1, 4, 4), 0.9)

    moved = langevin(Quadratic(100.0), x, 1, config, derive(0)) - x

    assert moved.abs().max().item() == pytest.approx(0.05, abs=0.005)


def test_state_clamp_keeps_pixels_in_range() -> None:
    config = LangevinConfig(noise=0.2, state_clamp=0.1)

    assert langevin(Quadratic(0.01), torch.rand(2, 1, 4, 4), 5, config, derive(0)).abs().max() <= 0.1


def test_visits_come_before_each_step_with_the_energy_of_the_state() -> None:
    energy, seen = Quadratic(0.7), []
    langevin(
        energy, torch.rand(2, 1, 4, 4), 3, CONFIG, derive(0), lambda k, x, e: seen.append((k, energy(x), e))
    )

    assert [k for k, _, _ in seen] == [0, 1, 2]
    assert all(torch.equal(expected, given) for _, expected, given in seen)


def test_gradient_of_each_image_is_its_own() -> None:
    x = torch.rand(3, 2, 4, 4)
    e, gradient = energy_gradient(Quadratic(0.5), x)

    assert torch.allclose(gradient, x) and e.shape == (3,)


def test_slices_do_not_change_the_gradient_of_an_image() -> None:
    energy = energy_network(EBMConfig(architecture="light", filters=4), 1, derive(0, "init")).requires_grad_(
        False
    )
    x = torch.rand(2 * CPU_SLICE + 3, 1, 8, 8, generator=derive(0, "x")).requires_grad_()
    (whole,) = torch.autograd.grad(energy(x).sum(), x)

    e, gradient = energy_gradient(energy, x)

    assert torch.allclose(gradient, whole, atol=1e-6) and torch.allclose(e, energy(x), atol=1e-6)


def test_a_half_precision_network_leaves_the_state_in_float32() -> None:
    class Half(Quadratic):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.bfloat16())

    assert langevin(Half(0.5), torch.rand(2, 1, 4, 4), 2, CONFIG, derive(0)).dtype == torch.float32


def test_bytes_are_clamped_and_rounded_not_wrapped() -> None:
    x = torch.tensor([-7.0, -1.001, -1.0, 0.0, 1.0, 1.01, 9.0, 99.6 / 127.5 - 1])

    assert to_bytes(x).tolist() == [0, 0, 0, 128, 255, 255, 255, 100]


def test_bytes_survive_the_way_to_the_model_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)

    assert torch.equal(to_bytes(to_model_range(every)), every)


def test_range_change_leaves_its_input_alone() -> None:
    x = torch.rand(4)
    before = x.clone()
    to_bytes(x)

    assert torch.equal(x, before)


def test_a_recorded_chain_is_the_chain_itself() -> None:
    x, energy = to_model_range(noise_images(4).x), Quadratic(0.5)

    def walk(visit: Visit) -> Tensor:
        return langevin(energy, x, 5, CONFIG, derive(4, "chain"), lambda step, state, e: visit(step, state))

    steps, states, energies = record(walk, energy, [0, 3, 5])
    end = langevin(energy, x, 5, CONFIG, derive(4, "chain"))

    assert steps.tolist() == [0, 3, 5]
    assert torch.equal(states[0], noise_images(4).x) and torch.equal(states[-1], to_bytes(end))
    assert torch.equal(energies[-1], energy(end))
