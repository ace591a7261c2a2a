"""What is special about Beatrix: Gram matrices of powers, the usual range, and two kinds of images in a class."""

import math

import pytest
import torch
from core_helpers import clean_model, digits, listening, small
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.beatrix import (
    Beatrix,
    Ranges,
    deviation,
    gram_entries,
    two_samples,
    usual_range,
)
from poisonlab.models.base import predict


def maps(n: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, 4, 3, 2, generator=torch.Generator().manual_seed(seed))


def test_gram_entries_are_those_of_two_channels_by_hand() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).view(1, 2, 1, 2)

    found = gram_entries(features, 3)[0]

    # entries (1, 1), (1, 2), (2, 2): plain, of squares under a root, of cubes under a third root
    assert found[0].tolist() == pytest.approx([5, 1, 10])
    assert found[1].tolist() == pytest.approx([math.sqrt(17), math.sqrt(13), math.sqrt(82)], rel=1e-5)
    assert found[2].tolist() == pytest.approx([65 ** (1 / 3), 19 ** (1 / 3), 730 ** (1 / 3)], rel=1e-5)


def test_a_negative_product_keeps_its_sign_under_the_root() -> None:
    features = torch.tensor([[1.0, 0.0], [-2.0, 0.0]]).view(1, 2, 1, 2)

    assert gram_entries(features, 3)[0, 2].tolist() == pytest.approx([1, -2, 4], rel=1e-5)


@pytest.mark.parametrize("scale", [2.0, 1e-3, 1e6])
def test_features_of_another_scale_deviate_as_much(scale: float) -> None:
    def deviations(factor: float) -> Tensor:
        trusted = gram_entries(factor * maps(12), 8)
        return deviation(gram_entries(factor * 3 * maps(5, seed=1), 8), *usual_range(trusted, 1.0))

    expected = deviations(1.0)

    assert (expected > 0).all()
    assert torch.allclose(deviations(scale), expected, rtol=1e-3)


def test_the_deviation_is_relative_to_the_end_that_was_left() -> None:
    low = torch.tensor([[1.0, -4.0]])
    high = torch.tensor([[2.0, 4.0]])
    entries = torch.tensor([[[0.5, 0.0]], [[5.0, -6.0]], [[1.5, 3.0]]])

    assert deviation(entries, low, high).tolist() == pytest.approx([0.5 / 2, (1.5 + 0.5) / 2, 0])


def test_the_usual_range_is_median_and_absolute_deviation() -> None:
    entries = torch.tensor([1.0, 2.0, 3.0, 4.0, 100.0]).view(5, 1, 1)

    low, high = usual_range(entries, 10)

    assert (low.item(), high.item()) == (3 - 10, 3 + 10)


def test_two_kinds_differ_and_two_halves_of_one_kind_hardly_do() -> None:
    draws = torch.Generator().manual_seed(0)
    one = torch.randn(60, 5, generator=draws)
    alike = torch.randn(40, 5, generator=draws)

    assert two_samples(one, alike + 3) > 10 * two_samples(one, alike) > 0
    assert two_samples(one, alike + 3) == pytest.approx(two_samples(alike + 3, one))
    assert two_samples(torch.ones(3, 2), torch.ones(4, 2)) == 0


def test_an_image_is_judged_by_itself_and_by_the_class_that_is_said() -> None:
    model = clean_model()
    clean = digits().train
    method = small(Beatrix)
    x = digits().test.x[:30]

    together = method.screen(model, clean, x, Context(seed=1))
    alone = torch.cat([method.screen(model, clean, one[None], Context(seed=1)) for one in x[:6]])

    assert together.unique().numel() > 5
    assert torch.allclose(together[:6], alone, rtol=1e-4, atol=1e-6)
    ranges = Ranges(model, clean, method.config, Context(seed=1))
    label = int(predict(model, x[:1]))
    assert torch.allclose(ranges.excess(x[:1], label), together[:1], rtol=1e-4, atol=1e-6)


def test_classes_with_too_few_trusted_images_are_named_and_suspect_nothing() -> None:
    ctx, heard = listening(seed=1)
    clean = digits().train
    few = clean[torch.cat([(clean.y != 3).nonzero().squeeze(1), (clean.y == 3).nonzero().squeeze(1)[:2]])]

    ranges = Ranges(clean_model(), few, small(Beatrix).config, ctx)

    assert 3 not in ranges.limits
    unknown = ranges.excess(digits().test.x[:5], 3)
    assert unknown.unique().tolist() == pytest.approx([-max(t for _, _, t in ranges.limits.values())])
    assert any(
        "fewer than 5 trusted images" in str(event) and few.classes[3] in str(event) for event in heard
    )


def test_at_the_threshold_one_trusted_image_in_twenty_is_suspected() -> None:
    """By hold-out: the range that an image is judged by was set without it."""
    clean = digits().train
    config = small(Beatrix, per_class=20).config
    ranges = Ranges(clean_model(), clean, config, Context(seed=1))

    shares = [(ranges.excess(clean.x[clean.y == c], c) > 0).float().mean().item() for c in ranges.limits]

    assert sum(shares) / len(shares) <= 0.2
