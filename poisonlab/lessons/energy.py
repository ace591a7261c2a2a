"""Lesson: energy and walks. A network learns where data lies, and noisy walks carry moved points back there.

The recipe of PureGen's energy model (Bhat et al. 2024, arXiv:2405.18627) with points instead of images:

    minimize  mean E(data) - mean E(walkers),   walkers following  x <- x - (eps^2 / 2 tau) grad E(x) + eps xi.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from poisonlab.context import Context, derive
from poisonlab.generative.langevin import LangevinConfig, langevin
from poisonlab.lessons import plane
from poisonlab.training.loop import Minimizer

SHAPES = ("ring", "four clouds", "two moons")
SIDE = 1.6  # the drawn square reaches from -SIDE to SIDE
CELLS = 45  # along a side of it
DATA = 1000  # points that are learned
WALKERS = 128
CHAINS = 40  # walks that are shown
HIDDEN = 64
LR = 3e-3
UPDATES = 240
WALK = 4  # steps of the walkers in an update
RESTARTS = 0.05  # share of the walkers that restart in an update
CONSTANTS = LangevinConfig(noise=0.1, temperature=0.1)  # of training
SIZE_PENALTY = 0.02  # on squared energies: only differences have a meaning
FRAMES = 9
POISON = 0.6  # length of the poison
NEAR = 1.25  # "about as near": at most a quarter farther away


class Energy(nn.Module):
    """E: points ``(n, 2)`` -> ``(n,)``."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        sizes = (2, HIDDEN, HIDDEN, 1)
        layers = [nn.Linear(inputs, outputs) for inputs, outputs in zip(sizes, sizes[1:], strict=False)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = nn.functional.silu(layer(x))
        energies: Tensor = self.layers[-1](x)[:, 0]
        return energies


@dataclass(frozen=True)
class Landscape:
    """An energy model and how it came to be.

    Attributes:
        data: what it learned from, ``(n, 2)``.
        model: at the end, frozen.
        updates: the kept ones.
        maps: energy on the grid after them, ``(updates, cells, cells)``, the lowest place at 0.
        walkers: where the walkers were, ``(updates, WALKERS, 2)``.
    """

    data: Tensor
    model: Energy
    updates: list[int]
    maps: Tensor
    walkers: Tensor


@dataclass(frozen=True)
class Walks:
    """Walks from data points and from the same points moved by the poison, under the same noise.

    Attributes:
        clean, poisoned: ``(steps + 1, CHAINS, 2)``.
        energies: mean over the walks, ``(2, steps + 1)``.
        distances: mean distance to the nearest data point, ``(2, steps + 1)``.
        apart: mean distance between a walk and its twin, ``(steps + 1,)``.
    """

    clean: Tensor
    poisoned: Tensor
    energies: Tensor
    distances: Tensor
    apart: Tensor

    @property
    def returned(self) -> int | None:
        """The first step at which the poisoned walks are, on average, about as near to the data as the clean ones."""
        clean, poisoned = self.distances
        near = (poisoned <= NEAR * clean).nonzero()
        return int(near[0]) if len(near) else None


def sample(shape: str, n: int, generator: torch.Generator) -> Tensor:
    """Points of one of ``SHAPES``, within about 1.2 of the middle."""
    noise = 0.06 * torch.randn(n, 2, generator=generator)
    turn = torch.rand(n, generator=generator)
    half = torch.arange(n) % 2
    if shape == "ring":
        angle = 2 * math.pi * turn
        return torch.stack([angle.cos(), angle.sin()], 1) + noise
    if shape == "two moons":
        angle = math.pi * (turn + half)
        x = 0.8 * angle.cos() + 0.8 * half - 0.4
        y = 0.8 * angle.sin() + 0.4 * half - 0.2
        return torch.stack([x, y], 1) + noise
    if shape == "four clouds":
        corner = torch.arange(n) % 4
        return torch.stack([1.6 * (corner % 2) - 0.8, 1.6 * (corner // 2) - 0.8], 1) + 2 * noise
    raise ValueError(f"no shape {shape!r}; there is: {', '.join(SHAPES)}")


def draw(shape: str, seed: int = 0) -> Tensor:
    """What an energy model learns from, ``(DATA, 2)``; the first ``CHAINS`` points will walk."""
    return sample(shape, DATA, derive(seed, "energy", "data"))


def poisoned(points: Tensor) -> Tensor:
    """The points, pushed away from the middle by the poison."""
    lengths: Tensor = points.norm(dim=1, keepdim=True)
    return points + POISON * points / lengths


def learn(shape: str, seed: int = 0) -> Landscape:
    """Train an energy model by contrast: low where data lies, high where its own walkers go."""
    data = draw(shape, seed)
    model = Energy(derive(seed, "energy", "start"))
    chains = derive(seed, "energy", "walkers")
    draws = derive(seed, "energy", "draws")
    walkers = _anywhere(WALKERS, draws)
    updates = [round(UPDATES * (k / (FRAMES - 1)) ** 2) for k in range(FRAMES)]
    maps = []
    places = []
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=UPDATES)
    minimizer = Minimizer(model, optimizer, schedule, UPDATES, Context())
    for update in range(UPDATES):
        if update in updates:
            maps.append(energy_map(model))
            places.append(walkers.clone())
        rows = torch.randint(DATA, (WALKERS,), generator=draws)
        restarts = torch.rand(WALKERS, 1, generator=draws) < RESTARTS
        start = torch.where(restarts, _anywhere(WALKERS, draws), walkers)
        model.requires_grad_(False)
        walkers = langevin(model, start, WALK, CONSTANTS, chains).clamp(-SIDE, SIDE)
        model.requires_grad_(True)
        minimizer.step(partial(contrast, model, data[rows], walkers))
    maps.append(energy_map(model))
    places.append(walkers.clone())
    model.requires_grad_(False)
    return Landscape(data, model, updates, torch.stack(maps), torch.stack(places))


def contrast(model: Energy, data: Tensor, walkers: Tensor) -> Tensor:
    """mean E(data) - mean E(walkers), and a penalty on large energies; both ``(n, 2)``."""
    energies = model(torch.cat([data, walkers]))
    of_data, of_walkers = energies.chunk(2)
    penalty: Tensor = SIZE_PENALTY * energies.square().mean()
    gap: Tensor = of_data.mean() - of_walkers.mean()
    return gap + penalty


def energy_map(model: Energy) -> Tensor:
    """Energies on the grid, ``(CELLS, CELLS)``, the lowest at 0."""
    with torch.inference_mode():
        energies: Tensor = model(plane.grid(SIDE, CELLS)).clone().view(CELLS, CELLS)
    return energies - energies.min()


def walk(learned: Landscape, noise: float, temperature: float, steps: int, seed: int = 0) -> Walks:
    """Walk from data points, and from the same points pushed away from the middle by the poison.

    Args:
        noise: eps. temperature: tau.
    """
    config = LangevinConfig(noise=noise, temperature=temperature)
    start = learned.data[:CHAINS]
    clean = _path(learned.model, start, steps, config, seed)
    moved = _path(learned.model, poisoned(start), steps, config, seed)
    return Walks(
        clean,
        moved,
        torch.stack([_mean_energy(learned.model, path) for path in (clean, moved)]),
        torch.stack([_mean_distance(path, learned.data) for path in (clean, moved)]),
        (clean - moved).norm(dim=2).mean(1),
    )


def _path(model: Energy, start: Tensor, steps: int, config: LangevinConfig, seed: int) -> Tensor:
    """Every state of a walk, ``(steps + 1, n, 2)``; the noise depends on the seed alone."""
    states: list[Tensor] = []

    def visit(step: int, state: Tensor, energy: Tensor) -> None:
        states.append(state.clone())

    end = langevin(model, start, steps, config, derive(seed, "energy", "walk"), visit)
    return torch.stack([*states, end])


def _mean_energy(model: Energy, path: Tensor) -> Tensor:
    """Over the walks, at each step, ``(steps + 1,)``."""
    with torch.inference_mode():
        energies: Tensor = model(path.flatten(0, 1)).clone()
    return energies.view(len(path), -1).mean(1)


def _mean_distance(path: Tensor, data: Tensor) -> Tensor:
    """To the nearest data point, over the walks, at each step, ``(steps + 1,)``."""
    nearest = torch.cdist(path.flatten(0, 1), data).amin(1)
    return nearest.view(len(path), -1).mean(1)


def _anywhere(n: int, generator: torch.Generator) -> Tensor:
    """Uniform places of the drawn square."""
    return SIDE * (2 * torch.rand(n, 2, generator=generator) - 1)
