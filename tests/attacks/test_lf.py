"""What is special about LF: the filter, the targeted steps, a smooth pattern in its range."""

import math

import pytest
import torch
from core_helpers import attackers_view, clean_model, digits
from torch.nn import functional as F

from poisonlab.attacks.lf import LFConfig, LowFrequency, deepfool, gaussian, low_pass, universal_pattern
from poisonlab.context import Context, derive
from poisonlab.models.base import Classifier, as_floats


def test_the_filter_keeps_a_constant_away_from_the_edges_and_smooths_noise() -> None:
    noise = torch.rand(3, 16, 16, generator=derive(0, "noise"))

    flat = low_pass(torch.full((2, 30, 40), 0.3), 0.1)

    assert torch.allclose(flat[:, 15, 20], torch.tensor(0.3)) and bool((flat[:, 0, 0] < 0.3 / 2).all())
    assert low_pass(noise, 0.2).diff(dim=2).abs().mean() < 0.1 * noise.diff(dim=2).abs().mean()


def published_taps() -> torch.Tensor:
    """BackdoorBench, ``resource/lowFrequency/gauss_smooth.py`` at sigma 6: ``(30,)``, at the offsets -14 to 15."""
    taps = torch.tensor([math.exp(-(((i - 14.5) / 6) ** 2) / 2) for i in range(30)])
    return taps / taps.sum()


def test_the_filter_at_32_pixels_has_the_thirty_published_taps() -> None:
    matrix = gaussian(32, 0.1875)

    assert torch.allclose(matrix[14, :30], published_taps(), atol=1e-7) and not matrix[14, 30:].any()
    assert torch.allclose(matrix[31, 17:], published_taps()[:15], atol=1e-7) and not matrix[31, :17].any()
    assert matrix[14, 14] == matrix[14, 15] == pytest.approx(0.0670, abs=1e-4)


def test_an_impulse_is_spread_as_by_the_published_convolution() -> None:
    impulse = torch.zeros(1, 1, 32, 32)
    impulse[0, 0, 10, 20] = 1
    taps = published_taps()
    padded = F.pad(impulse, (14, 15, 14, 15))

    expected = F.conv2d(F.conv2d(padded, taps.view(1, 1, 30, 1)), taps.view(1, 1, 1, 30))
    assert torch.allclose(low_pass(impulse, 0.1875), expected, atol=1e-8)


def test_an_odd_number_of_taps_is_symmetric() -> None:
    matrix = gaussian(16, 0.1875)  # fifteen, as in the preset quick

    assert torch.equal(matrix, matrix.T) and int((matrix[7] > 0).sum()) == 15


def test_a_deepfool_step_on_a_linear_model_ends_just_across_the_boundary() -> None:
    model = Classifier(torch.nn.Flatten(), 2, 2, torch.zeros(1), torch.ones(1)).requires_grad_(False)
    model.head.weight.data, model.head.bias.data = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.zeros(2)
    x = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)  # 3 behind; w = (-3, 4), |w|^2 = 25

    moved = deepfool(model, x, target=1, steps=5, overshoot=0.02)

    assert torch.allclose(moved.flatten(), 1.02 * 3 / 25 * torch.tensor([-3.0, 4.0]))


def test_deepfool_brings_every_image_into_the_target_class() -> None:
    x = as_floats(digits().train.x[:20])
    moved = deepfool(clean_model(), x, target=2, steps=50, overshoot=0.02)

    assert bool((clean_model()(x + moved).argmax(1) == 2).all())


def test_the_pattern_is_smooth_and_fills_its_range() -> None:
    pattern = LowFrequency(LFConfig(passes=2)).learn(attackers_view(), Context())["pattern"].float()

    assert (float(pattern.min()), float(pattern.max())) == (0, 51)
    assert pattern.diff(dim=1).abs().max() < 20 and pattern.diff(dim=2).abs().max() < 20


def test_later_images_start_from_the_pattern_so_far() -> None:
    x = as_floats(digits().train.x[:6])
    config = LFConfig(passes=1, target_class=2)
    images = [x, x.flip(0)]

    assert not torch.allclose(*(universal_pattern(clean_model(), part, config, Context()) for part in images))


def test_too_few_images_are_an_error() -> None:
    with pytest.raises(ValueError, match="images=500 asks for more than the 180 images of other classes"):
        LowFrequency(LFConfig(images=500)).learn(attackers_view(), Context())
