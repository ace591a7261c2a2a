"""What is special about SPECTRE: whitening by the clean part finds what hides where the class hardly varies."""

import pytest
import torch
from torch import Tensor

from poisonlab.defenses.spectral_signatures import spectral_scores
from poisonlab.defenses.spectre import (
    inverse_root,
    principal_components,
    que_scores,
    robust_moments,
    scores_of_class,
)

D = 9


def hidden(seed: int, shift: float = 6.0) -> tuple[Tensor, Tensor]:
    """1,000 normal rows of unequal spread; 5 % are shifted by 6 deviations along a direction of variance 0.1."""
    draws = torch.Generator().manual_seed(seed)
    deviations = torch.cat([torch.full((D - 1,), 3.0), torch.tensor([0.1**0.5])])
    rows = torch.randn(1000, D, generator=draws, dtype=torch.float64) * deviations
    poisoned = torch.zeros(1000, dtype=torch.bool)
    poisoned[:50] = True
    rows[poisoned, -1] += shift * 0.1**0.5
    turn = torch.linalg.qr(torch.randn(D, D, generator=draws, dtype=torch.float64)).Q
    return rows @ turn, poisoned


def recall(scores: Tensor, poisoned: Tensor) -> float:
    """Share of the poisons among the 75 largest scores."""
    return poisoned[scores.topk(75).indices].double().sum().item() / 50


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_poisons_in_a_narrow_direction_are_found_where_spectral_signatures_look_elsewhere(seed: int) -> None:
    rows, poisoned = hidden(seed)

    assert recall(scores_of_class(rows, 0.05, 4.0, 25)[0], poisoned) >= 0.95
    assert recall(spectral_scores(rows)[0], poisoned) < 0.5


def test_turning_the_features_changes_no_score() -> None:
    rows, _ = hidden(3)
    turn = torch.linalg.qr(
        torch.randn(D, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    ).Q

    assert torch.allclose(
        scores_of_class(rows, 0.05, 4.0, 25)[0], scores_of_class(rows @ turn, 0.05, 4.0, 25)[0], rtol=1e-6
    )


def test_the_robust_covariance_is_that_of_the_clean_rows() -> None:
    rows, poisoned = hidden(3)
    truth = torch.cov(rows[~poisoned].T)
    plain = torch.cov(rows.T)

    _, robust = robust_moments(rows, 100)

    def error(found: Tensor) -> float:
        root = inverse_root(truth)
        return torch.linalg.matrix_norm(root @ found @ root - torch.eye(D, dtype=torch.float64), 2).item()

    assert error(robust) < 0.4 < error(plain)


def test_the_score_of_a_hand_example() -> None:
    rows = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    first, second = 8 / 3, 2 / 3  # the covariance
    weight = torch.tensor(4 * (second - first) / (first - 1)).exp().item()

    assert que_scores(rows, 4.0).tolist() == pytest.approx(
        [4 / (1 + weight)] * 2 + [weight / (1 + weight)] * 2
    )


def test_rows_that_vary_nowhere_more_than_one_are_scored_alike_in_all_directions() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)

    assert que_scores(rows, 4.0).tolist() == pytest.approx([0.5] * 4)


def test_components_are_centered_and_ordered_by_their_variance() -> None:
    components = principal_components(hidden(3)[0].float())

    variances = components.var(0)
    assert torch.equal(variances.sort(descending=True).values, variances)
    assert components.mean(0).abs().max().item() < 1e-6


def test_a_class_of_few_images_and_of_equal_ones_is_scored_without_an_error() -> None:
    assert scores_of_class(torch.zeros(5, 4), 0.1, 4.0, 25)[0].tolist() == [0.0] * 5
    assert bool(scores_of_class(torch.randn(6, 512), 0.1, 4.0, 25)[0].isfinite().all())


@pytest.mark.parametrize("epsilon", [0.3, 0.45, 0.5, 0.6])
@pytest.mark.parametrize("count", [5, 9, 100])
def test_however_many_images_are_given_up_each_has_a_score(epsilon: float, count: int) -> None:
    scores, strength = scores_of_class(hidden(3)[0][:count], epsilon, 4.0, 25)

    assert bool(scores.isfinite().all()) and 0 < strength < 1e3


def test_where_the_images_that_are_kept_are_equal_the_others_stick_out_by_a_number_of_single_precision() -> (
    None
):
    rows = torch.zeros(40, 1)
    rows[:3] = 5.0

    scores, strength = scores_of_class(rows, 0.1, 4.0, 25)

    assert set(scores.topk(3).indices.tolist()) == {0, 1, 2}
    assert bool(scores.float().isfinite().all()) and strength < 1e15


def test_the_robust_moments_keep_half_of_the_rows() -> None:
    rows, _ = hidden(3)

    given_up, half = robust_moments(rows, 1200), robust_moments(rows, 500)

    assert all(torch.equal(a, b) for a, b in zip(given_up, half, strict=True))
