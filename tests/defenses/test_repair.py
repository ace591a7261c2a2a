"""Repairs that may look at the training set: scores against closed forms, what comes back, and what it is worth."""

import copy
from typing import Any

import pytest
import torch
from core_helpers import (
    clean_model,
    digits,
    listening,
    noise_images,
    normed_net,
    rest_slow,
    same_state,
    small,
    smooth_net,
    state_of,
    tiny_spec,
)
from torch import Tensor
from torch.nn import functional as F

from poisonlab import registry
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.defenses import ewc_deletion
from poisonlab.defenses.base import Repair
from poisonlab.defenses.retain_beneficial import RetainBeneficial, agreeing
from poisonlab.defenses.shared import ewc
from poisonlab.defenses.shared.suspects import soft_labels, tuned, without
from poisonlab.events import ArtifactReady
from poisonlab.measure import flags
from poisonlab.models.base import Classifier, logits
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import make_spec
from poisonlab.types import FATES, Flags, ImageSet, joined

TREATMENTS = ["retain_beneficial", "finetune_without", "relabel", "ewc_deletion"]
CORRUPTED = {"clean_accuracy_retrained", "accuracy_loss", "accuracy_loss_undefended", "corrupted"}


def mislabeled(n: int = 80, wrong: int = 20) -> tuple[ImageSet, Tensor]:
    """Digits of which the first few are given the label after their own; bool ``(n,)`` says which."""
    data, bad = digits().train[:n], torch.arange(n) < wrong
    y = torch.where(bad, (data.y + 1) % 10, data.y)
    return ImageSet(data.x, y, data.classes), bad


def treated(name: str, suspects: ImageSet, ctx: Context, **params: Any) -> tuple[Classifier, Flags]:
    method = small(registry.defense[name], **params)
    done = method.repair_with_suspects(clean_model(), digits().reserve[:20], suspects, ctx)
    return done.model(clean_model()), done.findings.flags


# -- scores -------------------------------------------------------------------------------------------


def test_the_fisher_diagonal_is_the_mean_of_squared_gradients_of_single_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ewc, "CHUNK", 3)
    model, data = copy.deepcopy(smooth_net()).requires_grad_(True), noise_images(7, (1, 6, 6), classes=2)
    expected = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for x, y in zip(data.x, data.y, strict=True):
        loss = F.cross_entropy(model(x[None].double() / 255), y[None])
        for (name, _), gradient in zip(
            model.named_parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            expected[name] += gradient.square() / len(data)

    found = ewc.fisher_diagonal(model, data)

    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.allclose(value, expected[name], rtol=1e-5, atol=1e-12), name


def test_the_fisher_diagonal_leaves_batch_norm_and_weights_alone() -> None:
    model = clean_model()
    before = state_of(model)

    fisher = ewc.fisher_diagonal(model, digits().train[:20])

    assert same_state(state_of(model), before)
    assert all(bool((value >= 0).all()) for value in fisher.values()) and any(
        bool(v.any()) for v in fisher.values()
    )


def test_the_anchor_pulls_back_by_its_strength_times_fisher_times_distance() -> None:
    model = copy.deepcopy(smooth_net()).requires_grad_(True)
    fisher = {name: torch.full_like(value, 0.5) for name, value in model.named_parameters()}
    anchor = ewc.Anchor(model, fisher, 4.0)
    with torch.no_grad():
        model.head.bias += 0.25

    anchor.backward(model, lambda: torch.zeros((), dtype=torch.double))

    assert torch.allclose(model.head.bias.grad, torch.full_like(model.head.bias, 4.0 * 0.5 * 0.25))
    assert not bool(model.head.weight.grad.any())


@pytest.mark.parametrize("kappa", [0.0, 3.0])
def test_scores_are_those_of_the_formula(kappa: float) -> None:
    """theta_S = argmin of the sum of losses over S + kappa N / 2 (theta - theta^)' diag(F) (theta - theta^), by four
    steps of Adam on all of S; r_S = l(z; theta_S) - l(z; theta^). All written down anew, in double precision.
    """
    model, clean, suspects = normed_net(), noise_images(6, (1, 6, 6), 3), noise_images(12, (1, 6, 6), 3, 1)
    steps = {"adapt_epochs": 4, "adapt_batch": 6, "adapt_lr": 0.05, "fisher_images": 0}
    config = small(RetainBeneficial, kappa=kappa, **steps).config
    found = ewc.influence(model, clean, suspects, config, Context(seed=1))

    def loss(at: Classifier, data: ImageSet) -> Tensor:
        return F.cross_entropy(at(data.x.double() / 255), data.y, reduction="none")

    moved = copy.deepcopy(model)
    weights = [w for name, w in moved.named_parameters() if not name.startswith(("body.1.", "body.4."))]
    start = [w.detach().clone() for w in weights]  # norms stay
    each = [torch.autograd.grad(one, weights, retain_graph=True) for one in loss(moved, suspects)]
    fisher = [torch.stack(squares).square().mean(0) for squares in zip(*each, strict=True)]
    optimizer = torch.optim.Adam(weights, lr=0.05, betas=(0.9, 0.999))
    for step in range(4):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.1**step  # x0.1 at a quarter, half and three quarters
        pull = [(f * (w - s).square()).sum() for f, w, s in zip(fisher, weights, start, strict=True)]
        objective = loss(moved, clean).sum() + kappa * len(suspects) / 2 * torch.stack(pull).sum()
        optimizer.zero_grad()
        (objective / len(clean)).backward()
        optimizer.step()

    expected = (loss(moved, suspects) - loss(model, suspects)).detach()
    assert float(expected.abs().max()) > 0.05
    assert torch.allclose(found.double(), expected, rtol=0, atol=2e-6)


def test_deletion_follows_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descends on  log p(C | theta) / |C| + 2 / (gamma N) N / 2 (theta - theta^)' diag(F) (theta - theta^)."""
    model, suspects, gamma = normed_net(), noise_images(12, (1, 6, 6), 3), 0.05
    x, y = suspects.x.double() / 255, suspects.y
    losses = F.cross_entropy(model(x), y, reduction="none").detach()
    given: list[Any] = []
    monkeypatch.setattr(ewc_deletion, "influence", lambda *args: -losses)  # none above the loss of a guess
    monkeypatch.setattr(ewc_deletion, "fine_tune", lambda *args: given.extend(args))
    method = small(registry.defense["ewc_deletion"], gamma=gamma, flag_share=0.25, fisher_images=0)
    method.repair_with_suspects(model, noise_images(6, (1, 6, 6), 3), suspects, Context())
    moved, flagged, _, _, guard = given
    rows = losses.argsort()[:3]
    assert torch.equal(flagged.x, suspects.x[rows])

    weights = list(moved.requires_grad_(True).parameters())
    each = [
        torch.autograd.grad(one, weights)
        for one in (F.cross_entropy(moved(x[[i]]), y[[i]]) for i in range(12))
    ]
    fisher = [torch.stack(squares).square().mean(0) for squares in zip(*each, strict=True)]
    with torch.no_grad():
        for weight in weights:
            weight.mul_(1.02)
    pairs = zip(fisher, weights, model.parameters(), strict=True)
    distance = torch.stack([(f * (w - s.detach()).square()).sum() for f, w, s in pairs]).sum()
    likelihood = moved(x[rows]).log_softmax(1).gather(1, y[rows, None]).sum()
    objective = likelihood / 3 + 2 / (gamma * 12) * 12 / 2 * distance
    expected = torch.autograd.grad(objective, weights)

    guard.backward(moved, lambda: guard.loss(moved(x[rows]), y[rows], 0.0))
    for found, value in zip(weights, expected, strict=True):
        assert found.grad is not None and torch.allclose(found.grad, value, rtol=1e-4, atol=1e-7)


def test_a_stiff_anchor_keeps_the_weights_that_matter() -> None:
    clean, suspects = digits().reserve[:20], mislabeled()[0]

    def distance(kappa: float) -> float:
        config = small(RetainBeneficial, kappa=kappa, adapt_epochs=10, fisher_images=0).config
        moved = ewc.adapted(clean_model(), clean, suspects, config, Context(seed=1))
        pairs = zip(moved.parameters(), clean_model().parameters(), strict=True)
        return sum((a - b).square().sum().item() for a, b in pairs)

    assert distance(1000.0) < 0.5 * distance(0.0)


def test_images_with_wrong_labels_score_higher() -> None:
    suspects, bad = mislabeled()
    config = small(RetainBeneficial, adapt_epochs=10, fisher_images=0).config
    victim = tuned(
        clean_model(), suspects, small(RetainBeneficial, epochs=6, flip=False).config, Context(seed=1)
    )

    scores = ewc.influence(victim, digits().reserve[:20], suspects, config, Context(seed=1))

    assert scores[bad].mean() > scores[~bad].mean()
    assert float((scores[bad] > 0).float().mean()) > 0.5  # trusted images speak against them


def test_flags_are_the_highest_scores_and_only_positive_ones_if_asked() -> None:
    scores = torch.tensor([0.5, -1.0, 2.0, -0.1])

    def rows(**params: Any) -> list[int]:
        return ewc.flag(scores, small(RetainBeneficial, **params).config).tolist()

    assert rows(flag_share=0.75) == [2, 0, 3] and rows(flag_share=0.0) == []
    assert rows(flag_share=0.75, only_positive=True) == [2, 0]


# -- treatments ---------------------------------------------------------------------------------------


def test_only_what_the_reference_agrees_with_is_taken_back() -> None:
    answers = torch.tensor([[0.6, 0.4, 0.0], [0.3, 0.4, 0.3], [0.0, 0.1, 0.9]])

    assert agreeing(answers, torch.tensor([0, 0, 2])).tolist() == [True, False, True]


@pytest.mark.parametrize("name", ["retain_beneficial", "relabel"])
def test_with_nothing_flagged_a_repair_is_plain_fine_tuning(name: str) -> None:
    suspects, clean = mislabeled()[0], digits().reserve[:20]

    repaired, _ = treated(name, suspects, Context(seed=1), flag_share=0.0)

    plain = tuned(
        clean_model(), joined(suspects, clean), small(registry.defense[name]).config, Context(seed=1)
    )
    assert same_state(state_of(repaired), state_of(plain))


def test_what_comes_back_is_trained_on_and_the_rest_is_not() -> None:
    suspects, _ = mislabeled()
    repaired, found = treated("retain_beneficial", suspects, Context(seed=1), flag_share=0.5)

    clean = digits().reserve[:20]
    back = found.fate == FATES.index("returned")
    assert len(found.rows) == 40 and 0 < int(back.sum()) < 40
    assert torch.equal(found.labels[back], suspects.y[found.rows[back]]) and bool(
        (found.labels[~back] == -1).all()
    )
    trusted = joined(without(suspects, found.rows), clean)
    config = small(RetainBeneficial).config
    reference = tuned(clean_model(), trusted, config, Context(seed=1))
    agreed = logits(reference, suspects.x[found.rows]).argmax(1) == suspects.y[found.rows]
    assert torch.equal(agreed, back)
    expected = tuned(clean_model(), joined(trusted, suspects[found.rows[back]]), config, Context(seed=1))
    assert same_state(state_of(repaired), state_of(expected))


def test_one_hot_soft_labels_train_like_the_labels() -> None:
    data, config = digits().train[:40], small(RetainBeneficial, epochs=2).config
    soft = F.one_hot(data.y[30:], 10).float()

    by_label, by_row = (
        tuned(clean_model(), data, config, Context(seed=1), hook)
        for hook in (None, soft_labels(data[:30], soft))
    )

    difference = logits(by_label, data.x) - logits(by_row, data.x)
    assert float(difference.abs().max()) < 1e-3


def test_deletion_is_never_worse_on_trusted_images_than_what_it_was_given() -> None:
    suspects, clean = mislabeled()[0], digits().reserve[:20]
    wild = {"lr": 0.1, "gamma": 10.0, "epochs": 3, "flag_share": 1.0}  # would ruin the model

    repaired, _ = treated("ewc_deletion", suspects, Context(seed=1), **wild)

    assert ewc_deletion.standing(repaired, clean) >= ewc_deletion.standing(clean_model(), clean)


# -- in an experiment ---------------------------------------------------------------------------------


def corrupted_spec(defense: str, attack: str = "label_noise", **overrides: Any) -> Any:
    few = {"training.epochs": 1, "dataset.train_images": 100, "dataset.test_images": 60, "clean_images": 10}
    return make_spec(
        "digits", attack, defense, overrides=few | {k.replace("__", "."): v for k, v in overrides.items()}
    )


@pytest.mark.parametrize("attack", ["label_noise", "input_corruption"])
def test_a_corruption_is_measured_by_accuracy_alone(attack: str) -> None:
    found = run_experiment(corrupted_spec("none", attack), Context()).metrics

    assert found.keys() >= CORRUPTED and not [n for n in found if "asr" in n or "success" in n or n == "der"]
    assert found["accuracy_loss"] == found["accuracy_loss_undefended"]
    assert found["accuracy_loss"] == pytest.approx(found["clean_accuracy_control"] - found["clean_accuracy"])


@pytest.mark.parametrize("name", rest_slow(TREATMENTS))
def test_flags_are_measured_and_come_from_the_cache_again(name: str, tmp_path: Any) -> None:
    spec = corrupted_spec(name, defense__epochs=1, defense__adapt_epochs=1)
    first = run_experiment(spec, Context(cache=StageCache(tmp_path)))
    ctx, heard = listening(cache=StageCache(tmp_path))
    again = run_experiment(spec, ctx)

    assert {"flagged", "flag_auroc", "flag_precision", "flag_recall"} <= first.metrics.keys()
    assert again.metrics == first.metrics and {"repair", "retrained"} <= set(again.cached)
    assert {"flag_review", "confusion"} <= {e.name for e in heard if isinstance(e, ArtifactReady)}


def test_treatments_of_one_model_share_its_scores(tmp_path: Any) -> None:
    few = {"defense__epochs": 1, "defense__adapt_epochs": 1}
    run_experiment(corrupted_spec("relabel", **few), Context(cache=StageCache(tmp_path)))
    other = corrupted_spec("finetune_without", defense__flag_share=0.6, **few)

    assert "influence" in run_experiment(other, Context(cache=StageCache(tmp_path))).cached


def test_the_training_set_is_part_of_a_repairs_key(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[ImageSet] = []

    def spy(self: Any, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Repair:
        given.append(suspects)
        return Repair(copy.deepcopy(clean_of[0]))

    clean_of = [clean_model()]
    spec = corrupted_spec("finetune_without", victim__width=8)
    monkeypatch.setattr(registry.defense["finetune_without"], "repair_with_suspects", spy)
    run_experiment(spec, Context(cache=StageCache(tmp_path)))
    run_experiment(spec, Context(cache=StageCache(tmp_path)))

    assert len(given) == 1 and len(given[0]) == 100


def test_a_detector_of_images_works_where_nobody_attacks() -> None:
    found = run_experiment(corrupted_spec("ewc_influence", defense__adapt_epochs=1), Context()).metrics

    assert {"sample_auroc", "samples_caught", "samples_flagged"} <= found.keys()
    assert not {"detected", "target_found"} & found.keys()
    backdoored = tiny_spec("ewc_influence", clean_images=10, defense__adapt_epochs=1)
    assert {"detected", "detected_control", "target_found", "sample_auroc"} <= run_experiment(
        backdoored, Context()
    ).metrics.keys()


def test_flags_by_hand() -> None:
    train = noise_images(6, classes=2)
    bad = torch.tensor([True, True, False, False, False, False])
    found = Flags(
        torch.tensor([0.9, 0.1, 0.8, 0.0, 0.0, 0.0]),
        torch.tensor([0, 2, 1]),
        torch.tensor([2, 1, 0]),
        torch.tensor([int(train.y[0]), int(train.y[2]), -1]),
    )

    measured = flags.flag_metrics(found, bad, train)

    assert measured == {
        "flagged": 0.5,
        "flag_auroc": pytest.approx(7 / 8),
        "flag_recall": 1.0,
        "flag_precision": pytest.approx(2 / 3),
        "returned_clean": 1.0,
        "relabeled_right": 1.0,
    }
    assert flags.flag_metrics(found, bad[:5], train) == {}


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_over_flagged_digits_are_repaired_better_when_some_images_come_back(tmp_path: Any) -> None:
    share = {"defense.flag_share": 0.72}  # three times the share of wrong labels

    def measured(defense: str) -> dict[str, float]:
        spec = make_spec("digits", "label_noise", defense, overrides=share)
        return run_experiment(spec, Context(cache=StageCache(tmp_path))).metrics

    kept, lost = measured("retain_beneficial"), measured("finetune_without")

    assert kept["flag_auroc"] >= 0.9 and kept["returned_clean"] >= 0.95
    assert kept["clean_accuracy"] >= lost["clean_accuracy"] >= kept["clean_accuracy_undefended"]
