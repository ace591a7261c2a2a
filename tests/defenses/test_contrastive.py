"""Views of images, and the loss between them."""

import math

import pytest
import torch
from core_helpers import network, noise_images, state_of

from poisonlab.context import Context
from poisonlab.defenses.shared import contrastive
from poisonlab.defenses.shared.contrastive import Draws, blurred, cropped, nt_xent, turned_hue, view
from poisonlab.spec.config import TrainingConfig


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_loss_is_that_of_two_images_by_hand() -> None:
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])  # both views of each image alike

    loss = nt_xent(z, temperature=0.5)

    # of the three others, the other view has cosine 1, the two of the other image 0
    assert loss.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 2)), rel=1e-6)
    assert nt_xent(z[[0, 1, 3, 2]], 0.5) > loss


@pytest.mark.parametrize("channels", [1, 3])
def test_views_differ_stay_in_bounds_and_depend_on_the_seed_alone(channels: int) -> None:
    x = torch.rand(64, channels, 16, 16, generator=generator())

    one, other = view(x, True, generator(1)), view(x, True, generator(2))

    assert one.shape == x.shape and 0 <= float(one.min()) <= float(one.max()) <= 1
    assert torch.equal(one, view(x, True, generator(1))) and not torch.equal(one, other)


def test_a_crop_is_a_part_of_its_image_and_mirrored_only_where_it_may_be() -> None:
    ramp = torch.linspace(0, 1, 16).view(1, 1, 1, 16).expand(200, 1, 16, 16)

    plain = cropped(ramp, False, Draws(200, generator()))
    flipped = cropped(ramp, True, Draws(200, generator()))

    rises = plain[:, 0, 8, 12] - plain[:, 0, 8, 3]
    assert (rises > 0).all()
    widths = (rises * 15 / 9 / 1).clamp(max=1)  # of the image, that the crop shows
    assert 0.35 < widths.min() < 0.5 and widths.max() > 0.9
    mirrored = (flipped[:, 0, 8, 12] < flipped[:, 0, 8, 3]).float().mean()
    assert 0.4 < mirrored < 0.6


def test_a_third_of_a_turn_makes_other_colors_as_bright_and_none_changes_nothing() -> None:
    x = 0.4 + 0.2 * torch.rand(8, 3, 4, 4, generator=generator())

    still = turned_hue(x, torch.zeros(8, 1, 1, 1))
    turned = turned_hue(x, torch.full((8, 1, 1, 1), 1 / 3))

    assert torch.allclose(still, x, atol=1e-5)
    assert torch.allclose(contrastive.brightness(turned), contrastive.brightness(x), atol=1e-3)
    assert (turned - x).abs().max() > 0.05
    again = turned_hue(turned_hue(turned, torch.full((8, 1, 1, 1), 1 / 3)), torch.full((8, 1, 1, 1), 1 / 3))
    assert torch.allclose(again, x, atol=1e-2)  # three thirds are a whole turn


def test_a_blur_is_a_gaussian_and_keeps_what_is_even() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1

    found = blurred(x, torch.ones(1, 1, 1, 1))[0, 0]

    side = math.exp(-0.5)
    line = torch.tensor([side, 1, side]) / (1 + 2 * side)
    assert torch.allclose(found[1:4, 1:4], line[:, None] * line[None], atol=1e-6)
    assert torch.allclose(blurred(torch.full((1, 1, 5, 5), 0.3), torch.ones(1, 1, 1, 1)), torch.tensor(0.3))


def test_features_are_learned_and_the_head_is_left_alone() -> None:
    data = noise_images(24)
    own = network(data)
    before = state_of(own)
    recipe = TrainingConfig(epochs=2, batch_size=12, lr=0.1, crop_padding=0, flip=False)

    contrastive.learn_features(own, data, recipe, 0.5, True, Context())

    after = state_of(own)
    assert torch.equal(after["head.weight"], before["head.weight"])
    changed = [name for name in before if not torch.equal(after[name], before[name])]
    assert any(name.startswith("body") for name in changed)
