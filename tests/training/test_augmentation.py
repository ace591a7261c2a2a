"""Random crops and mirroring: which images can come out, how often, and alternating flips."""

from typing import Any

import pytest
import torch
from core_helpers import noise_images
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context, derive
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.augmentation import Views, augment, padded_images


def test_no_padding_and_no_flip_is_the_identity() -> None:
    x = noise_images().x

    assert torch.equal(augment(x, 0, False, derive(0)), x)


def test_augmentation_leaves_its_input_alone() -> None:
    x = noise_images().x
    before = x.clone()

    augment(x, 2, True, derive(0))

    assert torch.equal(x, before)


def shifts(image: Tensor, padding: int) -> list[Tensor]:
    h, w = image.shape[-2:]
    padded = F.pad(image, (padding,) * 4)
    places = range(2 * padding + 1)
    return [padded[:, i : i + h, j : j + w] for i in places for j in places]


def test_every_crop_is_a_shift_of_its_image() -> None:
    x = noise_images(30, (3, 8, 6)).x
    for image, crop in zip(x, augment(x, 2, False, derive(0)), strict=True):
        assert any(torch.equal(crop, shift) for shift in shifts(image, 2))


def test_all_shifts_occur_about_equally_often() -> None:
    image = noise_images(1).x
    crops = augment(image.expand(9000, -1, -1, -1), 1, False, derive(0))
    counts = [int((crops == shift).flatten(1).all(1).sum()) for shift in shifts(image[0], 1)]

    assert sum(counts) == 9000 and min(counts) > 850 and max(counts) < 1150


def test_a_flip_mirrors_left_to_right_half_of_the_time() -> None:
    x = noise_images(400, (2, 5, 7)).x
    out = augment(x, 0, True, derive(0))
    same, mirrored = (out == x).flatten(1).all(1), (out == x.flip(-1)).flatten(1).all(1)

    assert bool((same ^ mirrored).all())
    assert 0.4 < mirrored.float().mean() < 0.6


def test_crop_and_flip_together_give_mirrored_shifts() -> None:
    x = noise_images(30).x
    for image, crop in zip(x, augment(x, 1, True, derive(0)), strict=True):
        assert any(torch.equal(crop, s) for s in [*shifts(image, 1), *shifts(image.flip(-1), 1)])


@pytest.mark.parametrize("padding", [1, 2, 4])
def test_a_reflected_margin_is_that_of_torch(padding: int) -> None:
    x = noise_images(4, (3, 8, 6)).x

    expected = F.pad(x.float(), (padding,) * 4, mode="reflect").to(torch.uint8)

    assert torch.equal(padded_images(x, padding, "reflect"), expected)
    assert torch.equal(padded_images(x, padding, "zeros"), F.pad(x, (padding,) * 4))


def views(**recipe: Any) -> Views:
    config = TrainingConfig(**{"crop_padding": 0, "alternate_flip": True} | recipe)
    return Views(config, 100, derive(0, "augmentation"), Context())


def test_alternating_flips_show_each_image_both_ways_in_two_epochs() -> None:
    x = noise_images(100, (3, 8, 6)).x
    rows = torch.randperm(100, generator=derive(1, "rows"))
    look = views()
    first, second, third = (look.at(x[rows], rows, epoch) for epoch in (1, 2, 3))
    mirrored = (first != x[rows]).flatten(1).any(1)

    assert torch.equal(first.flip(-1), second) and torch.equal(first, third)
    assert 30 < int(mirrored.sum()) < 70


def test_without_flips_nothing_alternates() -> None:
    x = noise_images(10, (3, 8, 6)).x

    assert torch.equal(views(flip=False).at(x, torch.arange(10), 1), x)
