"""A verdict is a place among clean sets."""

import pytest
import torch

from poisonlab.check.calibration import calibrated, deviations


def clean(count: int = 19) -> list[dict[str, float]]:
    return [
        {"strip": 0.01 * number, "spectral_signatures": 2.0 - 0.1 * (number % 5)} for number in range(count)
    ]


def test_a_set_beyond_all_clean_ones_in_one_detector_stands_out() -> None:
    found = calibrated({"strip": 0.1, "spectral_signatures": 9.0}, clean(), "drawn", 100)

    assert found.exceeds == 19 and found.stands_out
    assert found.false_alarm_rate == pytest.approx(1 / 20)
    assert found.by_detector == {"strip": 10, "spectral_signatures": 19}


def test_a_set_like_the_others_does_not() -> None:
    found = calibrated({"strip": 0.09, "spectral_signatures": 1.8}, clean(), "drawn", 100)

    assert not found.stands_out and found.false_alarm_rate > 0.5


def test_few_clean_sets_allow_no_accusation() -> None:
    found = calibrated({"strip": 9.0, "spectral_signatures": 9.0}, clean(9), "drawn", 100)

    assert found.exceeds == 9 and not found.stands_out and not found.can_accuse
    assert found.false_alarm_rate == pytest.approx(0.1)


def test_each_set_is_the_highest_once() -> None:
    """What the false alarm rate rests on: the measure treats the suspected set as it does the others."""
    sets = clean(20)
    places = [calibrated(own, sets[:i] + sets[i + 1 :], "", 1).exceeds for i, own in enumerate(sets)]

    assert sum(place == 19 for place in places) <= 1


def test_only_detectors_that_judged_every_set_count() -> None:
    names, table = deviations([{"strip": 1.0, "ewc_influence": 5.0}, *clean(3)])

    assert names == ["strip"] and table.shape == (4, 1)
    with pytest.raises(ValueError, match="no detector"):
        calibrated({"ewc_influence": 1.0}, clean(3), "", 1)


def test_one_in_twenty_clean_ones_is_accused() -> None:
    """Whatever the numbers of the detectors look like, and however many there are."""
    generator = torch.Generator().manual_seed(0)
    tries = 2000
    accused = 0
    for _ in range(tries):
        normal = torch.randn(20, generator=generator).tolist()
        heavy = (1e4 * torch.rand(20, generator=generator).log().neg().exp()).tolist()
        own, *others = ({"strip": a, "rnp": b} for a, b in zip(normal, heavy, strict=True))
        accused += calibrated(own, others, "", 1).stands_out

    assert 0.035 < accused / tries < 0.065


def test_equal_numbers_accuse_nobody() -> None:
    found = calibrated({"strip": 1.0}, [{"strip": 1.0}] * 19, "", 1)

    assert found.exceeds == 0 and not found.stands_out


def test_what_clean_sets_share_counts_for_the_suspect() -> None:
    """Sets of three quarters of one pool differ little; another set needs sqrt(7) times the distance."""
    ones = [{"strip": one["strip"]} for one in clean()]
    apart = calibrated({"strip": 0.3}, ones, "", 100)
    shared = calibrated({"strip": 0.3}, ones, "", 100, 0.75)

    assert apart.stands_out and not shared.stands_out
    ratio = deviations([apart.own, *ones])[1][0] / deviations([apart.own, *ones], 0.75)[1][0]
    assert float(ratio) == pytest.approx(7**0.5)
