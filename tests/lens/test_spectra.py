"""Spectra of waves whose frequency is known, and of the images of a run."""

import math

import pytest
import torch
from torch import Tensor

from poisonlab.lens.spectra import amplitudes, frequencies, gray, mean_spectrum, spectra
from poisonlab.pipeline.reopen import Opened


def wave(across: int, down: int, size: int = 32, channels: int = 1) -> Tensor:
    """An image with a whole number of waves in both directions, around middle gray."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    phase = 2 * math.pi * (across * columns + down * rows) / size
    return (128 + 100 * phase.cos()).round().to(torch.uint8).expand(1, channels, size, size)


@pytest.mark.parametrize(("across", "down"), [(3, 0), (0, 5), (4, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_wave_is_two_spots_at_its_frequency(across: int, down: int, channels: int) -> None:
    found = amplitudes(wave(across, down, channels=channels))[0]

    found[16, 16] = 0  # the mean brightness
    names = frequencies(32)
    spots = {(names[int(i) % 32], names[int(i) // 32]) for i in found.flatten().topk(2).indices}
    assert spots == {(across, down), (-across, -down)}
    assert float(found.max()) == pytest.approx(100 / 255 / 2 * 32 * 32, rel=0.01)


def test_the_middle_is_the_sum_of_the_pixels() -> None:
    x = wave(3, 2)

    assert float(amplitudes(x)[0, 16, 16]) == pytest.approx(float(gray(x).sum()), rel=1e-4)


def test_a_black_image_has_a_spectrum() -> None:
    assert bool(mean_spectrum(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).isfinite().all())


def test_a_mean_lies_between_its_images() -> None:
    both = torch.cat([wave(3, 0), wave(3, 0) // 2])
    mean = 10 ** mean_spectrum(both)[16, 19]
    single = [10 ** mean_spectrum(image[None])[16, 19] for image in both]

    assert float(mean) == pytest.approx(float(sum(single)) / 2, rel=1e-3)


def test_rows_are_the_same_images_before_after_and_purified(purified: Opened) -> None:
    found = spectra(purified)

    assert list(found.images) == ["clean", "poisoned", "purified"]
    index = purified.attacked.poison.index[0]
    assert torch.equal(found.images["clean"], purified.attacked.splits.train.x[index])
    assert torch.equal(found.images["purified"], purified.defended.sets[0].x[index])
    assert found.averaged == len(index)


def test_what_is_not_there_is_left_out(repaired: Opened, unattacked: Opened) -> None:
    assert list(spectra(repaired).mean) == ["clean", "poisoned"]
    assert list(spectra(unattacked).mean) == ["clean"]
