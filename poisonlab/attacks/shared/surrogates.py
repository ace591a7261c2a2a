"""Surrogates: the networks an attacker crafts on in place of the victim's, their dropout and their features."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from pydantic import AfterValidator, ValidationError
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared import memory
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats
from poisonlab.models.shared.hooks import hooked
from poisonlab.spec.config import VictimPart, explain
from poisonlab.spec.overrides import parse_settings
from poisonlab.training.loop import TrainingHook
from poisonlab.types import ImageSet


def parse_surrogates(text: str) -> list[VictimPart]:
    """``"resnet9 width=8, resnet8"`` -> two victims with their parameters; an empty text names none.

    Raises:
        ValueError: no such victim or no such parameter; lists the possible ones.
    """
    parts = []
    for words in (entry.split() for entry in text.split(",") if entry.strip()):
        try:
            parts.append(VictimPart.model_validate({"name": words[0], "params": parse_settings(words[1:])}))
        except ValidationError as error:
            reason = explain(error).removeprefix("spec: ").partition(" (got ")[0]
            raise ValueError(f"surrogate {' '.join(words)!r}: {reason}") from None
    return parts


def _known(text: str) -> str:
    parse_surrogates(text)
    return text


SurrogateNames = Annotated[str, AfterValidator(_known)]  # victims as ``parse_surrogates`` reads them


def drop_activations(model: nn.Module, rate: float, generator: torch.Generator) -> list[RemovableHandle]:
    """Dropout before every inner 3x3 convolution of ``model``, whatever its mode, until the handles are removed."""

    def drop(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= rate
        return (x * kept / (1 - rate),)

    inner = [m for m in model.modules() if isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1][1:]
    return [module.register_forward_pre_hook(drop) for module in inner] if rate else []


class DropoutTraining(TrainingHook):
    """Trains a network with dropout."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        self.rate = rate
        self.generator = generator
        self.handles: list[RemovableHandle] = []

    @classmethod
    def of(cls, rate: float, ctx: Context) -> Self | None:
        return cls(rate, ctx.generator("dropout")) if rate else None

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        self.handles = drop_activations(model, self.rate, self.generator)

    def end(self, ctx: Context) -> None:
        for handle in self.handles:
            handle.remove()


def features_at(model: Classifier, x: Tensor, depths: int) -> list[Tensor]:
    """Features at the last ``depths`` depths: outputs of convolution blocks, and last the penultimate features.

    The last block of the body has no place of its own: the penultimate features are its pooled output.

    Args:
        x: float ``(n, c, h, w)`` in [0, 1].

    Returns:
        ``depths - 1`` tensors ``(n, channels, h', w')``, then one ``(n, d)``.
    """
    blocks = [m for m in model.body.children() if any(isinstance(part, nn.Conv2d) for part in m.modules())]
    if depths > len(blocks):
        raise ValueError(
            f"depths={depths} asks for more than the {len(blocks)} convolution blocks of the surrogate"
        )
    seen: list[Tensor] = []
    handles = [
        b.register_forward_hook(lambda module, inputs, out: seen.append(out)) for b in blocks[-depths:-1]
    ]
    with hooked(handles):
        last = model.features(x)
    return [*seen, last]


@dataclass(frozen=True)
class Surrogate:
    """One network to craft on.

    Attributes:
        model: in eval mode, with frozen weights.
        depths: how many depths of features are compared.
        dropout: share of activations dropped in every pass; 0 for none.
        draws: passes with dropout whose features are averaged.
        generator: of the dropout.
    """

    model: Classifier
    depths: int
    dropout: float
    draws: int
    generator: torch.Generator

    def features(self, x: Tensor) -> list[Tensor]:
        """Mean features of ``draws`` passes; shapes as in :func:`features_at`."""
        with self._dropping():
            passes = [features_at(self.model, x, self.depths) for _ in range(self.draws)]
        if self.draws == 1:
            return passes[0]
        return [torch.stack(same).mean(0) for same in zip(*passes, strict=True)]

    def poison_features(self, poisons: Tensor) -> list[Tensor]:
        """Features of ``(trials, k, c, h, w)`` at each depth, ``(trials, k, ...)``."""
        return [f.unflatten(0, poisons.shape[:2]) for f in self.features(poisons.flatten(0, 1))]

    def target_features(self, targets: Tensor) -> list[Tensor]:
        """Features of uint8 images ``(n, c, h, w)`` from a single pass, as constants."""
        with torch.inference_mode(), self._dropping():
            found = features_at(self.model, as_floats(targets), self.depths)
        return [f.clone() for f in found]

    def images_at_once(self, x: Tensor) -> int:
        """How many images like ``x``, two or more, a graph through all draws may hold; draws no dropout."""
        # dropout keeps its masks, as large as what they fall on
        graphs = self.draws * (2 if self.dropout else 1)
        return memory.images_at_once(lambda images: features_at(self.model, images, self.depths), x, graphs)

    def _dropping(self) -> AbstractContextManager[None]:
        return hooked(drop_activations(self.model, self.dropout, self.generator))


def surrogates_of(config: Any, view: AttackerView, ctx: Context) -> list[Surrogate]:
    """The networks that ``config.surrogates`` names, or the victim's own extractor where it names none (white box)."""
    chosen = parse_surrogates(config.surrogates)
    models = [
        view.surrogate(number, victim=part, dropout=config.dropout) for number, part in enumerate(chosen)
    ]
    if not models:
        models = [view.extractor()]
    return [
        Surrogate(
            model.requires_grad_(False),
            config.depths,
            config.dropout,
            config.draws,
            ctx.generator("surrogate", "dropout", str(number)),
        )
        for number, model in enumerate(models)
    ]


Loss = Callable[[Tensor], Tensor]


def mean_gradient(losses: Sequence[Loss], x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over surrogates of each trial's loss, ``(trials,)``, and its gradient; one surrogate's graph at a time."""
    values: list[Tensor] = []
    gradients: list[Tensor] = []
    for loss in losses:
        value = loss(x)
        gradients += torch.autograd.grad(value.sum(), x)
        values.append(value.detach())
    return sum(values[1:], values[0]) / len(losses), sum(gradients[1:], gradients[0]) / len(losses)
