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
        beside: what somebody else has a part in the same training.
    """

    tensors: Mapping[str, Tensor]
    optimizer: torch.optim.Optimizer | None = None
    generators: Sequence[torch.Generator] = ()
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None
    beside: "Checkpoint | None" = None

    def bundle(self, **more: Any) -> Bundle:
        """The present state, and ``more`` numbers to keep beside it."""
        tensors = {f"tensor.{name}": value for name, value in self.tensors.items()}
        for number, _, state in self._moments():
            tensors |= {f"optimizer.{number}.{k}": v for k, v in state.items() if isinstance(v, Tensor)}
        tensors |= {f"generator.{number}": g.get_state() for number, g in enumerate(self.generators)}
        rates = [group["lr"] for group in self._groups()]
        data = {
            "rates": rates,
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "more": more,
        }
        if self.beside:
            other = self.beside.bundle()
            tensors |= {f"beside.{name}": value for name, value in other.tensors.items()}
            data["beside"] = other.data
        return Bundle(tensors, data)

    def load(self, kept: Bundle) -> dict[str, Any]:
        """Bring everything back to a kept state; returns the numbers kept beside it."""
        with torch.no_grad():
            for name, value in self.tensors.items():
                value.copy_(kept.tensors[f"tensor.{name}"])
        for number, parameter, state in self._moments():
            moments = _below(f"optimizer.{number}.", kept.tensors)
            state.update({k: _like(parameter, v) for k, v in moments.items()})
        for number, generator in enumerate(self.generators):
            generator.set_state(kept.tensors[f"generator.{number}"].cpu())
        for group, rate in zip(self._groups(), kept.data["rates"], strict=True):
            group["lr"] = rate
        if self.schedule:
            self.schedule.load_state_dict(kept.data["schedule"])
        if self.beside:
            self.beside.load(Bundle(_below("beside.", kept.tensors), kept.data["beside"]))
        more: dict[str, Any] = kept.data["more"]
        return more

    def _groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups if self.optimizer else []

    def _moments(self) -> Iterator[tuple[int, Tensor, dict[str, Any]]]:
        """Number, parameter and the optimizer's state of it."""
        if self.optimizer:
            for number, parameter in enumerate(p for group in self._groups() for p in group["params"]):
                yield number, parameter, self.optimizer.state[parameter]


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment in the memory layout of its parameter, which fused optimizers ask for; a count of steps on the CPU."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.cpu()
