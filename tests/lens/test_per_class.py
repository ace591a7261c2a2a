"""Rates by class: weighted by their images they are the rates of the whole test set."""

import pytest
import torch

from poisonlab.lens.per_class import counted, per_class
from poisonlab.lens.pictures import networks
from poisonlab.measure import metrics
from poisonlab.models.base import predict
from poisonlab.pipeline.reopen import Opened


def weighted(rates: torch.Tensor, counts: torch.Tensor) -> float:
    known = counts > 0
    return float((rates[known] * counts[known]).sum() / counts.sum())


def test_weighted_by_their_images_classes_give_the_overall_rates(repaired: Opened) -> None:
    found = per_class(repaired)

    test = repaired.attacked.splits.test
    triggered = metrics.Triggered.of(test, repaired.attacked.threat)  # type: ignore[arg-type]
    for name, victims in repaired.victims.items():
        accuracy = weighted(found.accuracy(name), found.confusion[name].sum(1))
        assert accuracy == pytest.approx(metrics.clean_accuracy(victims.predict, test))
        asr = weighted(found.asr(name), found.triggered[name].sum(1))
        assert asr == pytest.approx(metrics.backdoor_metrics(victims.predict, triggered)["asr"])


def test_the_target_class_has_no_rate_of_success(repaired: Opened) -> None:
    found = per_class(repaired)

    target = repaired.attacked.threat.target_class  # type: ignore[union-attr]
    assert bool(found.asr("undefended")[target].isnan()) and int(found.adversarial[target]) == -1


def test_rows_are_true_classes_and_columns_answers() -> None:
    counts = counted(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1]), 3)

    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_broken_images_were_right_before_and_are_wrong_after(repaired: Opened) -> None:
    found = per_class(repaired)
    models = networks(repaired)

    assert found.broken_count >= len(found.broken)
    if len(found.broken):
        assert torch.equal(predict(models["undefended"], found.broken), found.broken_true)
        assert torch.equal(predict(models["defended"], found.broken), found.broken_answer)
        assert not bool((found.broken_answer == found.broken_true).any())
    gain = found.mended_count - found.broken_count
    right = {name: int(counts.diagonal().sum()) for name, counts in found.confusion.items()}
    assert right["defended"] - right["undefended"] == gain


def test_without_a_defense_nothing_is_broken(targeted: Opened) -> None:
    found = per_class(targeted)

    assert found.triggered == {} and found.broken_count == 0
