"""The noise-predicting network of PureGen-DDPM: the released UNet, and a tiny one for laptops.

Residual blocks with GroupNorm and SiLU, to which a sinusoidal embedding of the time step is added; self-attention in
the middle and at chosen levels. At 3 channels and 32 x 32 the presets L, M and S have the released sizes of
113,673,219, 28,447,235 and 7,126,275 parameters.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """What decides a network, its image channels aside.

    Attributes:
        widths: channels of each level; the side halves from one level to the next.
        layers: residual blocks of a level on the way down; one more on the way up.
        attention: levels with self-attention, counted from 0.
        groups: of GroupNorm; they divide every width.
        patch: pixels a side that the first layer takes for one place (not in the paper); 1 for none.
    """

    widths: tuple[int, ...]
    layers: int = 2
    attention: tuple[int, ...] = (4,)
    groups: int = 32
    patch: int = 1


SHAPES = {
    "L": Shape((128, 128, 256, 256, 512, 512)),
    "M": Shape((64, 64, 128, 128, 256, 256)),
    "S": Shape((32, 32, 64, 64, 128, 128)),
    "tiny": Shape((32, 32), layers=1, attention=(), groups=8, patch=2),
}
HEAD = 8  # channels of an attention head


class Residual(nn.Module):
    """norm, SiLU, convolution, plus the time embedding, norm, SiLU, convolution; added to its input."""

    def __init__(self, inputs: int, outputs: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(embedding, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(embedding))[:, :, None, None]
        shortcut: Tensor = self.shortcut(x)
        residual: Tensor = self.conv2(F.silu(self.norm2(h)))
        return shortcut + residual


class Attention(nn.Module):
    """Self-attention over the places of an image, added to its input."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        places = self.norm(x).flatten(2).transpose(1, 2)  # (n, h w, c)
        q, k, v = (
            part(places).view(n, h * w, c // HEAD, HEAD).transpose(1, 2)  # (n, heads, h w, 8)
            for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        update: Tensor = self.out(mixed).transpose(1, 2).view(n, c, h, w)
        return x + update


class Layer(nn.Module):
    """A residual block, followed by attention where the level has it."""

    def __init__(self, inputs: int, outputs: int, embedding: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.residual = Residual(inputs, outputs, embedding, groups)
        self.attention = Attention(outputs, groups) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        out: Tensor = self.attention(self.residual(x, embedding))
        return out


class UNet(nn.Module):
    """Noise predicted in images ``(n, c, h, w)`` at time steps ``(n,)``, shaped like the images.

    The side must be a multiple of ``patch`` times 2 for each level but the first.
    """

    def __init__(self, channels: int, shape: Shape) -> None:
        super().__init__()
        first = shape.widths[0]
        last = shape.widths[-1]
        embedding = 4 * first
        groups = shape.groups
        top = len(shape.widths) - 1
        inner = channels * shape.patch**2
        self.patch = shape.patch
        self.first = first
        self.embed = nn.Sequential(nn.Linear(first, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.begin = nn.Conv2d(inner, first, 3, padding=1)

        def layer(inputs: int, outputs: int, level: int) -> Layer:
            return Layer(inputs, outputs, embedding, groups, level in shape.attention)

        self.down = nn.ModuleList()  # a ModuleList of layers for each level
        self.shrink = nn.ModuleList()
        skips = [first]  # channels of each state that the way up takes in again
        width = first
        for level, outputs in enumerate(shape.widths):
            layers = nn.ModuleList()
            for number in range(shape.layers):
                layers.append(layer(outputs if number else width, outputs, level))
            self.down.append(layers)
            skips += [outputs] * shape.layers
            if level < top:
                self.shrink.append(nn.Conv2d(outputs, outputs, 3, stride=2, padding=1))
                skips.append(outputs)
            width = outputs
        self.middle = nn.ModuleList(Layer(last, last, embedding, groups, attention=i == 0) for i in range(2))
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for level in reversed(range(top + 1)):
            outputs = shape.widths[level]
            layers = nn.ModuleList()
            for _ in range(shape.layers + 1):
                layers.append(layer(width + skips.pop(), outputs, level))
                width = outputs
            self.up.append(layers)
            if level:
                self.grow.append(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.norm = nn.GroupNorm(groups, first)
        self.end = nn.Conv2d(first, inner, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        embedding = self.embed(sinusoidal(t, self.first))
        x = self.begin(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        skips = [x]
        for level, layers in enumerate(self.down):
            assert isinstance(layers, nn.ModuleList)
            for layer in layers:
                x = layer(x, embedding)
                skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
                skips.append(x)
        for layer in self.middle:
            x = layer(x, embedding)
        for level, layers in enumerate(self.up):
            assert isinstance(layers, nn.ModuleList)
            for layer in layers:
                x = layer(torch.cat([x, skips.pop()], 1), embedding)
            if level < len(self.grow):
                x = self.grow[level](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.end(F.silu(self.norm(x)))
        return F.pixel_shuffle(x, self.patch) if self.patch > 1 else x


def sinusoidal(t: Tensor, width: int) -> Tensor:
    """Cosines and sines of ``t`` ``(n,)`` at geometrically falling frequencies from 1, ``(n, width)``."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


def noise_network(shape: str, channels: int, generator: torch.Generator) -> UNet:
    """A network on the generator's device, its convolutions and linear layers drawn as torch does by default."""
    network = UNet(channels, SHAPES[shape]).to(generator.device)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            assert module.bias is not None
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    return network.to(memory_format=torch.channels_last)
