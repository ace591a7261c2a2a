"""A verdict is a rank among clean ones: right in its share of false alarms whatever the statistics are."""

import pytest
import torch

from poisonlab.check.calibration import standing


def drawn(count: int, generator: torch.Generator, shift: float = 0.0) -> list[dict[str, float]]:
    """Two statistics of very different size and form."""
    normal = torch.randn(count, generator=generator) + shift
    heavy = torch.rand(count, generator=generator).log().neg().exp() * 1e4
    return [{"norm": float(a), "share": float(b)} for a, b in zip(normal, heavy, strict=True)]


def test_one_in_twenty_clean_ones_is_accused() -> None:
    generator = torch.Generator().manual_seed(0)
    accused = 0
    tries = 2000
    for _ in range(tries):
        suspect, *clean = drawn(20, generator)
        accused += standing(suspect, clean).stands_out

    assert 0.035 < accused / tries < 0.065


def test_one_that_stands_out_is_accused_by_the_statistic_that_shows_it() -> None:
    suspect, *clean = drawn(20, torch.Generator().manual_seed(1))
    found = standing(suspect | {"norm": 50.0, "share": 2e4}, clean)

    assert found.stands_out and found.beyond == 0 and found.p == pytest.approx(0.05)
    assert found.most == "norm"
    assert "each of 19 clean ones, by its norm" in found.text


def test_a_low_value_is_not_suspicious() -> None:
    suspect, *clean = drawn(20, torch.Generator().manual_seed(2))

    assert not standing(suspect | {"norm": -50.0, "share": 0.0}, clean).stands_out


@pytest.mark.parametrize("clean", [0, 1, 18])
def test_too_few_clean_ones_give_no_verdict(clean: int) -> None:
    found = standing({"norm": 1e9}, [{"norm": float(number)} for number in range(clean)])

    assert not found.stands_out and not found.decidable
    assert f"{clean} clean ones are too few" in found.text


def test_equal_values_accuse_nobody() -> None:
    found = standing({"norm": 1.0}, [{"norm": 1.0}] * 19)

    assert found.p == 1.0 and not found.stands_out


def test_what_cannot_be_computed_is_not_suspicious() -> None:
    clean = [{"norm": float(number)} for number in range(1, 20)]

    assert not standing({"norm": float("nan")}, clean).stands_out


def test_clean_ones_of_other_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match="not norm"):
        standing({"norm": 1.0}, [{"share": 1.0}])
