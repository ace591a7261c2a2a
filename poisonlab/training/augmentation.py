"""Random crops and mirroring of batches, on the device."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.spec.config import FineTuneConfig, HeadConfig, TrainingConfig

Fill = Literal["zeros", "reflect"]


def augment(
    x: Tensor,
    padding: int,
    flip: bool,
    generator: torch.Generator,
    fill: Fill = "zeros",
    mirrored: Tensor | None = None,
) -> Tensor:
    """Random crop after padding, and mirroring, drawn for each image on its own.

    Args:
        x: uint8 ``(n, c, h, w)``; not modified.
        fill: what the padding holds.
        mirrored: bool ``(n,)``, which images are mirrored; drawn where it is not given.
    """
    n, c, h, w = x.shape
    if not padding and not flip:
        return x
    dy = torch.randint(2 * padding + 1, (n, 1), generator=generator, device=x.device)
    dx = torch.randint(2 * padding + 1, (n, 1), generator=generator, device=x.device)
    rows = torch.arange(h, device=x.device) + dy  # (n, h)
    columns = torch.arange(w, device=x.device).expand(n, w)
    if flip and mirrored is None:
        mirrored = torch.rand(n, generator=generator, device=x.device) < 0.5
    if flip and mirrored is not None:
        columns = torch.where(mirrored[:, None], w - 1 - columns, columns)
    columns = columns + dx  # (n, w)
    padded = padded_images(x, padding, fill).flatten(2)  # (n, c, (h + 2p) (w + 2p))
    place = rows[:, :, None] * (w + 2 * padding) + columns[:, None, :]  # (n, h, w), positions in it
    return padded.gather(2, place.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)


def padded_images(x: Tensor, padding: int, fill: Fill) -> Tensor:
    """uint8 images with a margin of ``padding`` pixels, black or mirrored at the edge."""
    if fill == "zeros":
        return F.pad(x, (padding,) * 4)
    h, w = x.shape[-2:]
    rows = reflected(h, padding, x.device)
    columns = reflected(w, padding, x.device)
    return x[:, :, rows][:, :, :, columns]


def reflected(side: int, padding: int, device: torch.device) -> Tensor:
    """Positions along a side of ``side`` pixels and its margins, mirrored at the pixels of the edge."""
    places = torch.arange(-padding, side + padding, device=device).abs()
    return (side - 1) - ((side - 1) - places).abs()


class Views:
    """How a training sees an image: cropped and mirrored, each time it is drawn."""

    def __init__(
        self,
        config: TrainingConfig | FineTuneConfig | HeadConfig,
        images: int,
        draws: torch.Generator,
        ctx: Context,
    ) -> None:
        self.config = config
        self.draws = draws
        self.mirrored_first: Tensor | None = None
        if isinstance(config, TrainingConfig) and config.flip and config.alternate_flip:
            coin = ctx.generator("mirrored first")
            self.mirrored_first = torch.rand(images, generator=coin, device=ctx.device) < 0.5

    def at(self, x: Tensor, index: Tensor, epoch: int) -> Tensor:
        """A batch of uint8 images, whose rows are ``index``, in epoch ``epoch``, from 1 on."""
        config = self.config
        if isinstance(config, HeadConfig):
            return x
        if not isinstance(config, TrainingConfig):
            return augment(x, config.crop_padding, config.flip, self.draws)
        mirrored = None
        if self.mirrored_first is not None:
            mirrored = self.mirrored_first[index] ^ (epoch % 2 == 0)
        return augment(x, config.crop_padding, config.flip, self.draws, config.crop_fill, mirrored)
