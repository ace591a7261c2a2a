"""What is special about I-BAU: the implicit gradient, its perturbation, its batch norm."""

import pytest
import torch
from core_helpers import clean_model, digits, listening, noise_images, normed_net, small, state_of
from torch import nn
from torch.nn import functional as F

from poisonlab.context import Context, derive
from poisonlab.defenses import i_bau
from poisonlab.defenses.i_bau import IBAU, Unlearning, hypergradient, inner_loss
from poisonlab.events import ArtifactReady, Metric, Progress
from poisonlab.models.base import Classifier
from poisonlab.records import artifacts

STEP = 0.2
HESSIAN = torch.tensor(
    [[2.0, 0.5, 0.0], [0.5, 1.5, -0.3], [0.0, -0.3, 1.0]], dtype=torch.float64
)  # positive definite


def quadratic(delta: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outer |d - 1|^2 / 2 + |w|^2 / 2, and a gradient step on (d - B w)' H (d - B w) / 2, so that d* = B w."""
    outer = (delta - 1).square().sum() / 2 + w.square().sum() / 2
    return outer, delta - STEP * HESSIAN @ (delta - b @ w)


@pytest.mark.parametrize("steps", [1, 5, 400])
def test_hypergradient_has_the_closed_form(steps: int) -> None:
    draws = derive(0, "quadratic")
    b, w = (
        torch.randn(3, 2, generator=draws).double(),
        torch.randn(2, generator=draws).double().requires_grad_(),
    )
    delta = (b @ w).detach().requires_grad_()  # the fixed point
    (found,) = hypergradient(*quadratic(delta, w, b), delta, [w], steps)

    # the geometric series of I - a H, cut after K terms; whole, it is the inverse Hessian's solution
    identity = torch.eye(3, dtype=torch.float64)
    partial = identity - torch.linalg.matrix_power(identity - STEP * HESSIAN, steps)
    v = torch.linalg.solve(STEP * HESSIAN, partial @ (delta - 1))
    assert torch.allclose(found, w + b.T @ (STEP * HESSIAN) @ v)
    if steps == 400:
        exact = torch.linalg.solve(STEP * HESSIAN, delta - 1)
        assert torch.allclose(v, exact)
        (total,) = torch.autograd.grad(quadratic(b @ w, w, b)[0], w)
        assert torch.allclose(found, total)


def test_hypergradient_equals_finite_differences_of_a_solved_network() -> None:
    """On a net small enough to solve the inner problem for every nudged weight."""
    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softplus(), nn.Flatten())
    model = Classifier(body, 8, 2, torch.zeros(1), torch.ones(1)).double()
    for number, weight in enumerate(model.parameters()):
        nn.init.normal_(weight, std=0.5, generator=derive(number, "weights"))
    x, y = torch.rand(6, 1, 4, 4, generator=derive(0, "x"), dtype=torch.float64), torch.arange(6) % 2

    def phi(delta: torch.Tensor, create: bool = False) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(inner_loss(model, x, y, delta, 2.0), delta, create_graph=create)
        return delta - 0.2 * gradient

    def solved() -> torch.Tensor:
        delta = torch.zeros_like(x[:1])
        for _ in range(120):
            delta = phi(delta.requires_grad_()).detach()
        return delta.requires_grad_()

    def outer(delta: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(x + delta), y)

    kernel, delta = model.body[0].weight, solved()
    (found,) = hypergradient(outer(delta), phi(delta, create=True), delta, [kernel], steps=120)
    for place in [(0, 0, 1, 1), (1, 0, 2, 0)]:
        values = []
        for nudge in (1e-5, -2e-5):
            with torch.no_grad():
                kernel[place] += nudge
            values.append(outer(solved()).item())
        with torch.no_grad():
            kernel[place] += 1e-5
        assert found[place].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-8)


def test_perturbation_and_hypergradient_are_those_of_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers from YiZeng623/I-BAU d4bfa52: the inner loop of defense.py over two batches of four images, then
    ``fixed_point`` of hypergrad.py on the first, with one of its images perturbed, a = 0.1 and K = 5.
    """
    monkeypatch.setattr(i_bau, "as_floats", lambda x: x.double() / 255)
    monkeypatch.setattr(i_bau, "batches", lambda n, *rest: torch.arange(n).split(4))
    model = normed_net()
    config = small(IBAU, batch_size=4, share=0.25).config
    unlearning = Unlearning(model, noise_images(8, (1, 6, 6), classes=3), config, Context())
    x, y = unlearning.prepare(torch.arange(4))
    unlearning.gradient(lambda: F.cross_entropy(model(x), y))

    row = [-0.0313253661, -0.3518206033, -0.6704609918, -0.0003514481, 0.5862565335, -0.4411115817]
    assert unlearning.delta[0, 0, 0].tolist() == pytest.approx(row, abs=1e-9)
    assert unlearning.delta.norm().item() == pytest.approx(14.8056763853)
    gradient = {name: p.grad for name, p in model.named_parameters()}
    assert gradient["head.bias"].tolist() == pytest.approx(
        [0.0877275965991, -0.239742274851, 0.152014678252], abs=1e-9
    )
    row = [-0.771947940821, -0.175081218365, -0.19588109674]  # without the implicit part -0.63, -0.12, -0.31
    assert gradient["body.0.weight"][0, 0, 0].tolist() == pytest.approx(row, abs=1e-9)


def test_the_perturbation_is_put_on_a_share_of_the_batch() -> None:
    clean = digits().reserve[:20]
    model = small(IBAU, share=0.25)
    unlearning = Unlearning(clean_model(), clean, model.config, Context())
    index = torch.arange(8)
    x, y = unlearning.prepare(index)
    changed = (x != unlearning.images[index]).flatten(1).any(1)

    assert changed.tolist() == [True] * 2 + [False] * 6 and torch.equal(y, clean.y[:8])


def test_the_perturbation_deceives_the_model_it_was_made_for() -> None:
    clean = digits().reserve
    unlearning = Unlearning(clean_model(), clean, small(IBAU, delta_lr=100.0).config, Context())
    delta = unlearning.worst_perturbation()

    with torch.no_grad():
        before, after = (clean_model()(unlearning.images + d).argmax(1) for d in (0, delta))
    assert (before != after).float().mean() > 0.3


def test_running_statistics_stay_and_every_round_shows_its_perturbation() -> None:
    ctx, heard = listening()
    repair = small(IBAU, rounds=3).repair(clean_model(), digits().reserve[:20], ctx)
    after = state_of(repair.model(clean_model()))
    before = state_of(clean_model())
    (trigger,) = [e.value for e in heard if isinstance(e, ArtifactReady)]
    last = [e for e in heard if isinstance(e, Progress)][-1]

    assert all(torch.equal(before[n], after[n]) for n in before if "running" in n or "num_batches" in n)
    assert not torch.equal(before["head.weight"], after["head.weight"])
    assert isinstance(trigger, artifacts.TriggerReconstruction) and trigger.patterns.shape == (3, 1, 16, 16)
    assert trigger.class_histogram.sum(1).tolist() == [20] * 3
    assert (last.step, last.total) == (9, 9) and [e.step for e in heard if isinstance(e, Metric)] == list(
        range(1, 10)
    )
