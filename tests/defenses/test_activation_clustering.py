"""Activation clustering: two heaps are told from one, and a class that is one heap is let go."""

import pytest
import torch
from core_helpers import listening
from torch import Tensor, nn

from poisonlab.context import Context, derive
from poisonlab.defenses.activation_clustering import (
    ActivationClustering,
    ClusteringConfig,
    reduced,
    split_in_two,
)
from poisonlab.events import Log
from poisonlab.models.base import Classifier
from poisonlab.types import Detection, ImageSet

N, POISONED = 300, 45


def heaps(n: int = N, apart: int = POISONED, features: int = 16) -> Tensor:
    """Normal points, the first of them moved away from the others."""
    points = torch.randn(n, features, generator=derive(0, "points"))
    points[:apart, :4] += 8
    return points


def judged(apart: int, ctx: Context | None = None, order: Tensor | None = None, **params: float) -> Detection:
    """Two classes whose features are the pixels; the first images of class 1 stand apart."""
    points = torch.cat([heaps(apart=0), heaps(apart=apart)])
    x = (points * 10 + 128).clamp(0, 255).round().to(torch.uint8).view(-1, 1, 4, 4)
    data = ImageSet(x, torch.arange(2 * N) // N, ("a", "b"))
    data = data if order is None else data[order]
    model = Classifier(nn.Flatten(), 16, 2, torch.zeros(1), torch.ones(1)).eval().requires_grad_(False)
    return ActivationClustering(ClusteringConfig(**params)).detect(model, data, data, ctx or Context())  # type: ignore[arg-type]


@pytest.mark.parametrize("reduction", ["ica", "pca"])
def test_two_heaps_are_told_apart(reduction: str) -> None:
    points = reduced(heaps(), ClusteringConfig(reduction=reduction), 0)
    split = split_in_two(points, 0)

    assert points.shape == (N, 10) and split is not None
    assert split.minority.nonzero().squeeze(1).tolist() == list(range(POISONED))
    assert (
        bool((split.toward_minority[:POISONED] > 0).all())
        and float(split.toward_minority[POISONED:].max()) < 0
    )


def test_the_small_heap_is_flagged_and_its_class_named() -> None:
    found = judged(POISONED, dimensions=3)

    assert found.target == 1 and found.flagged is not None
    assert found.flagged.nonzero().squeeze(1).tolist() == list(range(N, N + POISONED))


def test_one_heap_is_refused_and_so_are_two_of_the_same_size() -> None:
    for apart in (0, N // 2):
        ctx, heard = listening()
        found = judged(apart, ctx)
        assert not found.backdoored and found.flagged is not None and not bool(found.flagged.any())
        assert any("no verdict" in event.message for event in heard if isinstance(event, Log))


def test_dimensions_end_at_the_rank_and_equal_points_are_not_split() -> None:
    assert reduced(torch.randn(6, 40, generator=derive(0, "few")), ClusteringConfig(), 0).shape == (6, 5)
    equal = reduced(torch.ones(8, 4), ClusteringConfig(), 0)
    assert equal.shape == (8, 0) and split_in_two(equal, 0) is None


def test_the_verdict_moves_with_the_images() -> None:
    order = torch.randperm(2 * N, generator=derive(1, "order"))
    first, moved = judged(POISONED, reduction="pca"), judged(POISONED, order=order, reduction="pca")  # type: ignore[arg-type]

    assert first.flagged is not None and moved.flagged is not None
    assert torch.equal(first.flagged[order], moved.flagged)
