"""The check of a data set: what it compares with, what it says, that it can be stopped and repeated."""

from pathlib import Path

import pytest
import torch
from check_helpers import noise_suspects, tiny_recipe
from core_helpers import listening, noise_images

from poisonlab.cache.stage_cache import StageCache
from poisonlab.check import recipe, suspects
from poisonlab.check.data import check_data
from poisonlab.check.evidence import examine
from poisonlab.context import Context
from poisonlab.events import Cancelled, Event, Log, Progress, StageStarted
from poisonlab.registry import attack

TRUSTED = noise_images(200, (3, 8, 8), 3, seed=5)


def test_without_clean_images_there_is_a_ranking_and_no_verdict(no_training: list[tuple[int, int]]) -> None:
    found = check_data(noise_suspects(), tiny_recipe(), Context(seed=4))

    assert no_training == [(60, 4)]
    assert found.calibration is None
    assert found.verdict.startswith("No verdict: only a ranking. Give trusted clean images")


def test_clean_sets_are_drawn_from_the_trusted_images(no_training: list[tuple[int, int]]) -> None:
    ctx, heard = listening(4)

    found = check_data(noise_suspects(), tiny_recipe(), ctx, TRUSTED)

    assert no_training == [(60, 4), *((60, 1000 + number) for number in range(19))]
    assert found.calibration is not None and found.calibration.controls == 19
    assert "of 19 clean sets of this kind" in found.verdict
    steps = [(event.step, event.total) for event in heard if isinstance(event, Progress)]
    assert steps == [(number, 20) for number in range(20)]
    said = [event.message for event in heard if isinstance(event, Log)]
    assert said.count("a detector says something") == 1  # of the suspects; of clean sets it would confuse


def test_a_set_larger_than_the_clean_ones_is_compared_in_part(no_training: list[tuple[int, int]]) -> None:
    found = check_data(noise_suspects(150), tiny_recipe(), Context(), TRUSTED, controls=3)

    assert no_training == [(150, 0), (128, 0), (128, 1000), (128, 1001), (128, 1002)]  # 0.8 of 0.8 of 200
    assert len(found.ranking.order) == 150
    assert "a false alarm rate below 25% cannot be claimed" in found.verdict


def test_too_few_trusted_images_give_no_verdict(no_training: list[tuple[int, int]]) -> None:
    found = check_data(noise_suspects(), tiny_recipe(), Context(), TRUSTED[:40])

    assert "too few" in found.verdict and len(no_training) == 1


def test_a_part_of_the_images_under_other_values_is_no_shipped_kind(
    no_training: list[tuple[int, int]],
) -> None:
    brought = suspects.of_dataset("digits", "quick")
    other = recipe.usual(brought.data, "quick", "digits", {"epochs": 3})

    found = check_data(brought, other, Context(), like="digits")

    assert "another recipe" in found.verdict


def test_a_detector_that_cannot_run_says_why() -> None:
    found = examine(noise_suspects().data, None, tiny_recipe(), 0, Context())

    assert set(found.left_out) == {"strip", "ewc_influence", "puregen_ebm"}
    assert set(found.statistics()) == {"spectral_signatures", "activation_clustering", "confident_learning"}


def test_the_same_seed_gives_the_same_table() -> None:
    first, again = (
        check_data(noise_suspects(), tiny_recipe(), Context(seed=2), TRUSTED, controls=1) for _ in range(2)
    )

    assert torch.equal(first.ranking.order, again.ranking.order)
    assert first.calibration == again.calibration
    assert [e.statistic for e in first.evidence] == [e.statistic for e in again.evidence]
    assert {e.detector for e in first.evidence} >= {"strip", "ewc_influence"}


def test_a_check_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    cache = StageCache(tmp_path / "cache")

    def stop(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == "detect":
            raise Cancelled

    with pytest.raises(Cancelled):
        check_data(noise_suspects(), tiny_recipe(), Context(cache=cache, send=stop))

    ctx, heard = listening(cache=cache)
    check_data(noise_suspects(), tiny_recipe(), ctx)
    finished = [event for event in heard if type(event).__name__ == "StageFinished"]
    assert finished[0].stage == "victim" and finished[0].cached  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_backdoor_in_digits_stands_out_and_clean_digits_do_not() -> None:
    clean = suspects.of_dataset("digits", "quick")
    method = attack["badnets"]
    values = method.Config.for_preset("quick", "digits").model_dump() | {"poison_rate": 0.1}
    view = type("View", (), {"train": clean.data})()
    poisoned = method(method.Config(**values)).poison(view, Context(seed=3)).apply(clean.data)
    usual = recipe.usual(clean.data, "quick", "digits")

    accused = check_data(suspects.Suspects(poisoned, clean.names), usual, Context(seed=3), like="digits")
    spared = check_data(clean, usual, Context(seed=3), like="digits")

    assert accused.calibration is not None and accused.calibration.stands_out
    assert spared.calibration is not None and not spared.calibration.stands_out
