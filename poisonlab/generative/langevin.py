"""Langevin dynamics on images (PureGen, Bhat et al. 2024, arXiv:2405.18627, equations 3 and 4).

    x_{k+1} = x_k - (eps^2 / 2 tau) grad E(x_k) + eps xi_k,      xi_k ~ N(0, I)

in the form that was released: eps = 0.0125, tau = 1e-4, thus 0.78125 times the energy's gradient.
Images are in [-1, 1] here and only here; the chain's state is float32 whatever the network's type.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonlab.spec.config import Config, param

Visit = Callable[[int, Tensor], None]  # steps done, state
# images of a pass on a CPU: the activations of more do not stay in its cache (a fifth slower at 512)
CPU_SLICE = 128


class LangevinConfig(Config):
    """The sampler's constants; the two clamps are not in the paper: off by default, for small networks only."""

    noise: float = param(
        0.0125,
        "eps, standard deviation of a step's noise in [-1, 1] units",
        gt=0,
        le=0.2,
        source="PureGen repository",
    )
    temperature: float = param(
        1e-4, "tau of training, divides the energy", gt=0, le=1, source="PureGen repository"
    )
    step_clamp: float = param(
        0.0,
        "Largest drift of a pixel in one step; 0 for none (not in the paper)",
        quick=0.03,
        full=0.03,
        ge=0,
        le=1,
    )
    state_clamp: float = param(
        0.0, "Pixels are kept within +- this; 0 for none (not in the paper)", quick=1.5, full=1.5, ge=0, le=10
    )

    @property
    def gradient_scale(self) -> float:
        """eps^2 / (2 tau)."""
        return self.noise**2 / (2 * self.temperature)


def to_model_range(x: Tensor) -> Tensor:
    """uint8 images to float32 in [-1, 1]."""
    return x.to(torch.float32).div_(127.5).sub_(1)


def to_bytes(x: Tensor) -> Tensor:
    """Float images in [-1, 1] to uint8: clamped and rounded, where the released code wraps around."""
    return x.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def energy_gradient(energy: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """``E(x)`` ``(n,)`` and its gradient with respect to ``x``."""
    images_a_pass = CPU_SLICE if x.device.type == "cpu" else len(x)
    passes = [_one_pass(energy, part) for part in x.split(images_a_pass)]
    energies, gradients = zip(*passes, strict=True)
    return torch.cat(energies), torch.cat(gradients)


def _one_pass(energy: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        e = energy(x)
        (gradient,) = torch.autograd.grad(e.sum(), x)
    return e.detach(), gradient


def langevin(
    energy: nn.Module,
    x: Tensor,
    steps: int,
    config: LangevinConfig,
    generator: torch.Generator,
    visit: Callable[[int, Tensor, Tensor], None] = lambda step, x, energy: None,
) -> Tensor:
    """The last state of a chain of ``steps`` steps that starts at ``x``.

    Args:
        energy: its parameters should not require gradients: only the input's gradient is needed.
        x: float32 ``(n, c, h, w)`` in [-1, 1]; not modified.
        visit: called before every step with the number of steps done, the state and its energy ``(n,)``. It must
            clone a state that it wants to keep.
    """
    x = x.detach().clone()
    # contiguous even where x is channels_last: drawn ten times faster on a CPU, and the same in any layout
    noise = torch.empty(x.shape, device=x.device)
    for step in range(steps):
        e, gradient = energy_gradient(energy, x)
        visit(step, x, e)
        drift = gradient.float().mul_(-config.gradient_scale)
        if config.step_clamp:
            drift.clamp_(-config.step_clamp, config.step_clamp)
        x.add_(drift).add_(noise.normal_(generator=generator), alpha=config.noise)
        if config.state_clamp:
            x.clamp_(-config.state_clamp, config.state_clamp)
    return x


@dataclass(frozen=True)
class Chain:
    """A recorded walk that purifies images.

    Attributes:
        steps: ``(s,)``, the recorded steps.
        states: uint8 ``(s, n, c, h, w)``.
        energies: ``(s, n)``, NaN without an energy model.
        used: steps after which purification stops; the recording may continue.
        moments: what was done up to each recorded step, in words.
    """

    steps: Tensor
    states: Tensor
    energies: Tensor
    used: int
    moments: list[str]


def record(
    walk: Callable[[Visit], Tensor], energy: Callable[[Tensor], Tensor], keep: Collection[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Steps, states and energies of a walk, as a :class:`Chain` holds them.

    Args:
        walk: calls its argument before every step with the number of steps done and the state; returns the last
            state, after ``max(keep)`` steps.
        energy: of float32 states in [-1, 1].
    """
    kept = sorted(set(keep))
    states: list[Tensor] = []
    energies: list[Tensor] = []

    def visit(step: int, state: Tensor) -> None:
        if step in kept:
            states.append(to_bytes(state))
            energies.append(energy(state))

    visit(kept[-1], walk(visit))
    return torch.tensor(kept), torch.stack(states), torch.stack(energies)
