"""What is special about adversarial weight masking: its two halves, its bounds, its few images."""

from typing import Any

import torch
from core_helpers import clean_model, digits, listening, noise_images, small, state_of
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from poisonlab.context import Context, derive
from poisonlab.defenses.awm import AWM, MaskedModel, ascend, augmented_copies, scale_to
from poisonlab.events import ArtifactReady, Progress
from poisonlab.models.base import Classifier, as_floats
from poisonlab.records import artifacts
from poisonlab.types import ImageSet


def tiny_net() -> Classifier:
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Softplus(), nn.Flatten())
    model = Classifier(body, 12, 3, torch.zeros(1), torch.ones(1)).double()
    for number, weight in enumerate(model.parameters()):
        nn.init.normal_(weight, generator=derive(number, "weights"))
    return model.eval().requires_grad_(False)


def repaired(clean: int = 20, **params: Any) -> tuple[Classifier, dict[str, Any], list[Any]]:
    """The repaired model, its artifacts by name, and everything it emitted."""
    ctx, heard = listening(seed=2)
    done = small(AWM, **params).repair(clean_model(), digits().reserve[:clean], ctx)
    return done.model(clean_model()), {e.name: e.value for e in heard if isinstance(e, ArtifactReady)}, heard


def test_ascent_step_equals_finite_differences() -> None:
    model, draws = MaskedModel(tiny_net()), derive(0, "x")
    weights = {name: 0.7 * w for name, w in model.weights.items()}
    x = torch.rand(5, 1, 4, 4, generator=draws, dtype=torch.float64)
    trigger = 0.01 * torch.randn(1, 1, 4, 4, generator=draws, dtype=torch.float64)
    answer = model(x, weights).argmax(1)

    def loss(t: torch.Tensor) -> float:
        return F.cross_entropy(model(x + t, weights), answer).item()

    h, expected = 1e-6, torch.zeros_like(trigger)
    for i in range(4):
        for j in range(4):
            nudge = torch.zeros_like(trigger)
            nudge[0, 0, i, j] = h
            expected[0, 0, i, j] = (loss(trigger + nudge) - loss(trigger - nudge)) / (2 * h)

    step = ascend(trigger, x, answer, model, weights, lr=10.0) - trigger
    assert torch.allclose(step, 10 * expected, rtol=1e-5, atol=1e-8)


def test_a_mask_step_goes_against_finite_differences_of_the_loss() -> None:
    """Adam's first step has the size eta_2, whatever the gradient: from m = 1 the masks can only fall by it."""
    net = tiny_net().float()
    draws = derive(0, "x")
    clean = ImageSet(
        torch.randint(256, (6, 1, 4, 4), generator=draws).to(torch.uint8),
        torch.arange(6) % 3,
        ("a", "b", "c"),
    )
    repair = small(
        AWM, rounds=1, inner_epochs=1, mask_lr=0.1, alpha=0.6, gamma=0.003, batch_size=6, augment_below=0
    )
    done = repair.repair(net, clean, Context())
    after = done.model(net)
    trigger = done.findings.trigger.patterns

    model = MaskedModel(tiny_net())
    (name,) = model.masks
    x = as_floats(clean.x).double()

    def loss(mask: torch.Tensor) -> float:
        weights = {name: mask * model.weights[name]}
        natural, triggered = (
            F.cross_entropy(model(images, weights), clean.y) for images in (x, (x + trigger).clamp(0, 1))
        )
        return (0.6 * natural + 0.4 * triggered + 0.003 * mask.sum()).item()

    h, slope = 1e-6, torch.ones(model.weights[name].numel(), dtype=torch.float64)
    for i in range(len(slope)):
        nudge = torch.zeros_like(slope)
        nudge[i] = h
        one = torch.ones_like(slope)
        slope[i] = (loss((one + nudge).view(3, 1, 3, 3)) - loss((one - nudge).view(3, 1, 3, 3))) / (2 * h)
    mask = (after.state_dict()[name] / net.state_dict()[name]).flatten().double()

    assert slope.abs().min() > 1e-5 and 0 < int((slope > 0).sum()) < len(slope)
    assert torch.allclose(mask, torch.where(slope > 0, 0.9, 1.0).double(), atol=1e-3)


def test_ascent_leaves_the_given_trigger_alone() -> None:
    model = MaskedModel(tiny_net())
    trigger = torch.zeros(1, 1, 4, 4, dtype=torch.float64)

    images, answer = torch.rand(2, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1])
    ascend(trigger, images, answer, model, model.weights, lr=1.0)

    assert int(trigger.count_nonzero()) == 0


def test_all_masks_at_one_are_the_model_itself() -> None:
    net = tiny_net()
    model, x = MaskedModel(net), torch.rand(3, 1, 4, 4, dtype=torch.float64)

    assert torch.equal(model(x, model.masked_weights()), net(x))


@given(st.floats(1e-3, 1e6), st.floats(0, 1e4), st.integers(0, 2**31))
def test_scaling_never_exceeds_the_budget_and_keeps_the_direction(tau: float, size: float, seed: int) -> None:
    trigger = size * torch.randn(1, 3, 4, 4, generator=derive(seed, "t"), dtype=torch.float64)
    before, scaled = trigger.abs().sum().item(), scale_to(trigger, tau)

    assert scaled.abs().sum().item() <= max(tau, 0) * (1 + 1e-9) + 1e-12
    if before <= tau:
        assert torch.equal(scaled, trigger)
    else:
        assert torch.allclose(scaled * before, trigger * tau)


def test_budget_is_scaled_with_the_number_of_entries() -> None:
    _, shown, _ = repaired(tau=3072.0, trigger_lr=1000.0, inner_epochs=3)

    assert shown["trigger"].l1_norm.item() <= 256 * (1 + 1e-5)  # 16x16 of 3x32x32 entries


def test_masks_stay_between_zero_and_one() -> None:
    before = dict(clean_model().named_parameters())
    model, _, _ = repaired(mask_lr=1.0, rounds=2)

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            mask = module.weight / before[f"{name}.weight"]
            assert mask.min() >= 0 and mask.max() <= 1 + 1e-5


def test_only_convolution_weights_change() -> None:
    before = state_of(clean_model())
    after = state_of(repaired(mask_lr=0.5)[0])
    convolutions = {f"{n}.weight" for n, m in clean_model().named_modules() if isinstance(m, nn.Conv2d)}

    assert {name for name in before if not torch.equal(before[name], after[name])} == convolutions


def test_mask_histogram_counts_every_convolution_weight() -> None:
    _, shown, _ = repaired()
    counted = shown["masks"].histogram.sum(1).tolist()
    convolutions = [m.weight.numel() for m in clean_model().modules() if isinstance(m, nn.Conv2d)]

    assert isinstance(shown["masks"], artifacts.NeuronScores) and counted == convolutions


def test_one_recovered_trigger_a_round_is_shown() -> None:
    _, shown, _ = repaired(rounds=3)
    trigger = shown["trigger"]

    assert isinstance(trigger, artifacts.TriggerReconstruction)
    assert trigger.patterns.shape == (3, 1, 16, 16) and bool((trigger.l1_norm > 0).all())


def test_class_histogram_counts_the_clean_images() -> None:
    _, shown, _ = repaired(clean=20, augment_below=0)

    assert shown["trigger"].class_histogram.sum(1).tolist() == [20]


def test_fewer_images_than_a_batch_still_train() -> None:
    _, _, heard = repaired(clean=5, batch_size=128, augment_below=0)
    last = [e for e in heard if isinstance(e, Progress)][-1]

    assert (last.step, last.total) == (2, 2)


def test_few_images_are_joined_by_copies() -> None:
    _, shown, _ = repaired(clean=10, copies=4, augment_below=11)

    assert shown["trigger"].class_histogram.sum(1).tolist() == [50]


def test_copies_keep_the_images_and_their_labels() -> None:
    data = noise_images(6)
    more = augmented_copies(data, 3, flip=True, generator=derive(0, "copies"))

    assert torch.equal(more.x[:6], data.x) and torch.equal(more.y, data.y.repeat(4))
    assert len(more.x) == 24 and not torch.equal(more.x[6:12], data.x)
