"""Energy-based model for purification (PureGen, Bhat et al. 2024, arXiv:2405.18627).

The gradient of the likelihood (equation 10) is  mean grad E(x+) - mean grad E(x-):  the energy of
data x+ is pushed down, that of Langevin samples x- from a persistent bank is pushed up. We follow the
released trainer (bank initialized from noisy data, rejuvenated from it), not the paper's Algorithm 2,
which is inherited from a predecessor.

Added here, for small networks only, each off in the preset ``paper``: SiLU in place of ReLU, a penalty on
squared energies, clipped parameter gradients, a running mean of the weights. Always added: health checks
with roll-back.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

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
from poisonlab.types import Bundle

PAPER = "PureGen repository, EBM trainer"


class EBMConfig(Config):
    """What decides an energy model, its training data aside."""

    architecture: Literal["sngan", "light"] = param(
        "sngan",
        "Residual SNGAN-discriminator shape, or four convolutions",
        quick="light",
        full="light",
        source=PAPER,
    )
    filters: int = param(
        128, "Channels of the first layer", quick={"*": 32, "digits": 16}, full=32, ge=4, le=256, source=PAPER
    )
    activation: Literal["relu", "silu"] = param(
        "relu", "Non-linearity", quick="silu", full="silu", source=PAPER
    )
    updates: int = param(
        65_600,
        "Parameter updates",
        quick={"*": 6000, "digits": 1000},
        full=6000,
        ge=1,
        le=10**6,
        source=PAPER,
    )
    batch_size: int = param(
        128, "Data images, and as many chains, in an update", quick=64, full=64, ge=2, le=4096, source=PAPER
    )
    lr: float = param(1e-4, "Adam learning rate", quick=5e-3, full=5e-3, gt=0, le=1, source=PAPER)
    lr_decay: float = param(
        0.1,
        "Factor on it at 1/3, 5/8 and 5/6 of the updates",
        quick={"*": 1.0, "digits": 0.5},
        full=1.0,
        gt=0,
        le=1,
        source=PAPER,
    )
    bank_size: int = param(
        10_000, "Persistent chains", quick=1000, full=1000, ge=2, le=10**6, unit="images", source=PAPER
    )
    rejuvenation: float = param(0.05, "Share of chain ends replaced by data", ge=0, le=1, source=PAPER)
    chain_steps: int = param(
        100, "Langevin steps in an update", quick=20, full=20, ge=1, le=2000, source=PAPER
    )
    data_noise: float = param(0.015, "Noise on data, in [-1, 1] units", ge=0, le=0.5, source=PAPER)
    energy_penalty: float = param(
        0.0, "Weight of mean squared energies (not in the paper)", quick=1.0, full=1.0, ge=0, le=100
    )
    gradient_clip: float = param(
        0.0, "Largest gradient norm; 0 for none (not in the paper)", quick=1.0, full=1.0, ge=0, le=1e6
    )
    weight_averaging: float = param(
        0.0,
        "Decay of the running mean of the weights that purifies; 0 for the last weights (not in the paper)",
        quick={"*": 0.999, "digits": 0.99},
        full=0.999,
        ge=0,
        lt=1,
    )
    health_every: int = param(200, "Updates between health checks", quick=100, full=100, ge=1, le=10**6)
    min_psnr: float = param(
        16.0, "Purified held-out images below this count as diverged", ge=0, le=60, unit="dB"
    )
    seed: int = param(0, "The model's own seed: runs of all seeds share one model", ge=0, le=2**31 - 1)


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


ADAM_EPSILON = 1e-8  # torch's, and that of the released trainer


def adam_epsilon(config: EBMConfig, sampler: LangevinConfig) -> float:
    """Epsilon under which Adam takes the steps of the released trainer, whose loss is divided by tau.

    Adam divides that factor out again but for its epsilon. With a penalty the loss is our own, of which nothing
    was released.
    """
    return ADAM_EPSILON if config.energy_penalty else ADAM_EPSILON * sampler.temperature


@dataclass(frozen=True)
class Health:
    """Measured on images held out from training; PSNR in dB after ``HEALTH_STEPS`` steps."""

    psnr: float
    energy_gap: float
    bank_energy_spread: float
    noise_auroc: float

    def sound(self, config: EBMConfig) -> bool:
        """Whether training may continue from here: finite energies, and purified images that are still themselves."""
        finite = all(math.isfinite(value) for value in (self.psnr, self.energy_gap, self.bank_energy_spread))
        return finite and self.psnr >= config.min_psnr


HEALTH_STEPS = 50
HELD_OUT = 64
MAX_ROLLBACKS = 5


def check_health(
    energy: nn.Module, held_out: Tensor, bank: Tensor, sampler: LangevinConfig, generator: torch.Generator
) -> Health:
    """Health on held-out data: ``held_out`` and ``bank`` are float in [-1, 1]."""
    energy.requires_grad_(False)
    purified = langevin(energy, held_out, HEALTH_STEPS, sampler, generator)
    error = (purified - held_out).square().mean().item()
    noisy = held_out + 16 / 255 * torch.empty_like(held_out).uniform_(-1, 1, generator=generator)
    with torch.inference_mode():
        clean = energy(held_out).float()
        noised = energy(noisy).float()
        negatives = energy(bank).float()
    separation = auroc(clean.nan_to_num(), noised.nan_to_num())
    assert separation is not None  # both groups hold images
    return Health(
        psnr=10 * math.log10(4 / error) if error > 0 else math.inf,
        energy_gap=(clean.mean() - negatives.mean()).item(),
        bank_energy_spread=negatives.std().item(),
        noise_auroc=separation,
    )


@dataclass(frozen=True)
class _Snapshot:
    """All that a roll-back restores: weights, optimizer, bank."""

    update: int
    energy: dict[str, Any]
    averaged: dict[str, Any]
    optimizer: dict[str, Any]
    bank: Tensor
    health: Health


class _Training:
    """Contrastive training of an energy model: its networks, the persistent bank of chains, the counters.

    Args:
        data: uint8 ``(n, c, h, w)``, the images that are learned.
    """

    def __init__(self, data: Tensor, config: EBMConfig, sampler: LangevinConfig, ctx: Context) -> None:
        self.data = data
        self.config = config
        self.sampler = sampler
        self.draws = ctx.generator("ebm", "draws")
        self.energy = energy_network(config, data.shape[1], ctx.generator("ebm", "init"))
        self.averaged = AveragedModel(self.energy, multi_avg_fn=running_mean(config.weight_averaging))
        self.optimizer = torch.optim.Adam(
            self.energy.parameters(), lr=config.lr, eps=adam_epsilon(config, sampler)
        )
        self.bank = self.noisy_data(config.bank_size)  # (bank_size, c, h, w) in [-1, 1]
        self.update = 0
        self.lr_factor = 1.0
        self.rollbacks = 0

    def noisy_data(self, count: int) -> Tensor:
        """Images drawn from the data, with noise, in [-1, 1]."""
        device = self.data.device
        rows = torch.randint(len(self.data), (count,), generator=self.draws, device=device)
        images = to_model_range(self.data[rows]).contiguous(memory_format=torch.channels_last)
        noise = torch.randn(images.shape, generator=self.draws, device=device)
        return images + self.config.data_noise * noise

    def step(self) -> None:
        """One update of the weights, on data and on chains from the bank, which continue where they were."""
        cfg = self.config
        device = self.data.device
        learning_rate = cfg.lr * self.lr_factor * decay(self.update / cfg.updates, cfg.lr_decay)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        slots = torch.randperm(len(self.bank), generator=self.draws, device=device)[: cfg.batch_size]
        self.energy.requires_grad_(False)
        negatives = langevin(self.energy, self.bank[slots], cfg.chain_steps, self.sampler, self.draws)
        self.energy.requires_grad_(True)

        positives = self.noisy_data(len(slots))
        self._descend(positives, negatives)

        restarted = torch.rand(len(slots), generator=self.draws, device=device) < cfg.rejuvenation
        fresh = self.noisy_data(len(slots))
        self.bank[slots] = torch.where(restarted[:, None, None, None], fresh, negatives)
        self.update += 1

    def _descend(self, positives: Tensor, negatives: Tensor) -> None:
        """Follow the gradient of mean E(x+) - mean E(x-), and of the penalty."""
        cfg = self.config
        energies = self.energy(torch.cat([positives, negatives]))
        e_data, e_model = energies.split(len(positives))
        loss = e_data.mean() - e_model.mean()
        if cfg.energy_penalty:
            loss = loss + cfg.energy_penalty * (e_data.square().mean() + e_model.square().mean())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if cfg.gradient_clip:
            nn.utils.clip_grad_norm_(self.energy.parameters(), cfg.gradient_clip)
        self.optimizer.step()
        self.averaged.update_parameters(self.energy)

    def check(self, held_out: Tensor, ctx: Context) -> Health:
        """Health of the averaged weights on held-out images in [-1, 1]; reported as metrics."""
        draws = ctx.generator("ebm", "health")
        health = check_health(self.averaged.module, held_out, self.bank[:256], self.sampler, draws)
        for name, value in vars(health).items():
            ctx.metric(f"ebm_{name}", self.update, value)
        return health

    def snapshot(self, health: Health) -> _Snapshot:
        return _Snapshot(
            self.update,
            copy.deepcopy(self.energy.state_dict()),
            copy.deepcopy(self.averaged.state_dict()),
            copy.deepcopy(self.optimizer.state_dict()),
            self.bank.clone(),
            health,
        )

    def roll_back(self, good: _Snapshot) -> None:
        """Return to a healthy state, with half the learning rate."""
        self.energy.load_state_dict(good.energy)
        self.averaged.load_state_dict(good.averaged)
        self.optimizer.load_state_dict(good.optimizer)
        self.bank = good.bank.clone()
        self.update = good.update
        self.lr_factor /= 2

    def bundle(self, health: Health) -> Bundle:
        """The present state, for a later attempt after an interruption."""
        return self._checkpoint().bundle(
            update=self.update,
            lr_factor=self.lr_factor,
            rollbacks=self.rollbacks,
            health=vars(health),
        )

    def load(self, kept: Bundle) -> Health:
        """Continue from what :meth:`bundle` returned; the health it had."""
        counters = self._checkpoint().load(kept)
        self.update = counters["update"]
        self.lr_factor = counters["lr_factor"]
        self.rollbacks = counters["rollbacks"]
        return Health(**counters["health"])

    def _checkpoint(self) -> Checkpoint:
        tensors = {"bank": self.bank}
        for name, network in (("energy", self.energy), ("averaged", self.averaged)):
            tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        return Checkpoint(tensors, self.optimizer, [self.draws])


def train_ebm(
    x: Tensor, config: EBMConfig, sampler: LangevinConfig, ctx: Context
) -> tuple[nn.Module, Health]:
    """Train an energy model on images and return its last healthy state.

    As a whole stage: an interrupted one continues from the last healthy state it kept.

    Args:
        x: uint8 ``(n, c, h, w)``, at least 128 images; the last 64 are held out for health checks.

    Raises:
        Diverged: it never passed a health check, or failed one after each of five roll-backs.
    """
    if len(x) < 2 * HELD_OUT:
        raise ValueError(f"an energy model needs at least {2 * HELD_OUT} public images, got {len(x)}")
    training = _Training(x[:-HELD_OUT], config, sampler, ctx)
    held_out = to_model_range(x[-HELD_OUT:])
    good: _Snapshot | None = None
    kept = ctx.resume()
    if kept:
        good = training.snapshot(training.load(kept))
    while training.update < config.updates:
        training.step()
        ctx.progress(training.update, config.updates)
        if training.update % config.health_every and training.update < config.updates:
            continue
        health = training.check(held_out, ctx)
        if health.sound(config):
            good = training.snapshot(health)
            ctx.keep(partial(training.bundle, health))
        else:
            _return_to_health(training, good, health, ctx)
    assert good is not None  # the last update is always checked
    return training.averaged.module.requires_grad_(False), good.health


def _return_to_health(training: _Training, good: _Snapshot | None, health: Health, ctx: Context) -> None:
    """
    Raises:
        Diverged: there is no healthy state to return to, or it was tried too often.
    """
    training.rollbacks += 1
    if good is None or training.rollbacks > MAX_ROLLBACKS:
        raise Diverged(
            f"the energy model diverged at update {training.update} (PSNR of purified held-out images "
            f"{health.psnr:.1f} dB) after {training.rollbacks - 1} roll-backs; lower its lr or chain_steps, or set "
            "step_clamp and energy_penalty"
        )
    ctx.log(
        f"energy model diverging at update {training.update} (PSNR {health.psnr:.1f} dB): back to update "
        f"{good.update} with half the learning rate",
        "warning",
    )
    training.roll_back(good)


Tensors = tuple[Tensor, ...] | list[Tensor]


def running_mean(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Exponential mean of weights, over fewer of them at the start so that the first ones leave no trace."""

    def update(means: Tensors, weights: Tensors, seen: Tensor | int) -> None:
        kept = min(decay, (1 + int(seen)) / (10 + int(seen)))
        torch._foreach_lerp_(means, weights, 1 - kept)

    return update


def decay(progress: float, factor: float) -> float:
    """``factor`` once for each mark passed: 1/3, 5/8 and 5/6 (epochs 40, 75 and 100 of 120)."""
    return factor ** sum(progress >= mark for mark in (1 / 3, 5 / 8, 5 / 6))
