"""Mode connectivity: the ends of the curve are the end networks, the bend's gradient is the curve's."""

import copy

import torch
from core_helpers import clean_model, digits, same_state, small, state_of
from torch import nn

from poisonlab.context import Context, derive
from poisonlab.defenses.ft import FTConfig, fine_tune
from poisonlab.defenses.mcr import MCR, Curve, bezier, renew_statistics
from poisonlab.models.base import as_floats

CLEAN = digits().reserve[:20]


def linear(seed: int) -> nn.Linear:
    model = nn.Linear(3, 1, bias=False).double()
    nn.init.normal_(model.weight, generator=derive(seed, "w"))
    return model


def test_the_ends_of_the_curve_are_the_end_networks() -> None:
    model, method = clean_model(), small(MCR, t=0.5)
    sweep = method.repair(model, CLEAN, Context(seed=1)).result
    tuned = copy.deepcopy(model)
    own = FTConfig(**{name: getattr(method.config, name) for name in FTConfig.model_fields})
    fine_tune(tuned, CLEAN, own, Context(seed=1))

    assert float(sweep.settings[sweep.chosen]) == 0.5
    assert same_state(state_of(sweep.apply(model, 0)), state_of(model))
    assert same_state(state_of(sweep.apply(model, len(sweep.settings) - 1)), state_of(tuned))


def test_bezier_passes_through_its_ends_and_not_through_its_bend() -> None:
    start, bend, end = torch.tensor(1.0), torch.tensor(5.0), torch.tensor(3.0)

    assert bezier(0, start, bend, end) == 1 and bezier(1, start, bend, end) == 3
    assert bezier(0.5, start, bend, end) == 0.25 * 1 + 0.5 * 5 + 0.25 * 3


def test_the_bends_gradient_is_that_of_the_loss_on_the_curve() -> None:
    start, bend, end, x = linear(0), linear(1), linear(2), torch.ones(4, 3).double()
    t = torch.rand((), generator=derive(5, "t")).item()
    theta = bend.weight.detach().clone().requires_grad_()
    place = bezier(t, start.weight.detach(), theta, end.weight.detach())
    (expected,) = torch.autograd.grad((x @ place.T).square().mean(), theta)
    before = bend.weight.detach().clone()

    Curve(start, end, derive(5, "t")).backward(bend, lambda: bend(x).square().mean())

    assert bend.weight.grad is not None and torch.allclose(bend.weight.grad, expected)
    assert torch.equal(bend.weight, before)


def test_renewed_statistics_are_those_of_the_images() -> None:
    model = copy.deepcopy(clean_model())
    first = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    handle = first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    renew_statistics(model, CLEAN.x)
    handle.remove()

    assert first.running_mean is not None
    assert torch.allclose(first.running_mean, seen[0].mean((0, 2, 3)), atol=1e-5)
    assert not model.training and model(as_floats(CLEAN.x)).shape == (20, 10)
