"""What is special about Beatrix: Gram matrices of powers, the usual range, and two kinds of images in a class."""

import copy
import math

import pytest
import torch
from core_helpers import clean_model, digits, listening, small
from torch import Tensor

from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.defenses.beatrix import (
    Beatrix,
    Ranges,
    Usual,
    deviation,
    gram_entries,
    middle,
    two_samples,
    usual_range,
)
from poisonlab.events import Cancelled, Event, Progress
from poisonlab.models.base import predict
from poisonlab.pipeline.experiment import run_experiment


def maps(n: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, 4, 3, 2, generator=torch.Generator().manual_seed(seed))


def test_gram_entries_are_those_of_two_channels_by_hand() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).view(1, 2, 1, 2)

    found = [gram_entries(features, power)[0].tolist() for power in (1, 2, 3)]

    # entries (1, 1), (1, 2), (2, 2): plain, of squares under a root, of cubes under a third root
    assert found[0] == pytest.approx([5, 1, 10])
    assert found[1] == pytest.approx([math.sqrt(17), math.sqrt(13), math.sqrt(82)], rel=1e-5)
    assert found[2] == pytest.approx([65 ** (1 / 3), 19 ** (1 / 3), 730 ** (1 / 3)], rel=1e-5)


def test_a_negative_product_keeps_its_sign_under_the_root() -> None:
    features = torch.tensor([[1.0, 0.0], [-2.0, 0.0]]).view(1, 2, 1, 2)

    assert gram_entries(features, 3)[0].tolist() == pytest.approx([1, -2, 4], rel=1e-5)


@pytest.mark.parametrize("scale", [2.0, 1e-3, 1e6])
def test_features_of_another_scale_deviate_as_much(scale: float) -> None:
    config = small(Beatrix, deviations=1.0).config

    def excess(factor: float) -> Tensor:
        return Usual.of(factor * maps(12), config).excess(factor * 3 * maps(5, seed=1))

    expected = excess(1.0)

    assert (expected > 0).all()
    assert torch.allclose(excess(scale), expected, rtol=1e-3)


def test_a_class_is_judged_by_all_powers_and_the_held_out_fifth() -> None:
    """Against the same written out with all entries at once and torch's own quantiles."""
    config = small(Beatrix, deviations=2.0, powers=3).config
    trusted = maps(12)
    entries = torch.stack([gram_entries(trusted, power) for power in (1, 2, 3)], 1)

    def ends(of: Tensor) -> tuple[Tensor, Tensor]:
        median = of.quantile(0.5, 0)
        spread = (of - median).abs().quantile(0.5, 0)
        return median - 2 * spread, median + 2 * spread

    def apart(of: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return ((low - of).relu() / low.abs() + (of - high).relu() / high.abs()).flatten(1).mean(1)

    fold = torch.arange(12) % 5
    held_out = torch.cat([apart(entries[fold == f], *ends(entries[fold != f])) for f in range(5)])
    threshold = float(held_out.quantile(config.quantile))
    other = 3 * maps(5, seed=1)
    of_other = torch.stack([gram_entries(other, power) for power in (1, 2, 3)], 1)

    usual = Usual.of(trusted, config)

    assert usual.threshold == pytest.approx(threshold, rel=1e-4) and threshold > 0
    assert torch.allclose(usual.excess(other), apart(of_other, *ends(entries)) - threshold, rtol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_middle_is_the_median(count: int) -> None:
    values = torch.randn(count, 3, 4, generator=torch.Generator().manual_seed(count))

    assert torch.equal(middle(values), values.quantile(0.5, 0))


def test_wide_layers_are_judged_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(Beatrix).config
    whole = Usual.of(maps(12), config)
    expected = whole.excess(3 * maps(5, seed=1))
    monkeypatch.setattr("poisonlab.defenses.beatrix.MOST_ENTRIES", 2 * 4**2)

    in_parts = Usual.of(maps(12), config)

    assert torch.allclose(in_parts.excess(3 * maps(5, seed=1)), expected, rtol=1e-4)


def test_the_deviation_is_relative_to_the_end_that_was_left() -> None:
    low = torch.tensor([1.0, -4.0])
    high = torch.tensor([2.0, 4.0])
    entries = torch.tensor([[0.5, 0.0], [5.0, -6.0], [1.5, 3.0]])

    assert deviation(entries, low, high).tolist() == pytest.approx([0.5 / 2, (1.5 + 0.5) / 2, 0])


def test_the_usual_range_is_median_and_absolute_deviation() -> None:
    entries = torch.tensor([1.0, 2.0, 3.0, 4.0, 100.0]).view(5, 1)

    low, high = usual_range(entries, 10)

    assert (low.item(), high.item()) == (3 - 10, 3 + 10)


def test_two_kinds_differ_and_two_halves_of_one_kind_hardly_do() -> None:
    draws = torch.Generator().manual_seed(0)
    one = torch.randn(60, 5, generator=draws)
    alike = torch.randn(40, 5, generator=draws)

    assert two_samples(one, alike + 3) > 10 * two_samples(one, alike) > 0
    assert two_samples(one, alike + 3) == pytest.approx(two_samples(alike + 3, one))
    assert two_samples(torch.ones(3, 2), torch.ones(4, 2)) == 0


def test_an_image_is_judged_by_itself_and_by_the_class_that_is_said() -> None:
    model = clean_model()
    clean = digits().train
    method = small(Beatrix)
    x = digits().test.x[:30]

    together = method.screen(model, clean, x, Context(seed=1))
    alone = torch.cat([method.screen(model, clean, one[None], Context(seed=1)) for one in x[:6]])

    assert together.unique().numel() > 5
    assert torch.allclose(together[:6], alone, rtol=1e-4, atol=1e-6)
    ranges = Ranges(model, clean, method.config, Context(seed=1))
    usual = ranges.of(int(predict(model, x[:1])))
    assert torch.allclose(ranges.judge(usual, x[:1])[0], together[:1], rtol=1e-4, atol=1e-6)


def test_classes_with_too_few_trusted_images_are_named_and_suspect_nothing() -> None:
    ctx, heard = listening(seed=1)
    clean = digits().train
    few = clean[torch.cat([(clean.y != 3).nonzero().squeeze(1), (clean.y == 3).nonzero().squeeze(1)[:2]])]

    x = digits().test.x
    said = predict(clean_model(), x)
    scores = small(Beatrix).screen(clean_model(), few, x, ctx)

    ranges = Ranges(clean_model(), few, small(Beatrix).config, Context(seed=1))
    assert 3 not in ranges.trusted and (said == 3).any()
    highest = max(ranges.of(label).threshold for label in ranges.trusted)
    assert scores[said == 3].unique().tolist() == pytest.approx([-highest])
    assert any(
        "fewer than 5 trusted images" in str(event) and few.classes[3] in str(event) for event in heard
    )
    found = small(Beatrix).detect(clean_model(), few, digits().train, Context(seed=1))
    assert found.class_scores[3] == 0 and not found.flagged[digits().train.y == 3].any()


def test_at_the_threshold_one_trusted_image_in_twenty_is_suspected() -> None:
    """By hold-out: the range that an image is judged by was set without it."""
    clean = digits().train
    config = small(Beatrix, per_class=20).config
    ranges = Ranges(clean_model(), clean, config, Context(seed=1))

    shares = [
        (ranges.judge(ranges.of(c), clean.x[clean.y == c])[0] > 0).float().mean().item()
        for c in ranges.trusted
    ]

    assert sum(shares) / len(shares) <= 0.2


def test_an_image_passes_the_network_once_to_be_flagged() -> None:
    model = copy.deepcopy(clean_model())
    passed: list[int] = []
    model.body.register_forward_pre_hook(lambda module, inputs: passed.append(len(inputs[0])))
    clean = digits().train
    suspects = digits().train

    small(Beatrix, per_class=5).detect(model, clean, suspects, Context(seed=1))

    assert sum(passed) == 1 + 5 * len(clean.classes) + len(suspects)  # one image finds the layer


def test_it_can_be_cancelled_between_two_classes_of_a_screening() -> None:
    def refuse(event: Event) -> None:
        if isinstance(event, Progress):
            raise Cancelled

    with pytest.raises(Cancelled):
        small(Beatrix).screen(clean_model(), digits().train, digits().test.x, Context(send=refuse))
    assert not torch.is_inference_mode_enabled()
    assert not any(module._forward_hooks for module in clean_model().modules())


def test_a_network_that_gives_the_same_for_every_image_suspects_none() -> None:
    model = copy.deepcopy(clean_model())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("conv.weight") or "conv1.weight" in name or name == "body.0.weight":
                weight.zero_()
    x = digits().test.x
    assert predict(model, x).unique().numel() == 1

    scores = small(Beatrix).screen(model, digits().train, x, Context(seed=1))
    found = small(Beatrix).detect(model, digits().train, digits().train, Context(seed=1))

    assert scores.isfinite().all() and not (scores > 0).any()
    assert not found.backdoored and not found.flagged.any()


def test_too_few_trusted_images_to_judge_any_class_are_refused_before_anything_is_computed(spec) -> None:
    heard: list[object] = []

    with pytest.raises(
        ValueError, match="clean_images=30 no class of 10 has as many; set clean_images to 50"
    ):
        run_experiment(spec("beatrix", clean_images=30), Context(send=heard.append))

    assert not heard


def test_where_half_of_the_trusted_images_are_too_few_training_images_are_judged_and_inputs_are_not(
    spec, shared_cache: StageCache
) -> None:
    """Scores that are all the same would be told as an area under the curve of 0.5."""
    for _ in range(2):  # computed, and out of the cache
        ctx, heard = listening(cache=shared_cache)
        found = run_experiment(spec("beatrix", clean_images=50), ctx).metrics

        assert found["sample_auroc"] != 0.5
        assert not any(name.startswith("screen_") for name in found)
        assert any("which are too few to screen by" in str(event) for event in heard)
