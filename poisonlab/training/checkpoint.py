"""The state of a training as a bundle, and back: all that an interrupted one needs to continue exactly."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poisonlab.types import Bundle


@dataclass(frozen=True)
class Checkpoint:
    """The moving parts of a training; those of a :class:`Bundle` can be written and read without pickle.

    Attributes:
        tensors: what is learned, changed in place when a state is loaded; a module's ``state_dict()`` fits.
        optimizer: its moments and learning rates.
        generators: all that the training draws from.
        schedule: of the learning rate; its state must be JSON, which that of ``MultiStepLR`` is not.
    """

    tensors: Mapping[str, Tensor]
    optimizer: torch.optim.Optimizer
    generators: Sequence[torch.Generator]
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None

    def bundle(self, **more: Any) -> Bundle:
        """The present state, and ``more`` numbers to keep beside it."""
        tensors = {f"tensor.{name}": value for name, value in self.tensors.items()}
        for number, parameter in self._parameters():
            state = self.optimizer.state[parameter]
            tensors |= {f"optimizer.{number}.{k}": v for k, v in state.items() if isinstance(v, Tensor)}
        tensors |= {f"generator.{number}": g.get_state() for number, g in enumerate(self.generators)}
        rates = [group["lr"] for group in self.optimizer.param_groups]
        schedule = self.schedule.state_dict() if self.schedule else None
        return Bundle(tensors, {"rates": rates, "schedule": schedule, "more": more})

    def load(self, kept: Bundle) -> dict[str, Any]:
        """Bring everything back to a kept state; returns the numbers kept beside it."""
        with torch.no_grad():
            for name, value in self.tensors.items():
                value.copy_(kept.tensors[f"tensor.{name}"])
        for number, parameter in self._parameters():
            prefix = f"optimizer.{number}."
            state = {k.removeprefix(prefix): v for k, v in kept.tensors.items() if k.startswith(prefix)}
            self.optimizer.state[parameter].update({k: _like(parameter, v) for k, v in state.items()})
        for number, generator in enumerate(self.generators):
            generator.set_state(kept.tensors[f"generator.{number}"].cpu())
        for group, rate in zip(self.optimizer.param_groups, kept.data["rates"], strict=True):
            group["lr"] = rate
        if self.schedule:
            self.schedule.load_state_dict(kept.data["schedule"])
        more: dict[str, Any] = kept.data["more"]
        return more

    def _parameters(self) -> Iterator[tuple[int, Tensor]]:
        return enumerate(p for group in self.optimizer.param_groups for p in group["params"])


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment in the memory layout of its parameter, which fused optimizers ask for; a count of steps on the CPU."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.cpu()
