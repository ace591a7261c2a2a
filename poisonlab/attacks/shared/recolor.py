"""Offsets within a bound and smooth shifts of colors: what MetaPoison may do to an image (ReColorAdv's space)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.data.shared.luma import LUMA

# Y in [0, 1]; U and V of every RGB color lie in [-CHROMA, CHROMA]
YUV = torch.tensor(
    [LUMA, [-0.14714119, -0.28886916, 0.43601035], [0.61497538, -0.51496512, -0.10001026]],
    dtype=torch.float64,
)
CHROMA = 0.62


def recolor(x: Tensor, grids: Tensor) -> Tensor:
    """Shift each color by its image's grid, trilinear between nodes; a grid of zeros changes nothing.

    Args:
        x: float ``(n, 3, h, w)`` in [0, 1].
        grids: shifts of (Y, U, V) at ``(n, 3, r, r, r)`` nodes, axes Y, U, V.

    Returns:
        Like ``x``, clipped to [0, 1].
    """
    to_yuv = YUV.to(x)
    yuv = torch.einsum("ij,njhw->nihw", to_yuv, x)
    luma = 2 * yuv[:, :1] - 1  # in [-1, 1]
    chroma = yuv[:, 1:] / CHROMA  # in [-1, 1]
    places = torch.cat([luma, chroma], 1).flip(1)  # grid_sample takes the last axis first
    places = places.permute(0, 2, 3, 1)[:, None]  # (n, 1, h, w, 3)
    shift = F.grid_sample(grids, places, align_corners=True, padding_mode="border")[:, :, 0]  # (n, 3, h, w)
    return (x + torch.einsum("ij,njhw->nihw", YUV.inverse().to(x), shift)).clamp(0, 1)


def roughness(grids: Tensor) -> Tensor:
    """Mean squared difference of neighboring nodes along the three axes, times the square of the resolution."""
    squares = [grids.diff(dim=axis).square().mean() for axis in (2, 3, 4)]
    return torch.stack(squares).sum() * grids.shape[-1] ** 2


def node_limits(resolution: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """How far each node may move and stay in the channels' ranges: ``(3, r, r, r)`` below and above 0."""
    ends = torch.tensor([[0, 1], [-CHROMA, CHROMA], [-CHROMA, CHROMA]]).to(like)
    axes = [torch.linspace(0, 1, resolution).to(like) * (high - low) + low for low, high in ends]
    nodes = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return ends[:, 0].view(3, 1, 1, 1) - nodes, ends[:, 1].view(3, 1, 1, 1) - nodes


class Perturbation:
    """x_p = recolor(x; g) + delta in [0, 1], |delta| <= eps, |g| <= color, projected after each step of Adam.

    Args:
        base: float ``(n, c, h, w)`` in [0, 1].
        eps: bound of the offsets, of [0, 1].
        color: bound of the grids' shifts; 0, or a gray image, has no grids.
        resolution: nodes along each axis of a grid.
        smoothness: weight of the grids' roughness.
        rate: Adam's learning rate, in bounds.
    """

    def __init__(
        self,
        base: Tensor,
        eps: float,
        color: float,
        resolution: int,
        smoothness: float,
        rate: float,
        draws: torch.Generator,
    ) -> None:
        self.base = base
        self.eps = eps
        self.color = color
        self.smoothness = smoothness
        noise = 2 * torch.rand(base.shape, generator=draws, device=base.device) - 1
        self.delta = (eps * noise).requires_grad_()
        groups: list[dict[str, Any]] = [{"params": [self.delta], "lr": rate * eps}]
        self.grids: Tensor | None = None
        if color and base.shape[1] == 3:
            self.grids = base.new_zeros(len(base), 3, resolution, resolution, resolution).requires_grad_()
            self.limits = node_limits(resolution, base)
            groups.append({"params": [self.grids], "lr": rate * color})
        self.adam = torch.optim.Adam(groups)
        self.rates = [group["lr"] for group in groups]
        self._project()

    def recolored(self) -> Tensor:
        return self.base if self.grids is None else recolor(self.base, self.grids)

    def images(self) -> Tensor:
        """Float like ``base``; in [0, 1] but for rounding, since the offsets are projected."""
        return self.recolored() + self.delta  # a clip here would cut the gradient of images at their limits

    def step(self, gradient: Tensor, scale: float) -> None:
        """Follow a gradient by the images, with ``scale`` times the learning rate."""
        loss = (self.images() * gradient).sum()
        if self.grids is not None:
            loss = loss + self.smoothness * roughness(self.grids)
        variables = [v for v in (self.delta, self.grids) if v is not None]
        for variable, found in zip(variables, torch.autograd.grad(loss, variables), strict=True):
            variable.grad = found
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = scale * rate
        self.adam.step()
        self._project()

    @torch.no_grad()
    def _project(self) -> None:
        if self.grids is not None:
            low, high = self.limits
            self.grids.clamp_(-self.color, self.color).copy_(self.grids.clamp(low, high))
        colors = self.recolored()
        self.delta.clamp_(-self.eps, self.eps).copy_((colors + self.delta).clamp(0, 1) - colors)
