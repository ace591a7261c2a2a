"""What is special about the screens of inputs: scale_up, ibd_psc, cognitive_distillation, and strip in its own home."""

import copy

import pytest
import torch
from core_helpers import clean_model, digits, listening, same_state, small, state_of
from torch import Tensor, nn

from poisonlab.context import Context
from poisonlab.defenses.cognitive_distillation import (
    CognitiveDistillation,
    distilled_masks,
    total_variation,
)
from poisonlab.defenses.ibd_psc import IBDPSC, amplified, first_that_errs, norms_of
from poisonlab.defenses.scale_up import ScaleUp, scaled_prediction_consistency, standardized
from poisonlab.defenses.strip import Strip
from poisonlab.events import Log
from poisonlab.models.base import Classifier, logits
from poisonlab.types import ImageSet


class Brightness(nn.Module):
    """One feature: the mean of an image's pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1, keepdim=True)


def brightness_model(threshold: float) -> Classifier:
    """Class 1 of images whose mean lies above ``threshold``, else class 0."""
    model = Classifier(Brightness(), 1, 2, torch.zeros(1), torch.ones(1)).eval().requires_grad_(False)
    model.head.weight.copy_(torch.tensor([[0.0], [1.0]]))
    model.head.bias.copy_(torch.tensor([threshold, 0.0]))
    return model


def gray(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


# -- SCALE-UP -----------------------------------------------------------------------------------------


def test_consistency_is_the_share_of_factors_that_change_no_answer() -> None:
    # 0.5 of 255 is 127.5: 20 is left behind from factor 7 on, 30 from 5 on, 200 never, 0 never
    scores, answers = scaled_prediction_consistency(brightness_model(0.5), gray(20, 30, 200, 0), 5)

    assert answers.tolist() == [0, 0, 1, 0]
    assert scores.tolist() == pytest.approx([2 / 5, 1 / 5, 1.0, 1.0])


def test_a_constant_classifier_agrees_with_itself() -> None:
    x = digits().test.x[:9]
    model = clean_model()
    constant = Classifier(Brightness(), 1, 10, torch.zeros(1), torch.ones(1)).eval().requires_grad_(False)
    constant.head.weight.zero_()

    assert scaled_prediction_consistency(constant, x, 5)[0].tolist() == [1.0] * 9
    assert set((5 * scaled_prediction_consistency(model, x, 5)[0]).round().int().tolist()) <= set(range(6))


def test_pixels_are_clipped_and_never_wrap() -> None:
    brightest = scaled_prediction_consistency(brightness_model(0.99), gray(255), 50)[0]

    assert brightest.tolist() == [1.0]


def test_with_trusted_images_a_class_is_compared_with_its_own_and_a_rare_one_with_all() -> None:
    known = torch.tensor([0.2, 0.4, 0.6, 1.0])
    scores = standardized(
        torch.tensor([1.0, 1.0]), torch.tensor([0, 1]), known, known_answers=torch.tensor([0, 0, 0, 1])
    )

    assert scores.tolist() == pytest.approx([(1 - 0.4) / 0.2, (1 - 0.55) / float(known.std())])


def test_the_papers_threshold_is_that_of_agreement_alone() -> None:
    assert small(ScaleUp).screening_limit() == 0.5
    assert small(ScaleUp, data_limited=True).screening_limit() is None
    assert small(Strip).screening_limit() is None


# -- IBD-PSC ------------------------------------------------------------------------------------------


def test_only_the_last_norms_are_amplified_in_a_copy() -> None:
    model = clean_model()
    before = state_of(model)

    stronger = amplified(model, 2, 1.5)

    assert same_state(state_of(model), before)
    pairs = list(zip(norms_of(model), norms_of(stronger), strict=True))
    assert all(torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias) for a, b in pairs[:-2])
    assert all(torch.allclose(1.5 * a.weight, b.weight) for a, b in pairs[-2:])
    assert all(torch.allclose(1.5 * a.bias, b.bias) for a, b in pairs[-2:])
    assert all(torch.equal(a.running_mean, b.running_mean) for a, b in pairs)


def test_without_amplification_the_score_is_the_confidence() -> None:
    model, clean, x = clean_model(), digits().reserve[:20], digits().test.x[:16]
    method = IBDPSC(IBDPSC.Config.model_construct(factor=1.0, error=0.6, copies=5, threshold=0.9))

    scores = method.screen(model, clean, x, Context())

    assert torch.allclose(scores, logits(model, x).softmax(1).amax(1), atol=1e-6)


def test_the_least_amplified_network_that_errs_is_the_first() -> None:
    model, clean = clean_model(), digits().reserve
    errors = []
    count = len(norms_of(model))
    for last in range(1, count + 1):
        wrong = logits(amplified(model, last, 3.0), clean.x).argmax(1) != clean.y
        errors.append(wrong.double().mean().item())
    bar = sorted(errors)[count // 2] - 1e-3
    expected = next((i for i, e in enumerate(errors, 1) if e > bar), count)

    assert first_that_errs(model, clean, 3.0, bar) == expected


def test_a_network_that_never_errs_enough_is_amplified_whole_and_the_log_says_so() -> None:
    ctx, heard = listening()

    small(IBDPSC, error=0.999).screen(clean_model(), digits().reserve[:20], digits().test.x[:4], ctx)

    assert [e.message for e in heard if isinstance(e, Log)] == [
        f"all {len(norms_of(clean_model()))} batch norms are amplified: fewer do not make the network err enough"
    ]


def test_a_network_without_batch_norms_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(ValueError, match="ibd_psc amplifies batch norms, of which this victim has none"):
        small(IBDPSC).check_network(brightness_model(0.5), (1, 2, 2))


# -- STRIP --------------------------------------------------------------------------------------------


def test_strip_finds_an_input_that_nothing_disturbs_more_suspicious() -> None:
    model = brightness_model(0.5)
    clean = ImageSet(gray(0, 40, 90, 160), torch.zeros(4, dtype=torch.long), ("a", "b"))

    steady, torn = small(Strip).screen(model, clean, gray(255, 110), Context()).tolist()

    assert steady > torn


# -- Cognitive Distillation ---------------------------------------------------------------------------


def test_total_variation_of_a_hand_example() -> None:
    masks = torch.tensor([[[[0.0, 1.0], [0.5, 1.0]]], [[[0.3, 0.3], [0.3, 0.3]]]])

    assert total_variation(masks).tolist() == pytest.approx([(0.25 + 0 + 1 + 0.25) / 4, 0])


def test_an_answer_that_hangs_on_nothing_needs_no_part_of_the_image() -> None:
    constant = Classifier(Brightness(), 1, 10, torch.zeros(1), torch.ones(1)).eval().requires_grad_(False)
    constant.head.weight.zero_()
    config = CognitiveDistillation.Config(steps=60)

    masks = distilled_masks(constant, digits().test.x[:3], config, torch.rand(60, 1))

    assert masks.max().item() < 0.05


class Corner(nn.Module):
    """One feature: the mean of the 4x4 pixels in the lower right corner."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., -4:, -4:].flatten(1).mean(1, keepdim=True)


def test_the_mask_lies_on_the_pixels_that_the_answer_hangs_on() -> None:
    model = Classifier(Corner(), 1, 2, torch.zeros(1), torch.ones(1)).eval().requires_grad_(False)
    model.head.weight.copy_(torch.tensor([[-40.0], [40.0]]))
    x = digits().test.x[:4].clone()
    x[..., -4:, -4:] = 255
    config = CognitiveDistillation.Config(steps=100, beta=0.1)

    masks = distilled_masks(model, x, config, torch.rand(100, 1, generator=torch.Generator().manual_seed(0)))

    inside = masks[..., -4:, -4:].sum() / masks.sum()
    assert inside.item() >= 5 * 16 / masks[0].numel()


def test_the_scale_of_the_logits_is_the_networks_not_the_victims() -> None:
    plain, scaled = clean_model(), copy.deepcopy(clean_model())
    scaled.logit_scale = 1 / 9
    config, colors, x = CognitiveDistillation.Config(steps=5), torch.rand(5, 1), digits().test.x[:3]

    assert torch.allclose(
        distilled_masks(plain, x, config, colors), distilled_masks(scaled, x, config, colors), atol=1e-4
    )


def test_a_mask_moves_wherever_it_may_start() -> None:
    """Further out the hyperbolic tangent is 1 in single precision, and no mask would ever change."""
    config = CognitiveDistillation.Config(steps=100, start=5.0, beta=0)
    colors = torch.rand(100, 1, generator=torch.Generator().manual_seed(0))

    masks = distilled_masks(clean_model(), digits().test.x[:4], config, colors)

    assert float(masks.mean()) < 0.9
    for start in (-10.0, 10.0):
        with pytest.raises(ValueError, match="start"):
            CognitiveDistillation.Config(start=start)
