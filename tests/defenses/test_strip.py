"""STRIP: a trigger that nothing disturbs has no entropy; the boundary is a normal fit's; too few images flag none."""

import math

import pytest
import torch
from core_helpers import listening
from scipy import stats
from torch import nn

from poisonlab.context import Context, derive
from poisonlab.defenses.strip import Strip, StripConfig, blended_entropy, boundary
from poisonlab.events import Log
from poisonlab.models.base import Classifier
from poisonlab.types import Detection, ImageSet

CLASSES, TARGET = 4, 2


def planted() -> Classifier:
    """A linear model that reads its class from rows of pixels, and class 2 from one bright corner pixel, too."""
    model = Classifier(nn.Flatten(), 16, CLASSES, torch.zeros(1), torch.ones(1)).eval().requires_grad_(False)
    rows = torch.arange(16).div(4, rounding_mode="floor")
    model.head.weight.copy_(torch.stack([3.0 * (rows == label) for label in range(CLASSES)]))
    model.head.weight[TARGET, 15] = 60.0
    model.head.bias.zero_()
    return model


def striped(n: int = 80, seed: int = 0) -> ImageSet:
    """Noise with one bright row, the class; the corner pixel is dark."""
    x = torch.randint(0, 100, (n, 1, 4, 4), generator=derive(seed, "images"))
    y = torch.arange(n) % CLASSES
    x[torch.arange(n), 0, y] += 100
    x[:, :, 3, 3] = 0
    return ImageSet(x.to(torch.uint8), y, tuple("abcd"))


def triggered(data: ImageSet, count: int) -> ImageSet:
    x, y = data.x.clone(), data.y.clone()
    x[:count, :, 3, 3], y[:count] = 255, TARGET
    return ImageSet(x, y, data.classes)


def judged(suspects: ImageSet, clean: ImageSet, ctx: Context | None = None) -> Detection:
    return Strip(StripConfig(overlays=10)).detect(planted(), clean, suspects, ctx or Context())


def test_a_planted_trigger_is_found_and_its_class_named() -> None:
    found = judged(triggered(striped(seed=1), 20), striped())

    assert found.flagged is not None and found.sample_scores is not None
    assert bool(found.flagged[:20].all()) and float(found.flagged[20:].float().mean()) <= 0.1
    assert float(found.sample_scores[:20].min()) > float(found.sample_scores[20:].max())
    assert found.target == TARGET
    assert not judged(striped(seed=1), striped()).backdoored


def test_entropy_is_that_of_the_sum_of_normalized_images_in_bits() -> None:
    model, data = planted(), striped(2)
    x, other = data.x[:1].float() / 255, data.x[1:].float() / 255

    p = model(x + 0.5 * other).softmax(1)

    assert float(blended_entropy(model, data.x[:1], data.x[1:, None], 1, 0.5, Context())) == pytest.approx(
        -float((p * p.log2()).sum()), abs=1e-5
    )
    even = planted()
    even.head.weight.zero_()
    assert float(blended_entropy(even, data.x, data.x[:1, None], 1, 1.0, Context())[0]) == pytest.approx(
        math.log2(CLASSES), abs=1e-6
    )


def test_the_boundary_is_the_percentile_of_a_normal_fit() -> None:
    entropies = torch.tensor([1.0, 2.0, 4.0])

    assert boundary(entropies, 0.01) == pytest.approx(
        stats.norm(7 / 3, entropies.std().item()).ppf(0.01), abs=1e-5
    )


def test_scores_move_with_the_images() -> None:
    suspects, clean = triggered(striped(seed=1), 20), striped()
    order = torch.randperm(len(suspects), generator=derive(0, "order"))
    first, moved = judged(suspects, clean).sample_scores, judged(suspects[order], clean).sample_scores

    assert first is not None and moved is not None and torch.allclose(first[order], moved, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_clean_images_too_few_for_a_boundary_accuse_nobody_and_the_log_says_so(count: int) -> None:
    ctx, heard = listening()

    found = judged(triggered(striped(seed=1), 20), striped(count), ctx)

    assert found.flagged is not None and not bool(found.flagged.any()) and not found.backdoored
    assert any(event.level == "warning" for event in heard if isinstance(event, Log))
