"""JPEG compression: the cheapest purification there is."""

from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.measure.metrics import psnr
from poisonlab.registry import Card, defense
from poisonlab.spec.config import Config, param
from poisonlab.spec.papers import PUREGEN
from poisonlab.types import ImageSet

CHUNK = 1024  # images between two reports of progress
SHOWN = 512  # images whose PSNR is reported


class JPEGConfig(Config):
    quality: int = param(
        75,
        "Quality on libjpeg's scale, lower is coarser: 25, 50, 75 and 85 are published",
        quick=50,
        ge=1,
        le=100,
        source="PureGen, appendix E.1; the better one of the four in each scenario",
    )


def compress(x: Tensor, quality: int) -> Tensor:
    """Encode and decode each image, colors at half resolution (4:2:0, Pillow's default).

    Pillow does it: torchvision's codec is deprecated, and no codec takes a batch.

    Args:
        x: uint8 ``(n, c, h, w)``, gray or RGB; not modified.

    Raises:
        ValueError: images that JPEG has no colors for.
    """
    if x.shape[1] not in (1, 3):
        raise ValueError(f"JPEG takes gray or RGB images; these have {x.shape[1]} channels")
    images = x.permute(0, 2, 3, 1).cpu().numpy()  # (n, h, w, c)
    if x.shape[1] == 1:
        images = images[..., 0]
    decoded = np.stack([_through_jpeg(image, quality) for image in images])
    out = torch.from_numpy(decoded).to(x.device)
    return out[:, None] if x.shape[1] == 1 else out.permute(0, 3, 1, 2).contiguous()


def _through_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file))


@defense("jpeg")
class JPEG(Defense):
    """The baseline of Bhat et al., NeurIPS 2024, arXiv:2405.18627, section 4: every training image, poisoned or not,
    is stored as JPEG once; test images are not touched."""

    Config = JPEGConfig
    strength = ("quality",)
    card = Card(
        title="JPEG compression",
        references=(PUREGEN.cited(detail="appendix E.1"),),
        summary="Store every training image as a JPEG file and read it back. The codec throws away what the eye does "
        "not see, and a small perturbation is just that. It costs nothing: every other purification has to beat it.",
        threat_model="Defender acts before training and holds no other data. Test images are never compressed.",
        deviations=(
            "The preset quick takes quality 50: its images have a quarter of the pixels, so that the 8x8 blocks of the "
            "codec cover more of the picture.",
        ),
    )

    def purify(self, data: ImageSet, ctx: Context) -> ImageSet:
        chunks = data.x.split(CHUNK)
        purified = torch.cat([compress(part, self.config.quality) for part in ctx.track(chunks, len(chunks))])
        ctx.metric(
            "psnr_purified",
            self.config.quality,
            psnr(purified[:SHOWN], data.x[:SHOWN]).clamp_max(99).mean().item(),
        )
        return ImageSet(purified, data.y, data.classes, data.split)
