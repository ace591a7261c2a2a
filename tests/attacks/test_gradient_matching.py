"""What is special about gradient matching: the alignment, its double backward, the signed steps, the bound."""

import copy
import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from core_helpers import TINY_TARGETED, attackers_view, clean_model, digits, listening, small
from torch import Tensor, nn

from poisonlab.attacks.gradient_matching import (
    GradientMatching,
    GradientMatchingConfig,
    craft,
)
from poisonlab.attacks.shared.alignment import alignment_loss, mismatch_gradient, parameter_gradient
from poisonlab.attacks.shared.matched_poisons import SignedAdam
from poisonlab.context import Context, derive
from poisonlab.events import Metric
from poisonlab.models.base import Classifier, predict
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import PRESETS, ExperimentSpec, Preset, TrainingConfig, make_spec
from poisonlab.training.victims import Victims, train_from_scratch
from poisonlab.types import Poison


def poison(**params: Any) -> Poison:
    return small(GradientMatching, **params).poison(attackers_view(), Context(seed=3))


def setup(count: int = 16) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Some threes, and a test image that is no three but should become one."""
    train, test = digits().train, digits().test
    own = train[(train.y == 3).nonzero().squeeze(1)[:count]]
    other = int((test.y != 3).nonzero()[0])
    return own.x, own.y, test.x[other : other + 1], torch.tensor([3])


def test_alignment_is_0_for_equal_1_for_orthogonal_and_2_for_opposite_directions() -> None:
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    wanted = [a, b]

    assert alignment_loss(wanted, [5 * a, 5 * b]).item() == pytest.approx(0, abs=1e-6)
    assert alignment_loss(wanted, [torch.tensor([[0.0, 7.0]]), torch.zeros(1)]).item() == pytest.approx(1)
    assert alignment_loss(wanted, [-a, -b]).item() == pytest.approx(2)


@pytest.mark.parametrize("at_once", [1, 5, 15])
def test_a_derivative_taken_in_parts_is_that_of_all_poisons_together(at_once: int) -> None:
    base, labels, target, adversarial = setup()
    model = copy.deepcopy(clean_model()).requires_grad_(True)
    goal = parameter_gradient(model, target / 255, adversarial)
    whole_loss, whole = mismatch_gradient(model, base / 255, labels, goal, at_once=16)

    loss, parts = mismatch_gradient(model, base / 255, labels, goal, at_once)

    assert loss.item() == pytest.approx(whole_loss.item(), abs=1e-6)
    assert float((parts - whole).abs().max()) < 1e-6 < 1e-3 < float(whole.abs().max())


def test_alignment_is_taken_over_all_parameters_at_once() -> None:
    # each tensor alone is aligned perfectly; together they are not: cos = (1 * 1 + 1 * 3) / sqrt(2 * 10)
    ones, scaled = [torch.ones(1), torch.ones(1)], [torch.ones(1), torch.full((1,), 3.0)]

    assert alignment_loss(ones, scaled).item() == pytest.approx(1 - 4 / 20**0.5)


def smooth_net() -> Classifier:
    """A few weights with a batch norm in eval mode, twice differentiable everywhere."""
    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Softplus(), nn.Flatten(), nn.Linear(8, 3))
    model = Classifier(body, 3, 3, torch.full((1,), 0.4), torch.full((1,), 0.3)).double().eval()
    for number, weight in enumerate(model.parameters()):
        nn.init.normal_(weight, generator=derive(number, "weights"))
    return model


def test_the_double_backward_equals_finite_differences() -> None:
    model, draws = smooth_net(), derive(0, "data")
    x = torch.rand(2, 1, 4, 4, generator=draws, dtype=torch.float64).requires_grad_()
    target = torch.rand(1, 1, 4, 4, generator=draws, dtype=torch.float64)
    wanted = parameter_gradient(model, target, torch.tensor([2]))

    def loss(poisons: Tensor) -> Tensor:
        return alignment_loss(
            wanted, parameter_gradient(model, poisons, torch.tensor([0, 1]), differentiable=True)
        )

    assert torch.autograd.gradcheck(loss, x)


def test_a_step_follows_the_sign_and_not_the_size_of_the_gradient() -> None:
    delta = torch.zeros(3, requires_grad=True)
    SignedAdam(delta, rate=0.1, steps=8).step(torch.tensor([1e-9, -7.0, 0.0]))

    assert delta.tolist() == pytest.approx([-0.1, 0.1, 0.0], abs=1e-6)


def test_the_rate_falls_tenfold_after_three_five_and_seven_eighths() -> None:
    delta = torch.zeros(1, requires_grad=True)
    optimizer = SignedAdam(delta, rate=1.0, steps=16)
    places = [0.0]
    for _ in range(16):
        optimizer.step(torch.ones(1))
        places.append(delta.item())
    moved = [before - after for before, after in itertools.pairwise(places)]

    assert moved == pytest.approx([1.0] * 6 + [0.1] * 4 + [0.01] * 4 + [0.001] * 2, rel=1e-3)


@pytest.mark.parametrize("count", [3, 16])
def test_the_published_rate_does_not_fall_with_the_number_of_poisons(count: int) -> None:
    """The repository's ``pbatch`` is the option, 512 of 512, however many poisons there are."""
    after, before = (crafted(steps=n, step_size=0.1, count=count)[0].int() for n in (1, 0))
    std = float(clean_model().normalize.std)

    assert int((after - before).abs().max()) == pytest.approx(0.1 * std * 255, abs=1)  # rounded twice
    for preset in PRESETS:
        assert make_spec("digits", "gradient_matching", "none", preset=preset).attack.params.step_size == 0.1


def test_the_start_is_clipped_to_the_bound_and_not_to_the_range_of_pixels() -> None:
    seen: list[Tensor] = []
    surrogate = copy.deepcopy(clean_model()).requires_grad_(True)
    surrogate.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    config = GradientMatchingConfig(eps=48, steps=1, crop_padding=0, flip=False)

    craft([surrogate], *setup(), config, derive(0, "craft"))

    moved = seen[-1] - setup()[0] / 255  # the one step sees the poisons as they start
    assert float(moved.abs().max()) == pytest.approx(48 / 255) and float(seen[-1].min()) < -40 / 255


def recipe_of(preset: Preset) -> Any:
    """What the attack asks its surrogate to be trained by."""
    asked: list[Any] = []

    def train(number: int, recipe: Any) -> Classifier:
        asked.append(recipe)
        return clean_model()

    config = make_spec("cifar10", "gradient_matching", "none", preset=preset).attack.params
    few = config.model_copy(update={"targets": 1, "poisons": 1, "steps": 0, "restarts": 1})
    GradientMatching(few).poison(replace(attackers_view(), surrogate=train), Context())
    return asked[0]


def test_the_preset_paper_trains_surrogates_by_the_published_recipe() -> None:
    recipe = recipe_of("paper")

    assert recipe("resnet18") == TrainingConfig(
        epochs=40,
        batch_size=128,
        lr=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="steps",
        drops="0.35, 0.6, 0.875",
        crop_padding=4,
        flip=True,
    )
    assert [recipe(victim).lr for victim in ("convnet", "mobilenetv2", "vgg19_bn")] == [0.01] * 3
    assert recipe_of("quick") is recipe_of("full") is None


def test_a_surrogate_is_trained_by_the_recipe_and_the_victim_by_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipes: list[TrainingConfig] = []

    def train(name: str, spec: ExperimentSpec, *args: Any) -> Victims:
        recipes.append(spec.training)
        return train_from_scratch(name, spec, *args)

    monkeypatch.setattr("poisonlab.pipeline.poison.train_from_scratch", train)
    few = {name: value for name, value in TINY_TARGETED.items() if not name.startswith("defense.")}
    published = {"attack.surrogate_recipe": "published", "attack.crop_padding": 0}
    spec = make_spec("digits", "gradient_matching", "none", overrides=few | published)

    run_experiment(spec, Context())

    assert [(r.epochs, r.schedule, r.crop_padding) for r in recipes] == [(40, "steps", 0)]
    assert (spec.training.epochs, spec.training.schedule) == (4, "one_cycle")


@pytest.mark.parametrize("eps", [1, 7.9, 16.5])
def test_crafted_images_stay_within_eps_in_8_bits_and_keep_their_labels(eps: float) -> None:
    train, made = digits().train, poison(eps=eps, step_size=0.3)
    moved = (made.images.int() - train.x[made.index].int()).abs()

    assert made.images.dtype == torch.uint8 and 0 < int(moved.max()) <= eps
    assert torch.equal(made.labels, train.y[made.index])
    assert torch.equal(made.labels[:, 0], made.state["adversarial_labels"])


def test_targets_are_test_images_that_the_surrogate_gets_right() -> None:
    state = poison(targets=10).state

    assert torch.equal(predict(clean_model(), state["target_images"]), state["true_labels"])


def crafted(
    steps: int, models: int = 1, step_size: float = 0.125, draws: int = 0, count: int = 16
) -> tuple[Tensor, list[float]]:
    config = GradientMatchingConfig(eps=48, steps=steps, step_size=step_size, crop_padding=0, flip=False)
    surrogate = copy.deepcopy(clean_model()).requires_grad_(True)
    attempt = craft([surrogate] * models, *setup(count), config, derive(draws, "craft"))
    return attempt.images, attempt.losses


def test_crafting_halves_the_alignment_loss() -> None:
    _, losses = crafted(steps=30)

    assert losses[-1] < 0.5 * losses[0]


def test_without_steps_the_random_start_remains() -> None:
    images, losses = crafted(steps=0)

    assert losses == [] and 0 < int((images.int() - setup()[0].int()).abs().max()) <= 48
    assert torch.equal(images, crafted(steps=0)[0]) and not torch.equal(images, crafted(steps=0, draws=1)[0])


def test_a_model_twice_is_an_ensemble_of_half_the_rate() -> None:
    alone, losses = crafted(steps=4, step_size=0.1)
    twice, again = crafted(steps=4, models=2, step_size=0.2)

    assert torch.equal(alone, twice) and again == pytest.approx(losses)


def final_loss(restarts: int) -> float:
    ctx, heard = listening(seed=3)
    small(GradientMatching, restarts=restarts, targets=4).poison(attackers_view(), ctx)
    return [event.value for event in heard if isinstance(event, Metric)][-1]


def test_of_several_restarts_the_best_aligned_is_kept() -> None:
    first, best = final_loss(1), final_loss(3)

    assert best < first  # in each trial the first of the three is the same


def test_too_many_poisons_names_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"poisons=999 asks for more than the 20 training images of class 4"):
        poison(poisons=999, target_class=4)
