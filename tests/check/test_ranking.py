"""All detectors together: ranks, votes, agreement."""

import pytest
import torch
from torch import Tensor

from poisonlab.check.evidence import Evidence
from poisonlab.check.ranking import normalized_ranks, ranked, suspected_class


def evidence(*scores: Tensor) -> list[Evidence]:
    names = ("spectral_signatures", "activation_clustering", "strip", "ewc_influence")
    return [Evidence(name, s, None, 0.0) for name, s in zip(names, scores, strict=False)]


def test_what_most_detectors_have_in_their_top_is_flagged_and_stands_first() -> None:
    rising = torch.arange(20.0)
    other = rising.clone()
    other[3] = 50.0

    found = ranked(evidence(rising, rising, other), share=0.1)

    assert found.needed == 2
    assert found.flagged.nonzero().flatten().tolist() == [18, 19]
    assert found.order[:3].tolist() == [19, 18, 3]
    assert found.votes[[3, 18, 19]].tolist() == [1, 2, 3]


def test_equal_scores_share_their_ranks() -> None:
    assert normalized_ranks(torch.tensor([5.0, 1.0, 5.0])).tolist() == [0.75, 0.0, 0.75]


def test_detectors_that_agree_and_such_that_do_not() -> None:
    rising = torch.arange(50.0)

    same, reverse, _ = ranked(evidence(rising, rising * 3, -rising)).agreements

    assert (same.correlation, same.overlap) == pytest.approx((1.0, 1.0))
    assert (reverse.correlation, reverse.overlap) == pytest.approx((-1.0, 0.0))


def test_a_constant_detector_agrees_with_nobody() -> None:
    found = ranked(evidence(torch.zeros(30), torch.arange(30.0)))

    assert found.agreements[0].correlation == 0.0


@pytest.mark.parametrize(
    ("named", "expected"),
    [((2, 2, 1), (2, 2)), ((2, 1), (None, 0)), ((None, 3), (3, 1)), ((None, None), (None, 0))],
)
def test_the_class_that_most_name(named: tuple[int | None, ...], expected: tuple[int | None, int]) -> None:
    made = [Evidence("strip", torch.zeros(3), target, 0.0) for target in named]

    assert suspected_class(made) == expected
