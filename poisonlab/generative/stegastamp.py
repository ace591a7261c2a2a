"""Hiding a bit string in an image: an encoder that adds a residual and a decoder that reads the bits back.

The shape follows StegaStamp's (Tancik et al. 2020, arXiv:1904.05343, section 3) in about the size of the artificial
fingerprints repository's (Yu et al. 2021, arXiv:2007.08457), which BackdoorBench uses for SSBA; layers differ.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.models.base import EVALUATION_BATCH, as_floats


def widths(filters: int, halvings: int) -> list[int]:
    """Channels at each resolution: f, f, 2 f, 4 f, ..."""
    return [filters, *(filters << level for level in range(halvings))]


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU())


class Encoder(nn.Module):
    """x, bits -> x + bound tanh(U-Net(x, map(bits))), clipped to [0, 1].

    Args:
        shape: ``(c, h, w)`` of an image.
        bits: length of the string.
        filters, halvings: channels of the first layer, and how often the U-Net halves the resolution.
        bound: largest change of a pixel on the [0, 1] scale.
    """

    def __init__(
        self, shape: tuple[int, int, int], bits: int, filters: int, halvings: int, bound: float
    ) -> None:
        super().__init__()
        c, h, w = shape
        self.map_shape = (c, max(1, h // 2), max(1, w // 2))
        self.bound = bound
        self.secret = nn.Linear(bits, c * self.map_shape[1] * self.map_shape[2])
        sizes = widths(filters, halvings)
        self.first = convolution(2 * c, sizes[0])
        self.down = nn.ModuleList(convolution(a, b, 2) for a, b in zip(sizes, sizes[1:], strict=False))
        self.up = nn.ModuleList(convolution(b, a) for a, b in zip(sizes, sizes[1:], strict=False))
        self.merge = nn.ModuleList(convolution(2 * a, a) for a in sizes[:-1])
        self.residual = nn.Conv2d(filters + 2 * c, c, 1)

    def forward(self, x: Tensor, bits: Tensor) -> Tensor:
        """Float images ``(n, c, h, w)`` in [0, 1] and bits ``(n, b)``, 0 or 1 -> encoded images like ``x``."""
        secret = F.relu(self.secret(bits - 0.5)).view(-1, *self.map_shape)
        both = torch.cat([x - 0.5, F.interpolate(secret, size=x.shape[-2:])], 1)
        levels = [self.first(both)]
        for down in self.down:
            levels.append(down(levels[-1]))
        now = levels.pop()
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            same_size = levels.pop()
            now = merge(torch.cat([same_size, up(F.interpolate(now, size=same_size.shape[-2:]))], 1))
        residual = self.residual(torch.cat([now, both], 1))
        return (x + self.bound * torch.tanh(residual)).clamp(0, 1)


class Decoder(nn.Module):
    """Encoded images ``(n, c, h, w)`` in [0, 1] -> logits of the bits ``(n, b)``."""

    def __init__(self, shape: tuple[int, int, int], bits: int, filters: int, halvings: int) -> None:
        super().__init__()
        c, h, w = shape
        sizes = [c, *widths(filters, halvings)[1:]]
        layers: list[nn.Module] = []
        for a, b in zip(sizes, sizes[1:], strict=False):
            layers += [convolution(a, b, 2), convolution(b, b)]
            h = (h + 1) // 2
            w = (w + 1) // 2
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(sizes[-1] * h * w, 16 * filters), nn.ReLU(), nn.Linear(16 * filters, bits)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = self.convolutions(x - 0.5).flatten(1)
        logits: Tensor = self.head(features)
        return logits


def encode(encoder: Encoder, x: Tensor, bits: Tensor) -> Tensor:
    """uint8 images ``(n, c, h, w)`` -> the same with ``bits`` ``(b,)`` in each, rounded once."""
    with torch.inference_mode():
        parts = [encoder(as_floats(part), bits.expand(len(part), -1)) for part in x.split(EVALUATION_BATCH)]
    return (torch.cat(parts) * 255).round().to(torch.uint8).contiguous().clone()


def bit_accuracy(decoder: Decoder, x: Tensor, bits: Tensor) -> float:
    """Share of ``bits`` ``(b,)`` that the decoder reads rightly from uint8 images."""
    with torch.inference_mode():
        read = torch.cat([decoder(as_floats(part)) > 0 for part in x.split(EVALUATION_BATCH)])
    return (read == bits.bool()).float().mean().item()
