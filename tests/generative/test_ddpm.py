"""The diffusion model: schedule, reverse process and sizes against what is known, training as far as seconds allow."""

import math
from typing import Any

import pytest
import torch
from core_helpers import digits, listening
from torch import Tensor, nn

from poisonlab.context import Context, derive
from poisonlab.events import Metric
from poisonlab.generative import ddpm, unet
from poisonlab.generative.ddpm import DDPMConfig, Schedule, purify, train_ddpm, warm_cosine
from poisonlab.generative.unet import SHAPES, UNet, noise_network

TINY: dict[str, Any] = {"ddpm_network": "tiny", "ddpm_updates": 3, "ddpm_batch_size": 8, "ddpm_levels": 20}


def train(**params: Any) -> tuple[nn.Module, ddpm.Health]:
    return train_ddpm(digits().public.x, DDPMConfig(**TINY | params), Context())


# -- schedule -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "signal", "noise"),
    [
        (15, 0.998, 0.063),
        (25, 0.9955, 0.095),
        (50, 0.985, 0.173),
        (75, 0.968, 0.250),
        (125, 0.919, 0.395),
        (250, 0.722, 0.692),
    ],
)
def test_signal_and_noise_left_after_some_steps_are_the_published_ones(
    t: int, signal: float, noise: float
) -> None:
    abar = Schedule.linear().alphas_cumprod[t].item()

    assert math.sqrt(abar) == pytest.approx(signal, abs=6e-4)
    assert math.sqrt(1 - abar) == pytest.approx(noise, abs=6e-4)


def test_first_and_last_beta() -> None:
    beta = Schedule.linear().betas

    assert len(beta) == 1000 and beta.dtype == torch.float32
    assert beta[0].item() == pytest.approx(1e-4) and beta[-1].item() == pytest.approx(0.02)


def test_noised_images_have_the_moments_of_the_schedule() -> None:
    x = torch.full((500, 1, 10, 10), 0.4)
    t = torch.full((500,), 75)
    noise = torch.randn(x.shape, generator=derive(0, "noise"))

    noised = Schedule.linear().add_noise(x, noise, t)

    assert noised.mean().item() == pytest.approx(0.4 * 0.968, abs=0.004)
    assert noised.std().item() == pytest.approx(0.250, abs=0.003)


@pytest.mark.parametrize("t", [1, 30, 124])
def test_posterior_is_that_of_two_gaussians(t: int) -> None:
    """x_{t-1} given x_0 is N(sqrt(abar_{t-1}) x_0, 1 - abar_{t-1}), and x_t given x_{t-1} N(sqrt(1 - beta) x_{t-1},
    beta): precisions add up, means are weighted by them."""
    schedule = Schedule.linear()
    beta, previous = schedule.betas[t].item(), schedule.alphas_cumprod[t - 1].item()
    prior, likelihood = 1 / (1 - previous), (1 - beta) / beta
    x0, xt = 0.3, -0.2
    center = (prior * math.sqrt(previous) * x0 + likelihood * xt / math.sqrt(1 - beta)) / (prior + likelihood)

    mean, variance = schedule.posterior(torch.tensor(x0), torch.tensor(xt), t)

    assert variance.item() == pytest.approx(1 / (prior + likelihood), rel=1e-3)
    assert mean.item() == pytest.approx(center, abs=1e-4)


def test_last_reverse_step_has_no_variance_and_gives_the_predicted_image() -> None:
    mean, variance = Schedule.linear().posterior(torch.tensor(0.3), torch.tensor(-0.2), 0)

    assert variance.item() == 0 and mean.item() == pytest.approx(0.3, abs=1e-4)  # 1 - abar in float32


def test_the_image_implied_by_the_true_noise_is_the_image_and_never_out_of_range() -> None:
    schedule, x = Schedule.linear(), torch.tensor([0.5, -0.9]).view(2, 1, 1, 1)
    noise = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
    noised = schedule.add_noise(x, noise, torch.tensor([60, 60]))

    assert torch.allclose(schedule.pred_original_sample(noise, noised, 60), x, atol=1e-5)
    assert schedule.pred_original_sample(noise - 9, noised, 60).abs().max() == 1


# -- reverse process ----------------------------------------------------------------------------------


class Optimal:
    """E[eps | x_t] where pixels of clean images are N(center, spread^2)."""

    def __init__(self, center: float, spread: float) -> None:
        self.center, self.spread, self.schedule = center, spread, Schedule.linear()

    def slope(self, t: int) -> float:
        """Of E[x_0 | x_t] in x_t."""
        abar = self.schedule.alphas_cumprod[t].item()
        return self.spread**2 * math.sqrt(abar) / (abar * self.spread**2 + 1 - abar)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        step = int(t[0])
        abar = self.schedule.alphas_cumprod[step]
        x0 = self.center + self.slope(step) * (x - abar.sqrt() * self.center)
        return (x - abar.sqrt() * x0) / (1 - abar).sqrt()


@pytest.mark.parametrize("steps", [1, 20, 75])
def test_reverse_process_is_exact_on_gaussian_pixels(steps: int) -> None:
    """With the optimal denoiser every step is linear, so mean and variance of the end follow from a recursion."""
    center, spread, start = 0.1, 0.15, 0.3
    best, schedule = Optimal(center, spread), Schedule.linear()
    mean = schedule.alphas_cumprod[steps - 1].sqrt().item() * start
    variance = 1 - schedule.alphas_cumprod[steps - 1].item()
    for t in reversed(range(steps)):
        beta = schedule.betas[t].item()
        abar = schedule.alphas_cumprod[t].item()
        previous = schedule.alphas_cumprod_prev[t].item()
        on_x0 = math.sqrt(previous) * beta / (1 - abar)
        on_x = math.sqrt(1 - beta) * (1 - previous) / (1 - abar)
        slope = on_x0 * best.slope(t) + on_x
        mean = slope * mean + on_x0 * center * (1 - best.slope(t) * math.sqrt(abar))
        variance = slope**2 * variance + (beta * (1 - previous) / (1 - abar) if t else 0)

    end = purify(best, torch.full((1000, 1, 10, 10), start), steps, derive(0, "chain"))

    assert end.mean().item() == pytest.approx(mean, abs=0.002)
    assert end.var().item() == pytest.approx(variance, rel=0.03)


def test_many_steps_pull_a_pixel_to_where_clean_ones_are() -> None:
    end = purify(Optimal(0.1, 0.05), torch.full((500, 1, 4, 4), 0.5), 250, derive(0, "chain"))

    assert end.mean().item() == pytest.approx(0.1, abs=0.01) and end.std().item() == pytest.approx(
        0.05, rel=0.2
    )


def test_states_are_visited_before_each_move_and_the_start_is_not_modified() -> None:
    x, seen = torch.zeros(2, 1, 4, 4), []
    purify(Optimal(0.0, 0.1), x, 3, derive(0), lambda done, state: seen.append((done, state.clone())))

    assert [done for done, _ in seen] == [0, 1, 2, 3]
    assert torch.equal(seen[0][1], x) and not x.any() and seen[1][1].any()


# -- network and training -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters"), [("L", 113_673_219), ("M", 28_447_235), ("S", 7_126_275)])
def test_networks_have_the_released_sizes(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = UNet(3, SHAPES[name])

    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "shape"), [("S", (3, 32, 32)), ("tiny", (3, 16, 16)), ("tiny", (1, 16, 16))]
)
def test_a_network_answers_in_the_shape_of_its_images(name: str, shape: tuple[int, int, int]) -> None:
    network = noise_network(name, shape[0], derive(0))

    assert network(torch.rand(2, *shape), torch.tensor([0, 99])).shape == (2, *shape)


def test_a_network_is_told_the_time() -> None:
    network, x = noise_network("tiny", 1, derive(0)), torch.rand(1, 1, 16, 16)

    assert not torch.allclose(network(x, torch.tensor([0])), network(x, torch.tensor([90])))


def test_times_are_embedded_as_cosines_and_sines() -> None:
    embedded = unet.sinusoidal(torch.tensor([0, 2]), 8)

    assert torch.equal(embedded[0], torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0]))
    assert embedded[1, [0, 4]].tolist() == pytest.approx([math.cos(2), math.sin(2)])
    assert embedded[1, 7].item() == pytest.approx(math.sin(2e-3), rel=1e-4)


def test_learning_rate_rises_and_then_falls_to_zero() -> None:
    assert [warm_cosine(done, 10, 110) for done in (0, 5, 10, 60, 110)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_training_is_the_same_for_the_same_seed() -> None:
    (first, health), (again, health_again) = train(), train()

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert health == health_again and not any(p.requires_grad for p in first.parameters())


def test_training_learns_to_see_noise() -> None:
    ctx, heard = listening()
    config = DDPMConfig(**TINY | {"ddpm_updates": 60, "ddpm_lr": 3e-3, "ddpm_warmup": 5, "ddpm_levels": 125})
    _, health = train_ddpm(digits().public.x, config, ctx)
    losses = [e.value for e in heard if isinstance(e, Metric) and e.name == "loss"]

    assert losses[0] > 0.9 and health.validation_loss < 0.6
    assert any(isinstance(e, Metric) and e.name == "ddpm_psnr" for e in heard)


def test_too_few_public_images_name_the_numbers() -> None:
    with pytest.raises(ValueError, match="at least 128 public images, got 100"):
        train_ddpm(digits().public.x[:100], DDPMConfig(**TINY), Context())
