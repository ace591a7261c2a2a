"""What is special about Blend: the mixture, and one pattern for all images."""

from typing import Any

import pytest
import torch
from core_helpers import attackers_view, noise_images

from poisonlab.attacks.blend import Blend, BlendConfig, blend, drawing
from poisonlab.context import Context
from poisonlab.types import Poison


def poison(seed: int = 0, **params: Any) -> Poison:
    return Blend(BlendConfig(**params)).poison(attackers_view(), Context(seed=seed))


def test_a_blend_is_the_weighted_mean_of_image_and_pattern() -> None:
    x = torch.tensor([0, 100, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    pattern = torch.tensor([255, 51, 255], dtype=torch.uint8).view(1, 1, 3)

    assert blend(x, pattern, 0.2).flatten().tolist() == [51, 90, 255]


def test_values_are_rounded_where_backdoorbench_cuts_off_their_fraction() -> None:
    x, pattern = noise_images(20, (3, 32, 32)).x, noise_images(1, (3, 32, 32), seed=1).x[0]
    lower = blend(x, pattern, 0.2).int() - (0.8 * x.double() + 0.2 * pattern).to(torch.uint8).int()

    assert lower.unique().tolist() == [0, 1]
    assert lower.double().mean().item() == pytest.approx(0.42, abs=0.03)  # as the card says


@pytest.mark.parametrize("pattern", ["noise", "image"])
def test_training_and_test_time_share_one_pattern(pattern: str) -> None:
    made = poison(pattern=pattern)
    trigger = Blend(BlendConfig(pattern=pattern)).threat(made, 10).trigger

    assert torch.equal(made.images[0], trigger(attackers_view().train.x[made.index[0]]))


def test_noise_is_uniform_and_depends_on_the_seed() -> None:
    noise = poison().state["pattern"].float() / 255

    assert abs(noise.mean().item() - 0.5) < 0.1 and abs(noise.std().item() - 12**-0.5) < 0.05
    assert not torch.equal(poison(1).state["pattern"], poison().state["pattern"])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (3, 32, 24)], ids=str)
def test_the_drawing_fits_any_shape_and_has_contrast(shape: tuple[int, int, int]) -> None:
    picture = drawing(shape)

    assert picture.shape == shape and picture.dtype == torch.uint8
    assert int(picture.max()) - int(picture.min()) > 100
