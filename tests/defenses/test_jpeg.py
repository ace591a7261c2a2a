"""JPEG as a purification: the codec is PIL's, coarser means farther, gray stays gray."""

import io

import numpy as np
import pytest
import torch
from core_helpers import derive, digits, listening
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from poisonlab.defenses.jpeg import JPEG, JPEGConfig, compress
from poisonlab.events import Metric


def smooth(channels: int, size: int = 32, n: int = 6) -> Tensor:
    """Colored blobs with some noise, uint8 ``(n, channels, size, size)``."""
    draws = derive(0, "blobs")
    blobs = F.interpolate(torch.rand(n, channels, 4, 4, generator=draws), size=size, mode="bicubic")
    return (blobs + 0.05 * torch.randn(blobs.shape, generator=draws)).clamp(0, 1).mul(255).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 17, 32])
def test_it_is_what_pillow_does_to_each_image_by_default(channels: int, size: int) -> None:
    x = smooth(channels, size)

    for image, ours in zip(x, compress(x, 40), strict=True):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()).save(file, "JPEG", quality=40)
        theirs = torch.from_numpy(np.atleast_3d(np.array(Image.open(file)))).permute(2, 0, 1)
        assert torch.equal(ours, theirs)


def test_colors_lose_detail_that_brightness_keeps() -> None:
    gray = torch.full((1, 3, 16, 16), 128, dtype=torch.uint8)
    bright, red = gray.clone(), gray.clone()
    bright[..., ::2] += 40
    red[:, 0, :, ::2] += 40
    red[:, 1, :, ::2] -= 20  # about equally bright

    def kept(x: Tensor) -> float:
        stripes = compress(x, 90).float()
        return float((stripes[:, 0, :, ::2] - stripes[:, 0, :, 1::2]).mean())

    assert kept(bright) > 30 and kept(red) < 10


def test_coarser_quality_is_farther_from_the_image() -> None:
    x = smooth(3)
    errors = [float((compress(x, q).float() - x.float()).abs().mean()) for q in (10, 25, 50, 75, 85, 95)]

    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 2


def test_a_faint_chequerboard_is_lost_and_the_picture_stays() -> None:
    x = F.interpolate(smooth(3).float(), scale_factor=2, mode="bilinear").clamp(8, 247).to(torch.uint8)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    pattern = torch.where((rows + columns) % 2 == 0, 4, -4)

    kept = compress((x.int() + pattern).to(torch.uint8), 50).float() - compress(x, 50).float()

    assert float((kept * pattern).mean()) / 16 < 0.25


def test_purification_reports_its_psnr_and_keeps_labels() -> None:
    data = digits().train[:30]
    ctx, heard = listening()

    purified = JPEG(JPEGConfig(quality=50)).purify(data, ctx)

    (reported,) = [e for e in heard if isinstance(e, Metric)]
    assert torch.equal(purified.y, data.y) and purified.shape == data.shape
    assert reported.name == "psnr_purified" and 15 < reported.value < 60


def test_images_without_jpeg_colors_are_refused_by_number() -> None:
    with pytest.raises(ValueError, match="these have 2 channels"):
        compress(torch.zeros(1, 2, 8, 8, dtype=torch.uint8), 50)
