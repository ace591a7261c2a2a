"""What is special about the fine-tuning repairs: ft, ft_sam, nad and fp."""

from typing import Any

import pytest
import torch
from core_helpers import (
    clean_model,
    digits,
    listening,
    noise_images,
    normed_net,
    same_state,
    small,
    state_of,
)
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab import registry
from poisonlab.context import Context, derive
from poisonlab.defenses import ft
from poisonlab.defenses.fp import FP, last_allowed, pruning_curve
from poisonlab.defenses.ft import FT
from poisonlab.defenses.ft_sam import (
    FTSAM,
    SharpnessAware,
    over_all_classes,
    resting_statistics,
    worst_step,
)
from poisonlab.defenses.nad import NAD, Distillation, attention, attention_loss
from poisonlab.defenses.shared.feature_maps import stages, watching
from poisonlab.events import ArtifactReady, Metric
from poisonlab.models.base import Classifier, extract, predict
from poisonlab.records.artifacts import Curve


def two_batches() -> list[tuple[Tensor, Tensor]]:
    """Of four images of ``normed_net`` each, in double precision."""
    data = noise_images(8, (1, 6, 6), classes=3)
    x = data.x.double() / 255
    return [(x[:4], data.y[:4]), (x[4:], data.y[4:])]


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def repaired(method: Any, **params: Any) -> tuple[Classifier, list[Any]]:
    ctx, heard = listening(seed=3)
    done = small(method, **params).repair(clean_model(), digits().reserve[:20], ctx)
    return done.model(clean_model()), heard


def test_smoothing_that_leaves_the_own_class_no_more_than_others_is_refused() -> None:
    assert over_all_classes(0.89, classes=10) < 1
    with pytest.raises(ValueError, match="label_smoothing=0.95 .* set it below 0.9"):
        over_all_classes(0.95, classes=10)


@pytest.mark.parametrize("method", [FT, FTSAM, NAD, FP])
def test_what_a_baseline_is_told_reaches_its_training(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of single steps below take values of their own."""
    given: list[tuple[Any, Any]] = []
    monkeypatch.setattr(
        ft, "train_network", lambda model, data, recipe, ctx, hook: given.append((recipe, hook))
    )
    told = {"epochs": 3, "batch_size": 5, "lr": 0.02, "momentum": 0.7, "weight_decay": 3e-3}
    told |= {"crop_padding": 2, "flip": True}
    own: dict[Any, dict[str, float]] = {
        FTSAM: {"rho": 1.5, "label_smoothing": 0.09},
        NAD: {"power": 3.0, "beta_1": 1.0, "beta_2": 2.0, "beta_3": 4.0},
    }

    method(method.Config(**told, **own.get(method, {}))).repair(
        clean_model(), digits().reserve[:20], Context()
    )

    recipe, hook = given[-1]
    assert {name: getattr(recipe, name) for name in told} == told
    assert recipe.label_smoothing == pytest.approx(0.1 if method is FTSAM else 0)
    if method is FTSAM:
        assert hook.rho == 1.5
    if method is NAD:
        assert (hook.power, hook.betas) == (3.0, (1.0, 2.0, 4.0))


# -- FT -----------------------------------------------------------------------------------------------


def test_fine_tuning_teaches_the_clean_images() -> None:
    data = digits().reserve[:20]
    shuffled = data.y.roll(1)
    relabeled = type(data)(data.x, shuffled, data.classes)

    method = small(FT, epochs=40, flip=False, crop_padding=0, lr=0.1)
    tuned = method.repair(clean_model(), relabeled, Context()).model(clean_model())

    assert (predict(tuned, data.x) == shuffled).float().mean() > 0.9


def test_fine_tuning_moves_weights_and_running_statistics() -> None:
    before, after = state_of(clean_model()), state_of(repaired(FT)[0])
    fixed = {name for name in before if torch.equal(before[name], after[name])}

    assert fixed == {"normalize.mean", "normalize.std"}


# -- FT-SAM -------------------------------------------------------------------------------------------


def test_the_worst_step_has_the_closed_form_and_lies_on_the_sphere() -> None:
    weights, gradients = (
        [torch.tensor([2.0, -1.0]), torch.tensor([[3.0]])],
        [torch.tensor([1.0, 4.0]), torch.tensor([[0.0]])],
    )
    step = worst_step(weights, gradients, rho=0.5)

    norm = (2.0**2 + 4.0**2) ** 0.5  # of T g = (2, 4, 0), over both tensors
    assert torch.allclose(step[0], 0.5 * torch.tensor([4.0, 4.0]) / norm) and not step[1].any()
    scaled = torch.cat([(s / w).flatten() for s, w in zip(step, weights, strict=True)])
    assert scaled.norm().item() == pytest.approx(0.5)


def test_no_step_raises_a_linear_loss_more() -> None:
    draws = derive(0, "steps")
    w, g = torch.randn(6, generator=draws), torch.randn(6, generator=draws)
    (best,) = worst_step([w], [g], rho=1.0)
    others = torch.randn(500, 6, generator=draws)
    others = others / others.norm(dim=1, keepdim=True) * w.abs()  # on the same sphere

    assert (others @ g).max() <= best @ g + 1e-6


def test_the_gradient_is_the_one_at_the_shifted_weights() -> None:
    """L = a w^2 / 2 with w = 2, a = 3, rho = 0.1: e = rho |w| = 0.2, gradient a (w + e) = 6.6."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    loss = SharpnessAware(0.1).backward(model, lambda: 1.5 * model.weight.square().sum())

    assert loss.item() == 6.0 and model.weight.item() == pytest.approx(2.0)
    assert model.weight.grad is not None and model.weight.grad.item() == pytest.approx(6.6)


def test_the_second_pass_leaves_the_running_statistics() -> None:
    norm = nn.BatchNorm2d(2).train()
    with resting_statistics(norm):
        norm(torch.rand(4, 2, 3, 3))
    assert norm.momentum == 0.1 and bool((norm.running_mean == 0).all())


def test_steps_are_those_of_backdoorbench() -> None:
    """Numbers from SCLBD/BackdoorBench f02e353, utils/defense_utils/sam: rho 2, SGD 0.01, momentum 0.9, decay 5e-4."""
    model, batches = normed_net().train(), two_batches()
    norm = model.body[1]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    smoothing = over_all_classes(0.1, classes=3)
    hook = SharpnessAware(2.0)
    weights = []
    for x, y in [*batches, batches[0]]:
        optimizer.zero_grad()
        hook.backward(model, lambda x=x, y=y: hook.loss(model(x), y, smoothing))  # type: ignore[misc]
        optimizer.step()
        schedule.step()
        weights.append((model.head.bias.detach().clone(), norm.weight.detach().clone()))

    for (bias, scale), (expected_bias, expected_scale) in zip(
        [weights[0], weights[2]],
        [
            (
                numbers(-0.898864084213, 0.0606823283405, 0.451301472569),
                numbers(-0.807466746148, -0.263996291649),
            ),
            (
                numbers(-0.916737058589, 0.0768026465697, 0.453063040226),
                numbers(-0.807684465101, -0.262319257821),
            ),
        ],
        strict=True,
    ):
        assert torch.allclose(bias, expected_bias, rtol=0, atol=1e-10)
        assert torch.allclose(scale, expected_scale, rtol=0, atol=1e-10)
    assert torch.allclose(norm.running_mean, numbers(0.871356255168, 0.552289781241), atol=1e-10)


def test_the_worst_step_is_that_of_backdoorbench() -> None:
    """The repository as above: what the first step adds to the head's biases and to the scales of the first norm."""
    model, (x, y) = normed_net().train(), two_batches()[0]
    F.cross_entropy(model(x), y, label_smoothing=over_all_classes(0.1, classes=3)).backward()
    weights = dict(model.named_parameters())
    gradients = [p.grad for p in weights.values() if p.grad is not None]

    step = dict(zip(weights, worst_step([p.detach() for p in weights.values()], gradients, 2.0), strict=True))

    assert torch.allclose(
        step["head.bias"], numbers(0.335517126208, -0.00233121821898, 0.0550355884104), atol=1e-10
    )
    assert torch.allclose(step["body.1.weight"], numbers(-0.0629518881301, -0.00539331358155), atol=1e-10)


def test_smoothing_takes_its_mass_from_the_given_class() -> None:
    """The gradient of ``smooth_crossentropy`` in SCLBD/BackdoorBench f02e353, utils/defense_utils/sam/util.py."""
    logits = numbers(0.5, -1.0, 2.0)[None].requires_grad_()
    loss = F.cross_entropy(logits, torch.tensor([1]), label_smoothing=over_all_classes(0.1, classes=3))
    (gradient,) = torch.autograd.grad(loss, logits)

    assert torch.allclose(gradient[0], numbers(0.12529039214, -0.860887426729, 0.735597034589), atol=1e-10)


def test_a_vanishing_radius_is_fine_tuning() -> None:
    sam = repaired(FTSAM, rho=1e-9, label_smoothing=0.0)[0].head.weight

    assert torch.allclose(sam, repaired(FT)[0].head.weight, atol=1e-5)


# -- NAD ----------------------------------------------------------------------------------------------


def test_attention_is_the_normalized_sum_of_powers() -> None:
    features = torch.tensor([[[[1.0, -2.0]], [[2.0, 2.0]]]])  # (1, 2, 1, 2): two channels, two places

    assert torch.allclose(attention(features, 2.0), torch.tensor([[[5.0, 8.0]]]) / 89**0.5)
    assert torch.allclose(attention(7 * features, 2.0), attention(features, 2.0))
    assert not attention(torch.zeros(1, 2, 3, 3), 2.0).any()


def test_attention_loss_weighs_the_stages() -> None:
    a, b = noise_images(6, (3, 4, 4)).x.float().chunk(2)
    one = F.mse_loss(attention(a, 2.0), attention(b, 2.0))

    assert torch.allclose(attention_loss([a, a, a], [b, a, b], [2.0, 100.0, 5.0], 2.0), 7 * one)


def test_attention_is_that_of_the_repository() -> None:
    """Numbers from bboylyg/NAD f17b713, at.py, with p = 2; it adds 1e-6 to the norm."""
    one = torch.tensor([[[[1.0, -2.0], [0.5, 0.0]], [[3.0, 1.0], [-1.0, 2.0]]]])
    other = torch.tensor([[[[0.0, 1.0], [2.0, -1.0]], [[1.0, -3.0], [0.5, 1.0]]]])

    expected = numbers(0.837524098992, 0.418762049496, 0.104690512374, 0.335009639597).float().view(1, 2, 2)
    assert torch.allclose(attention(one, 2.0), expected, rtol=1e-6)
    assert F.mse_loss(attention(one, 2.0), attention(other, 2.0)).item() == pytest.approx(
        0.22325322, rel=1e-6
    )


def test_steps_of_the_student_are_those_of_the_repository() -> None:
    """Numbers from ``train_step`` of bboylyg/NAD f17b713, main.py: two batches, SGD 0.01, betas 5, 10 and 10."""
    student, teacher = normed_net().train(), normed_net()
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.mul_(0.9)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True)
    names = ["0", "2", "5"]
    with watching(student, names) as of_student, watching(teacher, names) as of_teacher:
        hook = Distillation(teacher, (of_student, of_teacher), (5.0, 10.0, 10.0), 2.0)
        for x, y in two_batches():
            hook.batch(x, y, y)
            optimizer.zero_grad()
            hook.loss(student(x), y, 0.0).backward()
            optimizer.step()

    assert torch.allclose(
        student.head.bias, numbers(-0.90351888639, 0.071975470607, 0.444662981594), atol=1e-8
    )
    assert torch.allclose(student.body[1].weight, numbers(-0.80551717194, -0.261783600177), atol=1e-7)


@pytest.mark.parametrize(
    ("victim", "expected"), [("resnet8", "345"), ("resnet18", "68a"), ("resnet9", "235")]
)
def test_stages_end_the_last_three_resolutions(victim: str, expected: str) -> None:
    method = registry.victim[victim]
    model = method(method.Config(width=8)).network((1, 16, 16), 3, torch.zeros(1), torch.ones(1)).eval()

    assert stages(model, torch.zeros(1, 1, 16, 16), 3) == [str(int(digit, 16)) for digit in expected]


def test_watching_ends_with_its_block() -> None:
    model = clean_model()
    with watching(model, ["3"]) as seen:
        predict(model, digits().test.x[:2])
        predict(model, digits().test.x[:2])
        assert len(seen) == 1
    assert not any(module._forward_hooks for module in model.modules())


def test_the_teacher_reports_under_its_own_name_and_the_student_keeps_no_hook() -> None:
    student, heard = repaired(NAD)

    assert {e.name for e in heard if isinstance(e, Metric)} == {"loss", "teacher_loss"}
    assert not any(module._forward_hooks for module in student.modules())


# -- fine-pruning -------------------------------------------------------------------------------------


def test_the_pruning_curve_counts_what_the_head_still_gets_right() -> None:
    head = nn.Linear(3, 2, bias=False).requires_grad_(False)
    head.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 5.0]]))
    features = torch.tensor(
        [[2.0, 0.0, 0.1], [1.0, 0.0, 0.3]]
    )  # the second is class 1 by its last channel alone

    counts, accuracy = pruning_curve(features, torch.tensor([0, 1]), head, torch.tensor([1, 2, 0]), 1)

    assert counts.tolist() == [0, 1, 2] and accuracy.tolist() == [1.0, 1.0, 0.5]


def test_the_least_active_channels_are_cut_and_stay_cut() -> None:
    model, heard = repaired(FP, accuracy_drop=0.3, epochs=3)
    cut = (model.head.weight == 0).all(0)
    order = extract(clean_model(), digits().reserve[:20].x).mean(0).argsort(stable=True)
    (curve,) = [e.value for e in heard if isinstance(e, ArtifactReady)]

    assert 0 < int(cut.sum()) < len(cut) and set(order[: int(cut.sum())].tolist()) == set(
        cut.nonzero().flatten().tolist()
    )
    assert isinstance(curve, Curve) and curve.y[0, int(cut.sum())] > 0.7 * curve.y[0, 0]


# What the loop of SCLBD/BackdoorBench f02e353, defense/fp.py, calls its last allowed count of channels, handed these
# accuracies in place of measured ones; in the third set an absolute fall of 0.1 would allow 36.
@pytest.mark.parametrize(
    ("accuracies", "step", "count"),
    [
        ([0.625, 0.61, 0.6, 0.58, 0.57, 0.565, 0.56, 0.55, 0.5], 1, 5),
        ([0.95, 0.94, 0.9, 0.87, 0.86, 0.85, 0.8], 1, 4),
        ([0.5, 0.5, 0.48, 0.46, 0.455, 0.449, 0.44], 6, 24),
    ],
)
def test_pruning_ends_before_a_tenth_of_the_accuracy_is_lost(
    accuracies: list[float], step: int, count: int
) -> None:
    assert last_allowed(torch.tensor(accuracies, dtype=torch.float64), 0.1) * step == count


def test_an_accuracy_that_rises_allows_more_and_one_of_nothing_allows_none() -> None:
    assert last_allowed(torch.tensor([0.5, 0.6, 0.7, 0.4]), 0.1) == 2
    assert last_allowed(torch.zeros(3), 0.1) == 0


def test_without_room_for_loss_fine_pruning_is_fine_tuning() -> None:
    model, _ = repaired(FP, accuracy_drop=0.0)

    assert not (model.head.weight == 0).all(0).any()
    assert not same_state(state_of(model), state_of(clean_model()))
