"""What is special about FST: the new last layer keeps the old one's norm and turns away from it."""

from typing import Any

import pytest
import torch
from core_helpers import clean_model, digits, small
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses import fst
from poisonlab.defenses.fst import FST, FeatureShift, drawn_anew
from poisonlab.models.base import Classifier


def agreement(model: Classifier) -> float:
    """Cosine of its last layer's weight and that of the given model."""
    return torch.cosine_similarity(
        model.head.weight.flatten(), clean_model().head.weight.flatten(), dim=0
    ).item()


def tuned(**params: Any) -> Classifier:
    method = small(FST, **({"epochs": 8, "lr": 0.05, "flip": False, "crop_padding": 0} | params))
    return method.repair(clean_model(), digits().reserve[:40], Context(seed=2)).model(clean_model())


def test_the_norm_is_kept_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    plain = FeatureShift.stepped

    def watched(self: FeatureShift, forward: object) -> None:
        plain(self, forward)
        norms.append(self.head.weight.norm().item())

    monkeypatch.setattr(FeatureShift, "stepped", watched)
    tuned(epochs=3)

    assert len(norms) > 3
    assert norms == pytest.approx([clean_model().head.weight.norm().item()] * len(norms), rel=1e-5)


def test_the_new_layer_turns_away_from_the_old_one_and_without_the_product_towards_it() -> None:
    away, free = agreement(tuned(alpha=0.1)), agreement(tuned(alpha=0.0))

    assert away < 0 < free


def test_the_loss_is_cross_entropy_and_the_weighted_sum_of_products() -> None:
    head = torch.nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    hook = FeatureShift(head, torch.tensor([[1.0, 0.0], [0.5, -1.0]]), alpha=0.1)
    logits = torch.tensor([[0.0, 0.0]])

    found = hook.loss(logits, torch.tensor([1]), 0.0).item()

    assert found == pytest.approx(torch.log(torch.tensor(2.0)).item() + 0.1 * (1 + 1.5 - 4), rel=1e-6)


def test_the_new_layer_is_uniform_within_the_published_bound() -> None:
    head = torch.nn.Linear(400, 10)
    drawn_anew(head, torch.Generator().manual_seed(0))
    values: Tensor = head.weight.detach()

    assert values.abs().max().item() <= 1 / 20
    assert values.std().item() == pytest.approx(1 / 20 / 3**0.5, rel=0.05)
    assert head.bias.abs().max().item() <= 1 / 20


def test_all_layers_are_tuned_without_weight_decay_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(fst, "fine_tune", lambda model, clean, config, ctx, hook: told.append(config))

    FST(FST.Config()).repair(clean_model(), digits().reserve[:20], Context())

    assert (told[0].weight_decay, told[0].epochs, told[0].lr, told[0].batch_size) == (0.0, 10, 0.01, 128)
