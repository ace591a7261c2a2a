"""What is special about TSBD: which weights go, and the gradient of its second stage."""

import pytest
import torch
from core_helpers import clean_model, digits, listening, network, noise_images, small
from torch import nn
from torch.nn import functional as F

from poisonlab.context import Context, derive
from poisonlab.defenses import tsbd
from poisonlab.defenses.tsbd import TSBD, ActivenessAware, TSBDConfig, neuron_weight_change, reinitialize
from poisonlab.events import ArtifactReady
from poisonlab.models.base import Classifier
from poisonlab.training.loop import train_network
from poisonlab.types import ImageSet

CLEAN = digits().reserve[:20]
# of test_fine_tuning_takes_the_steps_of_the_official_code: running means and variances, scales, shifts, head's bias
OFFICIAL = (
    *(0.298793603, -0.795173637, -0.344850415),
    *(0.826055301, 0.804225992, 0.760632807),
    *(-1.486443877, -1.601639115, 0.160898096),
    *(-0.96160302, -1.297214147, -1.248875795),
    *(0.041922757, 1.035212537, 0.988940962),
)


def test_weight_change_counts_every_convolution_but_shortcuts() -> None:
    model = clean_model()
    change = neuron_weight_change(model, model)

    assert all(int(rows.count_nonzero()) == 0 for rows in change.values())
    assert not any("shortcut" in name for name in change)
    kernels = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert sum(len(rows) for rows in change.values()) == sum(m.out_channels for m in kernels)


def test_pointwise_convolutions_count_unless_they_are_shortcuts() -> None:
    model = network(noise_images(8, (3, 16, 16)), "mobilenetv2", width=0.25)
    change = neuron_weight_change(model, model)

    kernels = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    shortcuts = {name for name in kernels if "shortcut" in name}
    assert shortcuts and set(change) == {f"{name}.weight" for name in kernels if name not in shortcuts}
    pointwise = sum(m.weight.numel() for m in kernels.values() if m.kernel_size == (1, 1))
    assert pointwise / sum(m.weight.numel() for m in kernels.values()) > 0.8


def test_weights_that_a_network_keeps_fixed_are_left_out() -> None:
    data = noise_images(8, (3, 32, 32))
    fixed = network(data, "hyperlight", first=8, others=16, whitening=True)
    learned = network(data, "hyperlight", first=8, others=16)

    assert len(neuron_weight_change(fixed, fixed)) == len(neuron_weight_change(learned, learned)) - 1


def test_neurons_and_weights_are_counted_downwards() -> None:
    model = clean_model()
    change = {n: torch.zeros_like(rows) for n, rows in neuron_weight_change(model, model).items()}
    first = list(change)[0]
    width = change[first].shape[1]
    change[first][0] = torch.linspace(1, 2, width)
    neurons = sum(len(rows) for rows in change.values())

    renewed = reinitialize(
        model, change, 1.9 / neurons, 4.9 / width
    )  # int() in the repository: one neuron, 4 weights

    before, after = model.state_dict(), renewed.state_dict()
    assert sum(int((before[name] != after[name]).sum()) for name in change) == 4


def test_reinitialization_zeroes_the_most_changed_weights_of_the_most_changed_neurons() -> None:
    model = clean_model()
    change = {n: torch.zeros_like(rows) for n, rows in neuron_weight_change(model, model).items()}
    first, last = list(change)[0], list(change)[-1]
    change[first][1] = torch.linspace(1, 2, change[first].shape[1])  # the most changed neuron
    change[last][0] = torch.linspace(0.001, 0.002, change[last].shape[1])
    neurons = sum(len(rows) for rows in change.values())

    renewed = reinitialize(model, change, 1 / neurons, 0.5)

    before, after = model.state_dict(), renewed.state_dict()
    moved = {name: (before[name] != after[name]).flatten(1) for name in change}
    width = change[first].shape[1]
    expected = torch.arange(width) >= width - max(1, round(0.5 * width))
    assert torch.equal(moved[first][1], expected) and bool((after[first].flatten(1)[1][expected] == 0).all())
    assert int(sum(m.sum() for m in moved.values())) == int(expected.sum())


def test_two_point_gradient_is_that_of_the_penalised_loss() -> None:
    """For small r:  (1 - alpha) g(w) + alpha g(w + r g / ||g||)  =  g + alpha r grad ||g||, one tensor."""
    model = nn.Linear(4, 3, bias=False).double()
    nn.init.normal_(model.weight, generator=derive(0, "w"))
    x, y = torch.randn(6, 4, generator=derive(1, "x"), dtype=torch.float64), torch.arange(6) % 3
    radius, alpha = 1e-5, 0.7

    loss = F.cross_entropy(model(x), y)
    (gradient,) = torch.autograd.grad(loss, model.weight, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.norm(), model.weight)
    before = model.weight.detach().clone()
    ActivenessAware(radius, alpha).backward(model, lambda: F.cross_entropy(model(x), y))

    assert model.weight.grad is not None
    assert torch.allclose(
        model.weight.grad, gradient.detach() + alpha * radius * curvature, rtol=0, atol=1e-10
    )
    assert torch.allclose(
        (model.weight.grad - gradient.detach()) / radius, alpha * curvature, rtol=1e-3, atol=1e-4
    )
    assert torch.allclose(model.weight, before, rtol=0, atol=1e-15)


def test_two_point_gradient_equals_finite_differences_with_a_norm_for_each_tensor() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Softplus(), nn.Linear(3, 3)).double()
    for number, weight in enumerate(model.parameters()):
        nn.init.normal_(weight, generator=derive(number, "w"))
    x, y = torch.randn(6, 4, generator=derive(0, "x"), dtype=torch.float64), torch.arange(6) % 3
    radius, alpha, h = 0.05, 0.7, 1e-6
    weights = [w.detach().clone() for w in model.parameters()]

    def loss(at: list[torch.Tensor]) -> torch.Tensor:
        named = dict(zip(dict(model.named_parameters()), at, strict=True))
        return F.cross_entropy(torch.func.functional_call(model, named, (x,)), y)

    def differences(at: list[torch.Tensor]) -> list[torch.Tensor]:
        found = [torch.zeros_like(w) for w in at]
        for slope, w in zip(found, at, strict=True):
            for i in range(w.numel()):
                there, back = w.clone(), w.clone()
                there.view(-1)[i] += h
                back.view(-1)[i] -= h
                ends = [loss([moved if other is w else other for other in at]) for moved in (there, back)]
                slope.view(-1)[i] = (ends[0] - ends[1]).item() / (2 * h)
        return found

    first = differences(weights)
    second = differences([w + radius * g / g.norm() for w, g in zip(weights, first, strict=True)])
    ActivenessAware(radius, alpha).backward(model, lambda: F.cross_entropy(model(x), y))

    for parameter, one, two in zip(model.parameters(), first, second, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, (1 - alpha) * one + alpha * two, rtol=1e-4, atol=1e-8)


def test_weight_changes_are_shown_for_every_neuron() -> None:
    ctx, heard = listening()
    small(TSBD, epochs=1).repair(clean_model(), CLEAN, ctx)

    (shown,) = [e.value for e in heard if isinstance(e, ArtifactReady) and e.name == "weight_change"]
    change = neuron_weight_change(clean_model(), clean_model())
    assert int(shown.histogram.sum()) == sum(len(rows) for rows in change.values())


def test_fine_tuning_takes_the_steps_of_the_official_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps on six images; the numbers are those of linweiii/TSBD @ 3718c67, tsbd.py:235-275, in float64."""
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Softplus(), nn.Flatten())
    model = Classifier(body, 12, 3, torch.zeros(1), torch.ones(1)).double()
    for number, weight in enumerate(model.parameters()):
        nn.init.normal_(weight, generator=derive(number, "weights"))
    images = torch.randint(256, (6, 1, 4, 4), generator=derive(0, "few")).to(torch.uint8)
    few = ImageSet(images, torch.arange(6) % 3, ("a", "b", "c"))

    method = TSBD(TSBDConfig(epochs=3, batch_size=6, crop_padding=0, flip=False))
    given = []  # what the method trains by, not what this test would
    monkeypatch.setattr(tsbd, "train_network", lambda *arguments: given.append(arguments))
    method._renewed(0.15, model, neuron_weight_change(model, model), few, Context())
    _, _, recipe, ctx, hook, _ = given[0]
    train_network(model, few, recipe, ctx, hook)

    norm = model.body[1]
    found = torch.cat([norm.running_mean, norm.running_var, norm.weight, norm.bias, model.head.bias]).detach()
    expected = torch.tensor(OFFICIAL, dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=0, atol=1e-7)


def test_unlearning_is_judged_by_the_finished_network_at_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(tsbd, "unlearn", lambda model, data, how, ctx: given.append(how) or model)
    TSBD(TSBDConfig()).change_by_unlearning(clean_model(), CLEAN, Context())

    (how,) = given
    assert (how.counted, how.stop_at, how.milestones, how.weight_decay) == ("after", 0.1, (), 0)
