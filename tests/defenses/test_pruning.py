"""Pruning by channel masks: what is removed, who may choose how much, the inner steps of ANP and RNP."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from core_helpers import clean_model, digits, listening, small, tiny_spec
from torch import nn
from torch.nn import functional as F

from poisonlab import context
from poisonlab.cache.packing import pack, unpack
from poisonlab.context import Context, derive
from poisonlab.defenses import anp, rnp
from poisonlab.defenses.anp import ANP, ascend
from poisonlab.defenses.rnp import RNP
from poisonlab.defenses.shared import surrogate_trigger
from poisonlab.defenses.shared.pruning import Channels, PruningRule, masked_network, prune_by
from poisonlab.defenses.shared.surrogate_trigger import StandIn
from poisonlab.defenses.shared.unlearning import Unlearning, unlearn
from poisonlab.defenses.tsbd import TSBD
from poisonlab.events import ArtifactReady
from poisonlab.measure import metrics
from poisonlab.models.base import Classifier, accuracy, as_floats, predict
from poisonlab.pipeline.evaluate import rates_of_each
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.types import ImageSet, SettingSweep

CLEAN = digits().reserve[:20]


def tiny_net() -> Classifier:
    """Double precision, one batch norm of three channels."""
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Softplus(), nn.Flatten())
    model = Classifier(body, 12, 3, torch.zeros(1), torch.ones(1)).double()
    for number, weight in enumerate(model.parameters()):
        nn.init.normal_(weight, generator=derive(number, "weights"))
    return model.eval().requires_grad_(False)


FEW = ImageSet(
    torch.randint(256, (6, 1, 4, 4), generator=derive(0, "few")).to(torch.uint8),
    torch.arange(6) % 3,
    ("a", "b", "c"),
)


def differences(
    loss: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor, h: float = 1e-6
) -> torch.Tensor:
    """Central differences of a scalar function of a vector."""
    nudges = h * torch.eye(len(at), dtype=at.dtype)
    return torch.stack([(loss(at + n) - loss(at - n)) / (2 * h) for n in nudges])


def learned_mask(module: ModuleType, method: Any, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """The mask of ``tiny_net`` that a defense hands to pruning; its images are in double precision."""
    handed_on = []
    monkeypatch.setattr(module, "as_floats", lambda x: as_floats(x).double())
    monkeypatch.setattr(module, "prune_by", lambda mask, *rest: handed_on.append(mask))
    method.repair(tiny_net(), FEW, Context())
    return handed_on[0].double()


def test_masks_at_one_change_nothing() -> None:
    channels, model = Channels(clean_model()), clean_model()
    entries, state = channels.scaled(torch.ones(channels.count)), model.state_dict()

    assert len(entries) == 2 * len(channels.names)
    assert all(torch.equal(value, state[name]) for name, value in entries.items())


def test_pruning_zeroes_the_smallest_masks_and_keeps_the_shifts() -> None:
    model = clean_model()
    channels = Channels(model)
    mask = torch.rand(channels.count, generator=derive(0, "mask"))

    sweep = prune_by(mask, model, CLEAN, PruningRule(), Context()).result
    position = len(sweep.settings) // 2
    pruned = Channels(sweep.apply(model, position))

    gone = mask.argsort()[: int(sweep.settings[position])]
    assert int(sweep.settings[0]) == 0 and bool((sweep.settings.diff() > 0).all())
    assert set((pruned.gamma == 0).nonzero().flatten().tolist()) == set(gone.tolist())
    assert torch.equal(pruned.beta, channels.beta)


def test_channels_with_equal_masks_are_pruned_together() -> None:
    model = clean_model()
    mask = torch.ones(Channels(model).count)
    mask[::2] = 0

    assert prune_by(mask, model, CLEAN, PruningRule(), Context()).result.settings.tolist() == [
        0,
        len(mask[::2]),
    ]


def test_the_score_of_a_setting_is_its_accuracy_on_the_clean_images() -> None:
    model = clean_model()
    sweep = prune_by(torch.rand(Channels(model).count), model, CLEAN, PruningRule(), Context()).result

    last = predict(sweep.apply(model, len(sweep.settings) - 1), CLEAN.x)
    assert sweep.clean_score[-1].item() == pytest.approx((last == CLEAN.y).float().mean().item())


def test_oracle_is_the_lowest_asr_that_keeps_nine_tenths_of_the_accuracy() -> None:
    assert metrics.oracle([0.9, 0.88, 0.82, 0.5], [1.0, 0.4, 0.1, 0.0]) == 2


def test_a_sweep_survives_the_stage_cache() -> None:
    sweep = small(ANP).repair(clean_model(), CLEAN, Context()).result
    again = unpack(SettingSweep, pack(sweep))

    assert (again.setting_name, again.chosen) == (sweep.setting_name, sweep.chosen)
    assert all(torch.equal(again.variants[name], value) for name, value in sweep.variants.items())


def test_a_victim_without_batch_norm_is_refused() -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(ValueError, match="has none; choose another victim"):
        Channels(Classifier(body, 4, 4, torch.zeros(1), torch.ones(1)))


def test_gradients_of_the_perturbed_loss_equal_finite_differences() -> None:
    channels, logits = masked_network(tiny_net())
    x, y = torch.rand(6, 1, 4, 4, generator=derive(0, "x"), dtype=torch.float64), torch.arange(6) % 3
    mask = torch.tensor([0.9, 0.4, 1.0], dtype=torch.float64)

    def loss(both: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits(x, channels.scaled(mask + both[:3], 1 + both[3:])), y)

    at = 0.1 * torch.randn(6, generator=derive(1, "x"), dtype=torch.float64)
    assert torch.autograd.gradcheck(loss, at.requires_grad_())


def test_ascent_moves_by_the_sign_of_the_gradient() -> None:
    delta, xi = ascend(
        torch.zeros(2), torch.ones(2), (torch.tensor([3.0, -0.1]), torch.tensor([-2.0, 0.0])), 0.4
    )

    assert torch.allclose(delta, torch.tensor([0.4, -0.4])) and torch.allclose(xi, torch.tensor([0.6, 1.0]))


def test_an_iteration_of_anp_equals_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    eps, alpha, lr = 0.3, 0.2, 0.05
    method = small(
        ANP, iterations=1, eps=eps, alpha=alpha, mask_lr=lr, batch_size=6, crop_padding=0, flip=False
    )
    found = learned_mask(anp, method, monkeypatch)

    channels, logits = masked_network(tiny_net())
    draws = Context().generator("anp")
    rows = torch.randint(6, (6,), generator=draws)
    x, y = as_floats(FEW.x[rows]).double(), FEW.y[rows]
    start = torch.cat(
        [eps * (2 * torch.rand(3, generator=draws) - 1) for _ in range(2)]
    ).double()  # delta, then xi

    def loss(mask: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits(x, channels.scaled(mask + noise[:3], 1 + noise[3:])), y)

    one = torch.ones(3, dtype=torch.float64)
    worst = start + eps * differences(lambda noise: loss(one, noise), start).sign()
    natural = differences(lambda mask: loss(mask, torch.zeros_like(start)), one)
    robust = differences(lambda mask: loss(mask, worst), one)
    expected = (one - lr * (alpha * natural + (1 - alpha) * robust)).clamp(0, 1)
    assert bool((expected < 1).any())
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)


def test_anp_can_prune_by_the_average_of_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(iterations: int, average: bool) -> torch.Tensor:
        steps = {"iterations": iterations, "average": average, "mask_lr": 0.05, "batch_size": 6}
        return learned_mask(anp, small(ANP, **steps, crop_padding=0, flip=False), monkeypatch)

    first, second = found(1, False), found(2, False)
    assert not torch.equal(first, second)
    assert torch.allclose(found(2, True), (first + second) / 2)


def test_a_recovering_step_of_rnp_equals_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rnp, "unlearn", lambda model, *rest: model)
    method = small(RNP, recover_epochs=1, recover_lr=0.5, alpha=0.2, batch_size=6, crop_padding=0, flip=False)
    found = learned_mask(rnp, method, monkeypatch)

    channels, logits = masked_network(tiny_net())
    x, one = as_floats(FEW.x).double(), torch.ones(3, dtype=torch.float64)
    slope = differences(lambda mask: F.cross_entropy(logits(x, channels.scaled(mask)), FEW.y), one)
    expected = (one - 0.5 * 0.2 * slope).clamp(0, 1)
    assert bool((expected < 1).any())
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)


def test_unlearning_stops_at_the_accuracy_asked_for() -> None:
    how = Unlearning(0.05, 0.9, 5e-4, (), 50, 10, 0.2, 0, False)
    ctx, heard = listening()

    forgotten = unlearn(clean_model(), CLEAN, how, ctx)

    reached = [e.value for e in heard if getattr(e, "name", "") == "unlearning_accuracy"]
    assert 1 <= len(reached) < 50 and reached[-1] <= 0.2 and all(a > 0.2 for a in reached[:-1])
    assert not forgotten.training


def test_loops_of_the_repositories_run_once_more_than_they_say() -> None:
    """Passes of unlearning (RNP) and of fine-tuning (TSBD): both count from 0 to 20."""
    assert (RNP.Config().unlearn_epochs, TSBD.Config().epochs) == (21, 21)


def test_unlearning_may_be_judged_by_the_finished_network() -> None:
    how = Unlearning(0.05, 0.9, 0.0, (), 1, 10, 0.0, 0, False)
    found = {}
    for counted in ("on the way", "after"):
        ctx, heard = listening()
        forgotten = unlearn(clean_model(), CLEAN, replace(how, counted=counted), ctx)
        found[counted] = [e.value for e in heard if getattr(e, "name", "") == "unlearning_accuracy"]

    assert found["after"] == [accuracy(forgotten, CLEAN.x, CLEAN.y)] != found["on the way"]


@pytest.mark.parametrize("method", [ANP, RNP])
def test_masks_stay_within_bounds_and_are_shown(method: type) -> None:
    ctx, heard = listening()
    small(method).repair(clean_model(), CLEAN, ctx)

    (masks,) = [e.value for e in heard if isinstance(e, ArtifactReady) and e.name == "masks"]
    assert int(masks.histogram.sum()) == Channels(clean_model()).count  # nothing fell out of [0, 1]


def test_a_run_reports_the_rule_and_the_oracle_side_by_side() -> None:
    spec = tiny_spec("anp", defense__iterations=2)
    heard: list[object] = []

    found = run_experiment(spec, Context(send=heard.append)).metrics

    (curve,) = [e.value for e in heard if isinstance(e, ArtifactReady) and e.name == "settings"]
    assert found["asr"] == pytest.approx(float(curve.asr[curve.chosen]))
    assert found["asr_oracle"] == pytest.approx(float(curve.asr[curve.oracle]))
    assert found["clean_accuracy"] == pytest.approx(float(curve.accuracy[curve.chosen]))
    assert found["setting"] == float(curve.settings[curve.chosen])


def test_settings_are_measured_on_some_images_and_what_the_oracle_names_on_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "SWEPT", 7)
    monkeypatch.setattr(metrics, "oracle", lambda accuracy, asr: 0)
    heard: list[object] = []

    found = run_experiment(tiny_spec("anp", defense__iterations=2), Context(send=heard.append)).metrics

    (curve,) = [e.value for e in heard if isinstance(e, ArtifactReady) and e.name == "settings"]
    assert all(float(7 * share) == pytest.approx(round(float(7 * share))) for share in curve.accuracy)
    assert found["clean_accuracy_oracle"] == found["clean_accuracy_undefended"]
    assert found["asr_oracle"] == found["asr_undefended"]


def test_settings_that_give_the_same_network_are_measured_once() -> None:
    bias = clean_model().state_dict()["head.bias"]
    sweep = SettingSweep(
        "pruned", torch.arange(3.0), torch.ones(3), 0, {"head.bias": torch.stack([bias, bias, bias + 1])}
    )
    asked: list[float] = []

    def measured(network: Classifier) -> dict[str, float | None]:
        asked.append(float(network.state_dict()["head.bias"][0] - bias[0]))
        return {"asr": asked[-1]}

    rates = rates_of_each(sweep, clean_model(), measured, Context())

    assert asked == pytest.approx([0.0, 1.0])
    assert [rate["asr"] for rate in rates] == pytest.approx([0.0, 0.0, 1.0])


def test_masked_passes_may_compute_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "has_bfloat16", lambda: True)
    x = as_floats(CLEAN.x)
    answers = {}
    for precision in (torch.float32, torch.bfloat16):
        channels, logits = masked_network(clean_model(), Context(precision=precision).autocast)
        answers[precision] = logits(x, channels.scaled(torch.ones(channels.count)))

    exact, rounded = answers.values()
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert torch.allclose(exact, rounded, rtol=0, atol=0.05 * float(exact.abs().max()))


@pytest.mark.parametrize(
    ("rule", "pruned"),
    [
        ({"choose_by": "threshold", "threshold": 0.2}, 3),  # 0.20004 is 0.2000 to four decimals
        ({"choose_by": "threshold", "threshold": 0.0}, 1),
        ({"choose_by": "number", "number": 0}, 0),
        ({"choose_by": "number", "number": 4}, 5),  # two masks of 0.5 go together
        ({"choose_by": "number", "number": 99_999}, 100),
    ],
)
def test_a_threshold_or_a_number_prunes_what_it_says(rule: dict[str, Any], pruned: int) -> None:
    mask = torch.ones(100)
    mask[:6] = torch.tensor([0.0, 0.1, 0.20004, 0.5, 0.5, 0.7])

    assert PruningRule(**rule).given_count(mask) == pruned
    assert PruningRule().given_count(mask) is None


def test_where_no_pattern_speaks_for_pruning_channels_go_while_they_cost_little() -> None:
    rule = PruningRule(free_loss=0.02)

    assert rule.within_free_loss(torch.tensor([0.70, 0.70, 0.69, 0.67, 0.69])) == 2
    assert rule.within_free_loss(torch.tensor([0.70, 0.71, 0.70])) == 2
    assert rule.within_free_loss(torch.tensor([0.70, 0.60])) == 0
    assert PruningRule().free_loss == 0 and small(ANP).config.free_loss == 0.02  # older records lack it


def test_a_pattern_that_stays_leaves_the_choice_to_what_accuracy_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = StandIn(torch.zeros(1, *CLEAN.shape), 1)
    monkeypatch.setattr(surrogate_trigger, "find_stand_ins", lambda *rest: [honest])
    monkeypatch.setattr(StandIn, "success", lambda *rest: 0.9)
    model = clean_model()
    mask = torch.linspace(0, 1, Channels(model).count)

    kept = prune_by(mask, model, CLEAN, PruningRule(free_loss=0.0, accuracy_price=100), Context()).result
    pruned = prune_by(mask, model, CLEAN, PruningRule(free_loss=1.0), Context()).result

    assert kept.clean_score[kept.chosen] >= kept.clean_score[0] and pruned.chosen == len(pruned.settings) - 1


@pytest.mark.parametrize("defense", [ANP, RNP])
def test_a_given_threshold_is_used_and_shown_as_a_parameter(defense: Any) -> None:
    short = {"choose_by": "threshold", "threshold": 0.5}
    repair = small(defense, **short).repair(clean_model(), digits().reserve, Context())
    sweep = repair.result

    assert not sweep.by_rule and len(sweep.stand_in) == 0
    assert sweep.settings[sweep.chosen] == int((repair.findings.channels.values <= 0.5).sum())
