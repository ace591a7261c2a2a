"""Denoising diffusion for purification (PureGen, Bhat et al. 2024, arXiv:2405.18627; Ho et al. 2020, arXiv:2006.11239).

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps                                         forward, in one jump
    x_{t-1} ~ N(mu(x_t, x_0), beta_t (1 - abar_{t-1}) / (1 - abar_t)),  x_0 from eps_theta      reverse, one step

abar is ``alphas_cumprod``; names are those of the library diffusers.

beta rises linearly from 1e-4 to 0.02 over 1000 steps. The network learns eps at the first ``ddpm_levels`` steps only:
purification never comes near pure noise. Images are in [-1, 1]; the schedule's arithmetic is float32 whatever the
network's type.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.generative.langevin import to_model_range
from poisonlab.generative.unet import noise_network
from poisonlab.spec.config import Config, param
from poisonlab.training.loop import Minimizer, batches, steps_in_epoch

PAPER = "PureGen repository, DDPM trainer"
Denoiser = Callable[[Tensor, Tensor], Tensor]  # x_t (n, c, h, w), t (n,) -> eps like x_t


class DDPMConfig(Config):
    """What decides a diffusion model, its training data aside."""

    ddpm_network: Literal["L", "M", "S", "tiny"] = param(
        "L",
        "UNet of 114, 28 or 7 million parameters, or a smaller one for small images",
        quick="tiny",
        full="tiny",
        source=PAPER,
    )
    ddpm_levels: int = param(
        250,
        "Noise levels learned, the lowest of 1000",
        quick={"*": 150, "digits": 75},
        full=150,
        ge=1,
        le=1000,
        source="PureGen, section 3.2",
    )
    ddpm_updates: int = param(
        41_000,
        "Parameter updates",
        quick={"*": 1000, "cifar10": 8000, "digits": 500},
        full=8000,
        ge=1,
        le=10**6,
        source=PAPER,
    )
    ddpm_batch_size: int = param(
        256, "Images in an update", quick=64, full=64, ge=2, le=4096, unit="images", source=PAPER
    )
    ddpm_lr: float = param(
        1e-4, "Peak of AdamW's learning rate, cosine", quick=3e-3, full=3e-3, gt=0, le=1, source=PAPER
    )
    ddpm_warmup: int = param(
        500, "Updates over which it first rises", quick=100, full=100, ge=0, le=10**6, source=PAPER
    )
    ddpm_weight_decay: float = param(0.01, "AdamW's, the library's own", ge=0, le=1, source=PAPER)
    ddpm_seed: int = param(0, "The model's own seed: runs of all seeds share one model", ge=0, le=2**31 - 1)


@dataclass(frozen=True)
class Schedule:
    """Linear betas over timesteps 0 to ``steps`` - 1; each tensor is float32 ``(steps,)``.

    Attributes:
        betas: variance that a step adds.
        alphas_cumprod: share of the signal's variance that is left after it.
        alphas_cumprod_prev: the same after the step before, 1 for the first.
    """

    betas: Tensor
    alphas_cumprod: Tensor
    alphas_cumprod_prev: Tensor

    @classmethod
    def linear(
        cls, device: torch.device | str = "cpu", steps: int = 1000, first: float = 1e-4, last: float = 0.02
    ) -> "Schedule":
        betas = torch.linspace(first, last, steps, dtype=torch.float64)
        alphas_cumprod = (1 - betas).cumprod(0)
        alphas_cumprod_prev = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
        return cls(
            betas.float().to(device),
            alphas_cumprod.float().to(device),
            alphas_cumprod_prev.float().to(device),
        )

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t of images x_0 ``(n, c, h, w)`` at ``timesteps`` ``(n,)``."""
        abar = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return abar.sqrt() * original_samples + (1 - abar).sqrt() * noise

    def pred_original_sample(self, model_output: Tensor, sample: Tensor, timestep: int) -> Tensor:
        """x_0 that the predicted noise implies for x_t = ``sample``, clipped to [-1, 1]."""
        abar = self.alphas_cumprod[timestep]
        return ((sample - (1 - abar).sqrt() * model_output) / abar.sqrt()).clamp_(-1, 1)

    def posterior(self, pred_original_sample: Tensor, sample: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """Mean, and variance (a scalar), of x_{t-1} given x_0 and x_t = ``sample``: equations 6 and 7 of Ho et al."""
        beta = self.betas[timestep]
        abar = self.alphas_cumprod[timestep]
        abar_prev = self.alphas_cumprod_prev[timestep]
        from_original = abar_prev.sqrt() * beta * pred_original_sample
        from_sample = (1 - beta).sqrt() * (1 - abar_prev) * sample
        variance = beta * (1 - abar_prev) / (1 - abar)
        return (from_original + from_sample) / (1 - abar), variance


def purify(
    network: Denoiser,
    x: Tensor,
    steps: int,
    generator: torch.Generator,
    visit: Callable[[int, Tensor], None] = lambda done, x: None,
) -> Tensor:
    """Psi of PureGen-DDPM: noise as of ``steps`` steps, then as many reverse steps, the last without noise.

    Args:
        x: float32 ``(n, c, h, w)`` in [-1, 1]; not modified.
        visit: called before each move with the number of moves done and the state: 0 is ``x`` itself, 1 the noised
            images, 1 + k the images after k reverse steps. It must clone a state that it wants to keep.
    """
    visit(0, x)
    if not steps:
        return x.detach().clone()
    schedule = Schedule.linear(x.device)
    # contiguous even where x is channels_last: drawn ten times faster on a CPU, and the same in any layout
    noise = torch.empty(x.shape, device=x.device)
    count = len(x)

    def everywhere(t: int) -> Tensor:
        return torch.full((count,), t, device=noise.device)

    x = schedule.add_noise(x, noise.normal_(generator=generator), everywhere(steps - 1))
    with torch.no_grad():
        for t in reversed(range(steps)):
            visit(steps - t, x)
            predicted_noise = network(x, everywhere(t)).float()
            original = schedule.pred_original_sample(predicted_noise, x, t)
            x, variance = schedule.posterior(original, x, t)
            if t:
                x = x.add_(noise.normal_(generator=generator) * variance.sqrt())
    return x


@dataclass(frozen=True)
class Health:
    """Measured on images held out from training.

    Attributes:
        validation_loss: mean squared error of the predicted noise, over all levels learned.
        psnr: of images purified with ``HEALTH_STEPS`` steps, in dB.
        psnr_noised: the same before the first reverse step, the signal's scale undone.
    """

    validation_loss: float
    psnr: float
    psnr_noised: float


HEALTH_STEPS = 50
HELD_OUT = 64


def check_health(network: Denoiser, held_out: Tensor, levels: int, ctx: Context) -> Health:
    """Health on held-out data: ``held_out`` is float in [-1, 1]."""
    draws = ctx.generator("ddpm", "health")
    schedule = Schedule.linear(held_out.device)
    steps = min(HEALTH_STEPS, levels)
    repeated = held_out.repeat(8, 1, 1, 1)
    t = torch.arange(len(repeated), device=held_out.device) * levels // len(repeated)
    noise = torch.empty(repeated.shape, device=held_out.device).normal_(generator=draws)
    with torch.no_grad():
        predicted_noise = network(schedule.add_noise(repeated, noise, t), t).float()
    loss = F.mse_loss(predicted_noise, noise).item()
    error = (purify(network, held_out, steps, draws) - held_out).square().mean().item()
    abar = schedule.alphas_cumprod[steps - 1].item()
    return Health(loss, decibel(error), decibel((1 - abar) / abar))


def decibel(error: float) -> float:
    """PSNR of a mean squared error between images in [-1, 1]."""
    return 10 * math.log10(4 / error) if error > 0 else math.inf


def noise_loss(network: nn.Module, noised: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the noise that the network predicts."""
    return F.mse_loss(network(noised, t).float(), noise)


def train_ddpm(x: Tensor, config: DDPMConfig, ctx: Context) -> tuple[nn.Module, Health]:
    """Train a noise predictor on images: mean squared error, steps drawn evenly from the ``ddpm_levels`` lowest.

    As a whole stage: an interrupted one continues where it was.

    Args:
        x: uint8 ``(n, c, h, w)``, at least 128 images; the last 64 are held out for the health check.

    Raises:
        Diverged: the loss is not finite.
    """
    if len(x) < 2 * HELD_OUT:
        raise ValueError(f"a diffusion model needs at least {2 * HELD_OUT} public images, got {len(x)}")
    data = x[:-HELD_OUT]
    held_out = to_model_range(x[-HELD_OUT:])
    network = noise_network(config.ddpm_network, x.shape[1], ctx.generator("ddpm", "init"))
    schedule = Schedule.linear(x.device)
    draws = ctx.generator("ddpm", "draws")
    total = config.ddpm_updates
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.ddpm_lr, weight_decay=config.ddpm_weight_decay
    )
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: warm_cosine(done, config.ddpm_warmup, total)
    )

    epochs = math.ceil(total / steps_in_epoch(len(data), config.ddpm_batch_size))
    order = batches(len(data), config.ddpm_batch_size, epochs, ctx.generator("ddpm", "batches"))
    minimizer = Minimizer(network, optimizer, rate, total, ctx, draws=[draws])
    minimizer.go_on()
    for index in islice(order, minimizer.done, total):
        images = to_model_range(data[index])
        t = torch.randint(config.ddpm_levels, (len(index),), generator=draws, device=x.device)
        noise = torch.empty(images.shape, device=x.device).normal_(generator=draws)
        noised = schedule.add_noise(images, noise, t).contiguous(memory_format=torch.channels_last)
        minimizer.step(partial(noise_loss, network, noised, t, noise))
    network.requires_grad_(False)
    health = check_health(network, held_out, config.ddpm_levels, ctx)
    for name, value in vars(health).items():
        ctx.metric(f"ddpm_{name}", total, value)
    return network, health


def warm_cosine(done: int, warmup: int, total: int) -> float:
    """Factor on the learning rate after ``done`` updates: a straight rise, then half a cosine down to 0."""
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1, total - warmup)))
