"""MetaPoison and its controls: bounds, colors, surrogate ensemble, and that crafting does something."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import (
    attackers_view,
    clean_model,
    digits,
    listening,
    loaded,
    network,
    same_state,
    small,
    state_of,
)
from torch import Tensor

from poisonlab import registry
from poisonlab.attacks.metapoison import MetaPoison, MetaPoisonConfig
from poisonlab.attacks.pixel_collision import towards
from poisonlab.attacks.shared.pixels import to_bytes
from poisonlab.attacks.shared.recolor import Perturbation, node_limits, recolor, roughness
from poisonlab.attacks.shared.surrogate_ensemble import EnsembleMember
from poisonlab.attacks.shared.unrolling import LookAhead, consecutive
from poisonlab.context import Context, derive
from poisonlab.events import ArtifactReady
from poisonlab.models.base import as_floats, initialize, logits
from poisonlab.records import artifacts
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network
from poisonlab.types import Poison

SAME_BUDGET = ("metapoison", "pixel_collision", "random_perturbation")
SHORT = {"models": 1, "steps": 2, "rehearse": 0}
every_one = pytest.mark.parametrize("name", SAME_BUDGET)


def poison(name: str, seed: int = 3, **params: Any) -> Poison:
    short = SHORT if name == "metapoison" else {}
    return small(registry.attack[name], **short | params).poison(attackers_view(), Context(seed=seed))


# -- bounds ---------------------------------------------------------------------------------------------


@every_one
@pytest.mark.parametrize("eps", [1, 7.9, 16.5])
def test_poisons_stay_within_eps_in_8_bits_and_keep_their_labels(name: str, eps: float) -> None:
    train, made = digits().train, poison(name, eps=eps)
    changed = (made.images.int() - train.x[made.index].int()).abs()

    assert made.images.dtype == torch.uint8 and 0 < int(changed.max()) <= eps
    assert torch.equal(made.labels, train.y[made.index])
    assert torch.equal(made.labels[:, 0], made.state["adversarial_labels"])


def test_all_three_have_the_same_targets_and_change_the_same_images() -> None:
    first, *others = (poison(name) for name in SAME_BUDGET)

    for other in others:
        assert torch.equal(first.index, other.index) and not torch.equal(first.images, other.images)
        assert same_state(first.state, other.state)


def test_collision_goes_as_near_to_the_target_as_it_may() -> None:
    base, target = (
        torch.tensor([[0, 100, 250]]).to(torch.uint8),
        torch.tensor([[10, 90, 251]]).to(torch.uint8),
    )

    assert towards(base, target, 4).tolist() == [[4, 96, 251]]
    assert torch.equal(towards(base, target, 255), target)


def colorful(n: int = 3) -> Tensor:
    return torch.rand(n, 3, 5, 5, generator=derive(0, "colors"))


def perturbation(color: float, base: Tensor | None = None) -> Perturbation:
    base = colorful() if base is None else base
    return Perturbation(base, 0.06, color, 4, 1.0, rate=25, draws=derive(0, "noise"))


@pytest.mark.parametrize("color", [0.0, 0.04])
def test_offsets_shifts_and_images_stay_in_their_bounds_at_every_step(color: float) -> None:
    base = colorful()
    base[0], base[1] = 0, 1  # images with nowhere to go
    moving, draws = perturbation(color, base), derive(0, "gradients")
    for _ in range(4):
        moving.step(torch.randn(base.shape, generator=draws), 1.0)
        images = moving.images().detach()

        assert float(moving.delta.detach().abs().max()) <= 0.06 + 1e-6
        assert float(images.min()) >= -1e-6 and float(images.max()) <= 1 + 1e-6
        if moving.grids is not None:
            low, high = node_limits(4, base)
            assert bool(((moving.grids >= low) & (moving.grids <= high)).all())
            assert 0 < float(moving.grids.detach().abs().max()) <= color


def test_a_step_lowers_what_the_gradient_says() -> None:
    moving, gradient = perturbation(0.04), torch.randn(3, 3, 5, 5, generator=derive(0, "gradient"))
    before = (moving.images() * gradient).sum().item()
    moving.step(gradient, 1.0)

    assert (moving.images() * gradient).sum().item() < before


def test_the_random_start_is_the_random_control() -> None:
    made = poison("random_perturbation")
    base = as_floats(digits().train.x[made.index].flatten(0, 1))
    eps = small(registry.attack["random_perturbation"]).config.eps / 255
    start = Perturbation(base, eps, 0.0, 2, 0.0, 1.0, Context(seed=3).generator("metapoison", "noise"))

    assert torch.equal(to_bytes(start.images().detach()), made.images.flatten(0, 1))


# -- colors --------------------------------------------------------------------------------------------


def test_a_grid_of_zeros_changes_no_color() -> None:
    x = colorful()

    assert torch.equal(recolor(x, torch.zeros(3, 3, 4, 4, 4)), x)


def test_a_grid_that_brightens_brightens_all_channels_alike() -> None:
    x, grids = 0.5 * colorful(), torch.zeros(3, 3, 4, 4, 4)
    grids[:, 0] = 0.1

    assert torch.allclose(recolor(x, grids), x + 0.1, atol=1e-6)


def test_a_node_moves_the_colors_next_to_it_alone() -> None:
    black, white = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    grids = torch.zeros(1, 3, 3, 3, 3)
    grids[0, 0, 0] = 0.2  # all nodes of no brightness, whatever their chroma

    assert torch.allclose(recolor(black, grids), torch.full((1, 3, 1, 1), 0.2), atol=1e-6)
    assert torch.allclose(recolor(white, grids), white, atol=1e-6)


def test_the_derivative_by_the_grid_equals_finite_differences() -> None:
    x = 0.3 + 0.4 * colorful(1).double()
    grids = 0.02 * torch.randn(1, 3, 3, 3, 3, generator=derive(0, "grids"), dtype=torch.float64)

    assert torch.autograd.gradcheck(lambda g: recolor(x, g), grids.requires_grad_())


def test_roughness_of_a_ramp_is_the_square_of_its_slope() -> None:
    ramp = torch.linspace(0, 1, 5).view(1, 1, 5, 1, 1).expand(1, 3, 5, 5, 5)

    assert roughness(ramp).item() == pytest.approx((5 / 4) ** 2)


# -- crafting -------------------------------------------------------------------------------------------


def ensemble(**params: Any) -> list[EnsembleMember]:
    config = MetaPoisonConfig(batch=50, warm_up=0, **params)
    return [
        EnsembleMember(clean_model(), digits().train, config, n, Context(seed=1))
        for n in range(config.models)
    ]


def test_surrogates_are_of_all_ages_and_start_anew_at_the_end() -> None:
    members = ensemble(models=3, epochs=3)
    assert [member.epoch for member in members] == [0, 1, 2]

    oldest = members[-1]
    oldest.order()
    learned = oldest.weights
    oldest.order()  # its epochs were over: forgotten before the next batches

    assert oldest.epoch == 1 and not any(
        torch.equal(learned[n], w) for n, w in oldest.weights.items() if "conv" in n
    )


def test_crafted_poisons_lower_the_loss_of_a_surrogate_that_crafting_never_saw() -> None:
    train = digits().train
    made = poison("metapoison", seed=4, targets=1, poisons=20, steps=4, share=1.0, batch=50)
    stranger = ensemble(models=1, epochs=4)[0]
    for rows in stranger.order():
        stranger.step(rows)
    target, label = as_floats(made.state["target_images"]), made.state["adversarial_labels"]
    look_ahead = LookAhead(stranger.network, target, label, lr=0.1)

    def unrolled(x: Tensor) -> float:
        total = 0.0
        for ahead in consecutive(stranger.order(), 3):
            inside = torch.isin(ahead[0], made.index[0]).nonzero().squeeze(1)
            batches = [(as_floats(x[rows]), train.y[rows]) for rows in ahead]
            total += look_ahead.hypergradient(stranger.weights, batches, inside)[1] if len(inside) else 0.0
        return total

    state = stranger.draws.get_state()
    clean = unrolled(train.x)
    stranger.draws.set_state(state)  # the same batches again

    assert unrolled(made.apply(train).x) < clean


def test_rates_rise_quadratically_and_fall_after_each_third() -> None:
    attack = MetaPoison(MetaPoisonConfig(steps=30))
    rates = [attack._rate(step) for step in range(1, 31)]

    assert rates[:5] == pytest.approx([0.04, 0.16, 0.36, 0.64, 1.0])
    assert (rates[9], rates[10], rates[19], rates[20]) == pytest.approx((1, 0.1, 0.1, 0.01))


def test_poisons_that_equal_their_bases_give_the_clean_victim() -> None:
    train = digits().train[:60]
    made = poison("pixel_collision")
    rows = made.index[:1] % 60
    nothing = Poison(rows, train.x[rows], train.y[rows])

    def trained(data: Any) -> dict[str, Tensor]:
        model = network(train, "convnet", widths="4-8")
        train_network(model, data, TrainingConfig(epochs=2, batch_size=20), Context())
        return state_of(model)

    assert same_state(trained(nothing.apply(train)), trained(train))


@pytest.mark.parametrize("color", [0.0, 0.04])
def test_what_was_crafted_is_shown(tmp_path: Path, color: float) -> None:
    ctx, heard = listening(seed=3)
    view = attackers_view()
    if color:  # digits in three channels
        train = dataclasses.replace(view.train, x=view.train.x.expand(-1, 3, -1, -1))
        test = dataclasses.replace(view.candidates, x=view.candidates.x.expand(-1, 3, -1, -1))
        view = dataclasses.replace(
            view, train=train, candidates=test, clean_model=lambda: network(train, width=8)
        )
    made = small(MetaPoison, models=1, rehearse=2, steps=3, color=color, grid=3).poison(view, ctx)
    shown = next(event.value for event in heard if isinstance(event, ArtifactReady))
    artifacts.save(shown, tmp_path / "crafting.safetensors")
    again = artifacts.load(tmp_path / "crafting.safetensors")

    assert again.tried.tolist() == [0, 2, 3] and again.places.shape == (2, 2, 2)
    assert torch.equal(again.places[0, 0], again.places[1, 0])  # one start
    assert again.changes.sum() == made.images.numel() and len(again.unrolled) == len(again.steps) == 3
    assert torch.equal(again.poisoned, made.images[0])
    assert again.grids.shape == ((3, 3, 3, 3, 3) if color else (0,))
    assert torch.equal(again.recolored, again.base) == (not color)


def test_an_unknown_surrogate_names_what_there_is() -> None:
    with pytest.raises(ValueError, match="unknown victim 'alexnet'; choose one of: convnet"):
        MetaPoisonConfig(surrogates="alexnet")


@pytest.mark.parametrize(("norm", "parameters"), [(True, 70_618), (False, 70_410)])
def test_convnet_has_the_published_size(norm: bool, parameters: int) -> None:
    method = registry.victim["convnet"]
    model = method(method.Config(norm=norm)).network((3, 32, 32), 10, torch.zeros(3), torch.ones(3))

    assert sum(p.numel() for p in model.parameters()) == parameters


# -- real images ----------------------------------------------------------------------------------------


def test_three_classes_are_those_that_were_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, _ = loaded("cifar3", monkeypatch, classes="dog ship cat")
    every, _, _ = loaded("cifar10", monkeypatch)

    assert pool.classes == ("dog", "ship", "cat") and (len(pool), len(test)) == (15_000, 3_000)
    for label, name in enumerate(pool.classes):
        assert torch.equal(pool.x[pool.y == label], every.x[every.y == every.classes.index(name)])


@pytest.mark.parametrize("classes", ["dog ship", "dog ship dog", "dog ship unicorn"])
def test_other_numbers_and_names_of_classes_are_refused(classes: str) -> None:
    with pytest.raises(ValueError, match="three different classes out of: airplane"):
        registry.dataset["cifar3"].Config(classes=classes)


def test_a_named_surrogate_takes_from_the_training_images_what_a_victim_does() -> None:
    """Filters that whiten them; without, it would see nothing."""
    train = digits().train
    method = MetaPoison(
        MetaPoisonConfig(surrogates="hyperlight whitening=true first=8 others=16, resnet8 width=8")
    )

    drawn = [
        initialize(n, derive(0, "start")).eval()
        for n in method._architectures(train, clean_model(), Context())
    ]

    assert all(float(logits(one, train.x[:20]).std(0).max()) > 1e-3 for one in drawn)
