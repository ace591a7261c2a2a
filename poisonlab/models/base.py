"""What every victim has: normalization as its first layer, features, and a linear head."""

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from poisonlab.cache.stage_key import fingerprint
from poisonlab.spec.config import VictimPart

COUNTED = (
    2**28
)  # bytes of images from which on statistics come from counts, on any machine: numbers stay the same
EVALUATION_BATCH = 1000
CPU_BATCH = (
    128  # what caches hold: 1,000 images at once take twice as long there, most of it for fresh memory
)
LEARNED_FROM = 5000  # images, at most, that a first layer takes its weights from

Network = TypeVar("Network", bound=nn.Module)


class Normalize(nn.Module):
    """Subtract a channel's mean and divide by its standard deviation; both are fixed buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Classifier(nn.Module):
    """``head(features(normalize(x)))`` on float images ``(n, c, h, w)`` in [0, 1].

    Args:
        body: normalized images -> features ``(n, d)``.
        features: d.
        logit_scale: fixed factor on the logits.

    Attributes:
        victim: the part of the spec that it was built from, by which stages that run it know its code; ``None`` of a
            network that no spec asked for.
    """

    victim: VictimPart | None = None

    def __init__(
        self,
        body: nn.Module,
        features: int,
        classes: int,
        mean: Tensor,
        std: Tensor,
        logit_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.body = body
        self.head = nn.Linear(features, classes)
        self.logit_scale = logit_scale

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features ``(n, d)``."""
        features: Tensor = self.body(self.normalize(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits * self.logit_scale


def identity(model: Classifier) -> list[Any]:
    """What a stage that runs a network depends on, for its key: the kind of victim, and the weights."""
    return [model.victim, fingerprint(*model.state_dict().values())]


def drawn(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Names and modules in their order, without what lies below a module that draws its weights itself."""
    yield name, module
    if hasattr(module, "initialize"):
        return
    for part, child in module.named_children():
        yield from drawn(child, f"{name}.{part}" if name else part)


def initialize(model: Network, generator: torch.Generator) -> Network:
    """Draw all weights from ``generator``: He-normal convolutions, small uniform linear layers.

    A module that starts from other weights has a method ``initialize(generator)``, which draws all below it as well.
    The generator must live on the device of the weights. Returns ``model``, which is changed in place.
    """
    for _, module in drawn(model):
        draw_own_weights = getattr(module, "initialize", None)
        if draw_own_weights:
            draw_own_weights(generator)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        bias = getattr(module, "bias", None)
        if isinstance(module, nn.Conv2d | nn.Linear) and bias is not None:
            nn.init.zeros_(bias)
    return model


def learn_from_images(model: Classifier, x: Tensor) -> None:
    """Let layers with a method ``learn(normalized images)`` take their weights from the training images.

    Only a first layer can have it: it is handed the images as :class:`Normalize` gives them.

    Args:
        x: uint8 ``(n, c, h, w)``.
    """
    for module in model.body.modules():
        learn = getattr(module, "learn", None)
        if learn:
            learn(model.normalize(as_floats(x[:LEARNED_FROM])))


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of uint8 images, on the [0, 1] scale."""
    if x.numel() > COUNTED and x.device.type == "cpu":
        return _statistics_of_counts(x)
    flat = x.transpose(0, 1).flatten(1).float() / 255  # (c, n h w)
    return flat.mean(1), flat.std(1).clamp_min(torch.finfo(torch.float32).eps)


def _statistics_of_counts(x: Tensor) -> tuple[Tensor, Tensor]:
    """The same without eight times the images as floats: how often each value occurs says it all."""
    counts = torch.zeros(x.shape[1], 256, dtype=torch.float64)
    for part in x.split(EVALUATION_BATCH):
        for channel, values in zip(counts, part.transpose(0, 1).flatten(1), strict=True):
            channel += torch.bincount(values, minlength=256)
    shares = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ values
    pixels = counts[0].sum()
    variance = (shares * (values - mean[:, None]) ** 2).sum(1) * pixels / (pixels - 1)
    return mean.float(), variance.sqrt().float().clamp_min(torch.finfo(torch.float32).eps)


def evaluation_batches(x: Tensor) -> tuple[Tensor, ...]:
    """Images in the pieces in which their device runs a network fastest; in eval mode, any pieces give the same."""
    pieces: tuple[Tensor, ...] = x.split(CPU_BATCH if x.device.type == "cpu" else EVALUATION_BATCH)
    return pieces


def logits(model: Classifier, x: Tensor) -> Tensor:
    """Logits ``(n, classes)`` of images, uint8 or floats in [0, 1]."""
    with torch.inference_mode():
        parts = [model(as_floats(part)) for part in evaluation_batches(x)]
    return torch.cat(parts).clone()


def predict(model: Classifier, x: Tensor) -> Tensor:
    """Labels of images, uint8 or floats in [0, 1]; int64 ``(n,)``."""
    return logits(model, x).argmax(1)


def accuracy(model: Classifier, x: Tensor, y: Tensor) -> float:
    """Share of uint8 images that are given their label."""
    return (predict(model, x) == y).float().mean().item()


def extract(model: Classifier, x: Tensor) -> Tensor:
    """Penultimate features of uint8 images, float ``(n, d)``."""
    with torch.inference_mode():
        parts = [model.features(as_floats(part)) for part in evaluation_batches(x)]
    return torch.cat(parts).clone()


def as_floats(x: Tensor) -> Tensor:
    """Images as a network takes them: float32 in [0, 1], channels last; floats keep their values."""
    if x.is_floating_point():
        return x.contiguous(memory_format=torch.channels_last)
    return x.to(torch.float32, memory_format=torch.channels_last).div_(255)
