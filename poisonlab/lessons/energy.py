"""Lesson: energy and walks. A network learns where data lies, and noisy walks carry moved points back there.

The recipe of PureGen's energy model (Bhat et al. 2024, arXiv:2405.18627) with points instead of images:

    minimise  mean E(data) - mean E(walkers),   walkers following  x <- x - (eps^2 / 2 tau) grad E(x) + eps xi.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonlab.context import Context, derive
from poisonlab.generative.langevin import LangevinConfig, langevin
from poisonlab.lessons import plane
from poisonlab.training.loop import fit

SHAPES = ("ring", "four clouds", "two moons")
SIDE, CELLS = 1.6, 45  # of the drawn square
DATA, WALKERS, CHAINS = 1000, 128, 40
HIDDEN, LR = 64, 3e-3
UPDATES, WALK, RESTARTS = (
    240,
    4,
    0.05,
)  # of training; steps of the walkers in an update, share that starts anew
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
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = nn.functional.silu(layer(x))
        return self.layers[-1](x)[:, 0]


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
        return (
            torch.stack([0.8 * angle.cos() + 0.8 * half - 0.4, 0.8 * angle.sin() + 0.4 * half - 0.2], 1)
            + noise
        )
    if shape == "four clouds":
        corner = torch.arange(n) % 4
        return torch.stack([1.6 * (corner % 2) - 0.8, 1.6 * (corner // 2) - 0.8], 1) + 2 * noise
    raise ValueError(f"no shape {shape!r}; there is: {', '.join(SHAPES)}")


def draw(shape: str, seed: int = 0) -> Tensor:
    """What an energy model learns from, ``(DATA, 2)``; the first ``CHAINS`` points will walk."""
    return sample(shape, DATA, derive(seed, "energy", "data"))


def poisoned(points: Tensor) -> Tensor:
    """The points, pushed away from the middle by the poison."""
    return points + POISON * points / points.norm(dim=1, keepdim=True)


def learn(shape: str, seed: int = 0) -> Landscape:
    """Train an energy model by contrast: low where data lies, high where its own walkers go."""
    data = draw(shape, seed)
    model = Energy(derive(seed, "energy", "start"))
    chains, draws = derive(seed, "energy", "walkers"), derive(seed, "energy", "draws")
    walkers = _anywhere(WALKERS, draws)
    updates = [round(UPDATES * (k / (FRAMES - 1)) ** 2) for k in range(FRAMES)]
    maps, seen = [], []

    def look(update: int) -> None:
        if update in updates:
            maps.append(energy_map(model))
            seen.append(walkers.clone())

    def rows() -> Iterator[Tensor]:
        for update in range(UPDATES):
            look(update)
            yield torch.randint(DATA, (WALKERS,), generator=draws)

    def prepare(index: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal walkers
        again = torch.rand(WALKERS, 1, generator=draws) < RESTARTS
        start = torch.where(again, _anywhere(WALKERS, draws), walkers)
        model.requires_grad_(False)
        walkers = langevin(model, start, WALK, CONSTANTS, chains).clamp(-SIDE, SIDE)
        model.requires_grad_(True)
        return torch.cat([data[index], walkers]), index

    def loss(energies: Tensor, _: Tensor) -> Tensor:
        real, walked = energies.chunk(2)
        return real.mean() - walked.mean() + SIZE_PENALTY * energies.square().mean()

    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=UPDATES)
    fit(model, prepare, loss, optimizer, schedule, rows(), UPDATES, Context())
    look(UPDATES)
    model.requires_grad_(False)
    return Landscape(data, model, updates, torch.stack(maps), torch.stack(seen))


def energy_map(model: Energy) -> Tensor:
    """Energies on the grid, ``(CELLS, CELLS)``, the lowest at 0."""
    with torch.inference_mode():
        energies = model(plane.grid(SIDE, CELLS)).clone().view(CELLS, CELLS)
    return energies - energies.min()


def walk(learned: Landscape, noise: float, temperature: float, steps: int, seed: int = 0) -> Walks:
    """Walk from data points, and from the same points pushed away from the middle by the poison.

    Args:
        noise: eps. temperature: tau.
    """
    config = LangevinConfig(noise=noise, temperature=temperature)
    start = learned.data[:CHAINS]
    paths, energies, distances = [], [], []
    for x in (start, poisoned(start)):
        states: list[Tensor] = []

        def visit(step: int, state: Tensor, energy: Tensor, states: list[Tensor] = states) -> None:
            states.append(state.clone())

        end = langevin(learned.model, x, steps, config, derive(seed, "energy", "walk"), visit)
        path = torch.stack([*states, end])  # (steps + 1, CHAINS, 2)
        with torch.inference_mode():
            energies.append(learned.model(path.flatten(0, 1)).clone().view(steps + 1, -1).mean(1))
        near = torch.cdist(path.flatten(0, 1), learned.data).amin(1)
        distances.append(near.view(steps + 1, -1).mean(1))
        paths.append(path)
    return Walks(
        *paths, torch.stack(energies), torch.stack(distances), (paths[0] - paths[1]).norm(dim=2).mean(1)
    )


def _anywhere(n: int, generator: torch.Generator) -> Tensor:
    """Uniform places of the drawn square."""
    return SIDE * (2 * torch.rand(n, 2, generator=generator) - 1)
