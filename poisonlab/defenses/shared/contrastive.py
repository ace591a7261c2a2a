"""Features learned without labels, by SimCLR (T. Chen, S. Kornblith, M. Norouzi, G. Hinton, ICML 2020).

arXiv:2002.05709. Two views of an image, cropped, recolored and blurred, shall lie closer to each other than to the
views of others.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.data.shared.luma import LUMA, brightness
from poisonlab.models.base import Classifier, initialize
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import TrainingHook, train_network
from poisonlab.types import ImageSet

SMALLEST = 0.2  # share of an image's area that a crop keeps, at least
ASPECTS = (3 / 4, 4 / 3)  # width to height of a crop
JITTER = 0.4  # brightness, contrast and saturation change by up to this factor
HUE = 0.1  # of a turn around the circle of colors, at most
JITTERED = 0.8  # chances of a view
GRAY = 0.2
BLURRED = 0.5
SIGMA = (0.1, 2.0)  # of the blur, in pixels
PROJECTED = 128  # dimensions in which views are compared
# red, green, blue -> brightness and two coordinates of color (YIQ), in which a hue is turned
YIQ = (LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


class Draws:
    """Numbers drawn for each image of a batch, float ``(n, 1, 1, 1)``."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self.n = n
        self.generator = generator

    def between(self, low: float, high: float) -> Tensor:
        """Uniform ones."""
        drawn = torch.rand(self.n, 1, 1, 1, generator=self.generator, device=self.generator.device)
        return low + (high - low) * drawn

    def happens(self, chance: float) -> Tensor:
        """True with a chance."""
        return self.between(0, 1) < chance


def view(x: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """A random view of each image.

    Args:
        x: float ``(n, c, h, w)`` in [0, 1]; with one channel nothing is recolored but brightness and contrast.
        flip: whether views may be mirrored.
    """
    draws = Draws(len(x), generator)
    x = cropped(x, flip, draws)
    x = torch.where(draws.happens(JITTERED), jittered(x, draws), x)
    if x.shape[1] == 3:
        x = torch.where(draws.happens(GRAY), brightness(x).expand_as(x), x)
    return torch.where(draws.happens(BLURRED), blurred(x, draws.between(*SIGMA)), x)


def cropped(x: Tensor, flip: bool, draws: Draws) -> Tensor:
    """A part of each image, 20 to 100 % of its area, stretched to the whole."""
    area = draws.between(SMALLEST, 1)
    aspect = draws.between(math.log(ASPECTS[0]), math.log(ASPECTS[1])).exp()
    width = (area * aspect).sqrt().clamp(max=1)
    height = (area / aspect).sqrt().clamp(max=1)
    right = draws.between(-1, 1) * (1 - width)
    down = draws.between(-1, 1) * (1 - height)
    if flip:
        width = torch.where(draws.happens(0.5), -width, width)
    zero = torch.zeros_like(width)
    rows = torch.stack([torch.stack([width, zero, right], 1), torch.stack([zero, height, down], 1)], 1)
    grid = F.affine_grid(rows.view(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def jittered(x: Tensor, draws: Draws) -> Tensor:
    """Other brightness, contrast, saturation and hue, in this order."""
    x = (x * draws.between(1 - JITTER, 1 + JITTER)).clamp(0, 1)
    middle = brightness(x).mean((2, 3), keepdim=True)
    x = middle.lerp(x, draws.between(1 - JITTER, 1 + JITTER)).clamp(0, 1)
    if x.shape[1] != 3:
        return x
    x = brightness(x).lerp(x, draws.between(1 - JITTER, 1 + JITTER)).clamp(0, 1)
    return turned_hue(x, draws.between(-HUE, HUE))


def turned_hue(x: Tensor, turns: Tensor) -> Tensor:
    """All colors of each image moved around the circle of colors, as bright as before where that can be shown."""
    to_yiq = x.new_tensor(YIQ)
    angle = 2 * math.pi * turns.flatten()
    turn = torch.zeros(len(x), 3, 3, device=x.device, dtype=x.dtype)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = angle.cos()
    turn[:, 1, 2] = -angle.sin()
    turn[:, 2, 1] = angle.sin()
    turn[:, 2, 2] = angle.cos()
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return torch.einsum("nij,njhw->nihw", matrix, x).clamp(0, 1)


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """By a Gaussian over three pixels each way, of which a tenth of a small image's side has no more."""
    side = (-0.5 / sigma.square()).exp()
    for dim in (2, 3):
        padded = F.pad(x, (1, 1, 0, 0) if dim == 3 else (0, 0, 1, 1), mode="replicate")
        length = x.shape[dim]
        ends = padded.narrow(dim, 0, length) + padded.narrow(dim, 2, length)
        x = (x + side * ends) / (1 + 2 * side)
    return x


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    """Mean over the 2n views of  -log( exp(s_ij / T) / sum over k != i of exp(s_ik / T) ),  j the other view of i,
    s the cosine.

    Args:
        z: float ``(2 n, d)``: first views of n images, then their second ones.
    """
    z = F.normalize(z.float(), dim=1)
    similar = z @ z.T / temperature
    similar = similar.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -math.inf)
    other = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(similar, other)


class TwoViews(TrainingHook):
    """Shows two views of each image, and compares their projections; labels are not looked at."""

    def __init__(self, temperature: float, flip: bool, draws: torch.Generator) -> None:
        self.temperature = temperature
        self.flip = flip
        self.draws = draws

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([view(x, self.flip, self.draws), view(x, self.flip, self.draws)]), y

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        return nt_xent(logits, self.temperature)


class _Projected(nn.Module):
    """What views are compared by: two layers on top of the features, which are forgotten afterwards."""

    def __init__(self, network: Classifier, draws: torch.Generator) -> None:
        super().__init__()
        self.network = network
        width = network.head.in_features
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTED))
        initialize(self.projection.to(draws.device), draws)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.network.features(x))
        return projected


def learn_features(
    network: Classifier, data: ImageSet, recipe: TrainingConfig, temperature: float, flip: bool, ctx: Context
) -> None:
    """Train all of ``network`` but its head in place, by the images alone.

    Args:
        recipe: without crops and flips, which are the views' own.
    """
    hook = TwoViews(temperature, flip, ctx.generator("contrastive", "views"))
    train_network(_Projected(network, ctx.generator("contrastive", "projection")), data, recipe, ctx, hook)
