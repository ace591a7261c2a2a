"""Energy-based model for purification (PureGen, Bhat et al. 2024, arXiv:2405.18627).

The gradient of the likelihood (equation 10) is  mean grad E(x+) - mean grad E(x-):  the energy of
data x+ is pushed down, that of Langevin samples x- from a persistent bank is pushed up. We follow the
released trainer (bank initialized from noisy data, rejuvenated from it), not the paper's Algorithm 2,
which is inherited from a predecessor.

Ours, for small networks only, each off in the preset ``paper``: SiLU in place of ReLU, a penalty on
squared energies, clipped parameter gradients, a running mean of the weights. Ours always: health checks
with roll-back.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from poisonlab.context import Context
from poisonlab.generative.energy_networks import LightEnergy, SnganEnergy
from poisonlab.generative.langevin import LangevinConfig, langevin, to_model_range
from poisonlab.measure.metrics import auroc
from poisonlab.spec.config import Config, param
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import Diverged

PAPER = "PureGen repository, EBM trainer"


class EBMConfig(Config):
    """What decides an energy model, its training data aside."""

    architecture: Literal["sngan", "light"] = param(
        "sngan", "Residual SNGAN-discriminator shape, or four convolutions", quick="light", source=PAPER
    )
    filters: int = param(
        128, "Channels of the first layer", quick={"*": 32, "digits": 16}, ge=4, le=256, source=PAPER
    )
    activation: Literal["relu", "silu"] = param("relu", "Non-linearity", quick="silu", source=PAPER)
    updates: int = param(
        65_600, "Parameter updates", quick={"*": 6000, "digits": 1000}, ge=1, le=10**6, source=PAPER
    )
    batch_size: int = param(
        128, "Data images, and as many chains, in an update", quick=64, ge=2, le=4096, source=PAPER
    )
    lr: float = param(1e-4, "Adam learning rate", quick=5e-3, gt=0, le=1, source=PAPER)
    lr_decay: float = param(
        0.1,
        "Factor on it at 1/3, 5/8 and 5/6 of the updates",
        quick={"*": 1.0, "digits": 0.5},
        gt=0,
        le=1,
        source=PAPER,
    )
    bank_size: int = param(
        10_000, "Persistent chains", quick=1000, ge=2, le=10**6, unit="images", source=PAPER
    )
    rejuvenation: float = param(0.05, "Share of chain ends replaced by data", ge=0, le=1, source=PAPER)
    chain_steps: int = param(100, "Langevin steps in an update", quick=20, ge=1, le=2000, source=PAPER)
    data_noise: float = param(0.015, "Noise on data, in [-1, 1] units", ge=0, le=0.5, source=PAPER)
    energy_penalty: float = param(
        0.0, "Weight of mean squared energies (not in the paper)", quick=1.0, ge=0, le=100
    )
    gradient_clip: float = param(
        0.0, "Largest gradient norm; 0 for none (not in the paper)", quick=1.0, ge=0, le=1e6
    )
    weight_averaging: float = param(
        0.0,
        "Decay of the running mean of the weights that purifies; 0 for the last weights (not in the paper)",
        quick={"*": 0.999, "digits": 0.99},
        ge=0,
        lt=1,
    )
    health_every: int = param(200, "Updates between health checks", quick=100, ge=1, le=10**6)
    min_psnr: float = param(
        16.0, "Purified held-out images below this count as diverged", ge=0, le=60, unit="dB"
    )
    seed: int = param(0, "The model's own seed: runs of all seeds share one model", ge=0)


def energy_network(config: EBMConfig, channels: int, generator: torch.Generator) -> nn.Module:
    """A network with Xavier-uniform weights and zero biases, on the generator's device."""
    activation = {"relu": nn.ReLU, "silu": nn.SiLU}[config.activation]
    shape = {"sngan": SnganEnergy, "light": LightEnergy}[config.architecture]
    network = shape(channels, config.filters, activation).to(generator.device)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Health:
    """Measured on images held out from training; PSNR in dB after ``HEALTH_STEPS`` steps."""

    psnr: float
    energy_gap: float
    bank_energy_spread: float
    noise_auroc: float

    def sound(self, config: EBMConfig) -> bool:
        return all(map(math.isfinite, (self.psnr, self.energy_gap, self.bank_energy_spread))) and (
            self.psnr >= config.min_psnr
        )


HEALTH_STEPS = 50
HELD_OUT = 64
MAX_ROLLBACKS = 5


def check_health(
    energy: nn.Module, held_out: Tensor, bank: Tensor, sampler: LangevinConfig, generator: torch.Generator
) -> Health:
    """How the model treats data it has not seen: ``held_out`` and ``bank`` are float in [-1, 1]."""
    energy.requires_grad_(False)
    purified = langevin(energy, held_out, HEALTH_STEPS, sampler, generator)
    error = (purified - held_out).square().mean().item()
    noisy = held_out + 16 / 255 * torch.empty_like(held_out).uniform_(-1, 1, generator=generator)
    with torch.inference_mode():
        clean, blurred, negatives = (energy(x).float() for x in (held_out, noisy, bank))
    return Health(
        psnr=10 * math.log10(4 / error) if error > 0 else math.inf,
        energy_gap=(clean.mean() - negatives.mean()).item(),
        bank_energy_spread=negatives.std().item(),
        noise_auroc=auroc(clean.nan_to_num(), blurred.nan_to_num()),
    )


@dataclass
class _Snapshot:
    """All that training needs to go back to: weights, optimizer, bank."""

    update: int
    network: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimizer: dict[str, object]
    bank: Tensor
    health: Health


def train_ebm(
    x: Tensor, config: EBMConfig, sampler: LangevinConfig, ctx: Context
) -> tuple[nn.Module, Health]:
    """Train an energy model on images and return its last healthy state.

    As a whole stage: an interrupted one goes on at the last healthy state it kept.

    Args:
        x: uint8 ``(n, c, h, w)``, at least 128 images; the last 64 are held out for health checks.

    Raises:
        Diverged: it never passed a health check, or failed one after each of five roll-backs.
    """
    if len(x) < 2 * HELD_OUT:
        raise ValueError(f"an energy model needs at least {2 * HELD_OUT} public images, got {len(x)}")
    data, held_out = x[:-HELD_OUT], to_model_range(x[-HELD_OUT:])
    draws = ctx.generator("ebm", "draws")
    energy = energy_network(config, x.shape[1], ctx.generator("ebm", "init"))
    averaged = AveragedModel(energy, multi_avg_fn=running_mean(config.weight_averaging))
    optimizer = torch.optim.Adam(energy.parameters(), lr=config.lr)
    networks = {"energy": energy, "averaged": averaged}

    def noisy_data(count: int) -> Tensor:
        rows = torch.randint(len(data), (count,), generator=draws, device=x.device)
        clean = to_model_range(data[rows]).contiguous(memory_format=torch.channels_last)
        return clean + config.data_noise * torch.randn(clean.shape, generator=draws, device=x.device)

    bank = noisy_data(config.bank_size)
    lr_factor, rollbacks = 1.0, 0
    good: _Snapshot | None = None
    update = 0

    def checkpoint() -> Checkpoint:
        learned = {f"{name}.{k}": v for name, net in networks.items() for k, v in net.state_dict().items()}
        return Checkpoint(learned | {"bank": bank}, optimizer, [draws])

    def snapshot(health: Health) -> _Snapshot:
        state = copy.deepcopy([part.state_dict() for part in (energy, averaged, optimizer)])
        return _Snapshot(update, *state, bank.clone(), health)

    if kept := ctx.resume():
        update, lr_factor, rollbacks, health = checkpoint().load(kept).values()
        good = snapshot(Health(**health))
    while update < config.updates:
        for group in optimizer.param_groups:
            group["lr"] = config.lr * lr_factor * decay(update / config.updates, config.lr_decay)
        slots = torch.randperm(len(bank), generator=draws, device=x.device)[: config.batch_size]
        energy.requires_grad_(False)
        negatives = langevin(energy, bank[slots], config.chain_steps, sampler, draws)
        energy.requires_grad_(True)

        positives = noisy_data(len(slots))
        e_data, e_model = energy(torch.cat([positives, negatives])).split(len(slots))
        loss = e_data.mean() - e_model.mean()
        if config.energy_penalty:
            loss = loss + config.energy_penalty * (e_data.square().mean() + e_model.square().mean())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.gradient_clip:
            nn.utils.clip_grad_norm_(energy.parameters(), config.gradient_clip)
        optimizer.step()
        averaged.update_parameters(energy)

        reborn = torch.rand(len(slots), generator=draws, device=x.device) < config.rejuvenation
        bank[slots] = torch.where(reborn[:, None, None, None], noisy_data(len(slots)), negatives)
        update += 1
        ctx.progress(update, config.updates)

        if update % config.health_every and update < config.updates:
            continue
        health = check_health(averaged.module, held_out, bank[:256], sampler, ctx.generator("ebm", "health"))
        for name, value in vars(health).items():
            ctx.metric(f"ebm_{name}", update, value)
        if health.sound(config):
            good = snapshot(health)
            counts = {
                "update": update,
                "lr_factor": lr_factor,
                "rollbacks": rollbacks,
                "health": vars(health),
            }
            ctx.keep(partial(checkpoint().bundle, **counts))
            continue
        rollbacks += 1
        if good is None or rollbacks > MAX_ROLLBACKS:
            raise Diverged(
                f"the energy model diverged at update {update} (PSNR of purified held-out images {health.psnr:.1f} dB) "
                f"after {rollbacks - 1} roll-backs; lower its lr or chain_steps, or set step_clamp and energy_penalty"
            )
        ctx.log(
            f"energy model diverging at update {update} (PSNR {health.psnr:.1f} dB): back to update {good.update} "
            f"with half the learning rate",
            "warning",
        )
        energy.load_state_dict(good.network)
        averaged.load_state_dict(good.averaged)
        optimizer.load_state_dict(good.optimizer)
        bank, update, lr_factor = good.bank.clone(), good.update, lr_factor / 2
    assert good is not None  # the last update is always checked
    return averaged.module.requires_grad_(False), good.health


def running_mean(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """Exponential mean of weights, over fewer of them at the start so that the first ones leave no trace."""

    def update(means: list[Tensor], weights: list[Tensor], seen: Tensor) -> None:
        kept = min(decay, (1 + int(seen)) / (10 + int(seen)))
        torch._foreach_lerp_(means, weights, 1 - kept)

    return update


def decay(progress: float, factor: float) -> float:
    """``factor`` once for each mark passed: 1/3, 5/8 and 5/6 (epochs 40, 75 and 100 of 120)."""
    return factor ** sum(progress >= mark for mark in (1 / 3, 5 / 8, 5 / 6))
