"""What the attacks on one target share: bounds, the choice of targets, surrogates and their dropout."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from core_helpers import (
    attackers_view,
    clean_model,
    digits,
    network,
    same_state,
    small,
    smooth_net,
    state_of,
    surrogate,
)

from poisonlab import registry
from poisonlab.attacks.shared.surrogates import DropoutTraining, features_at, parse_surrogates
from poisonlab.attacks.shared.targeted import TargetedAttack
from poisonlab.context import Context, derive
from poisonlab.models.base import Classifier
from poisonlab.spec.config import PRESETS, SpecError, TrainingConfig, VictimPart, make_spec
from poisonlab.training.loop import train_network

NAMES = [name for name in registry.attack if issubclass(registry.attack[name], TargetedAttack)]
every_targeted_attack = pytest.mark.parametrize("name", NAMES)


def refused(**overrides: Any) -> str:
    with pytest.raises(SpecError) as error:
        make_spec(
            "digits", "bullseye_polytope", "none", overrides={f"attack.{k}": v for k, v in overrides.items()}
        )
    return str(error.value)


@pytest.mark.parametrize("name", ["bullseye_polytope", "convex_polytope"])
def test_the_published_step_is_a_share_of_a_standard_deviation(name: str) -> None:
    """BullseyePoison moves normalized pixels by 0.04; CIFAR-10's deviations are 0.2023, 0.1994 and 0.2010 there."""
    step = {p: make_spec("cifar10", name, "none", preset=p).attack.params.step_size for p in PRESETS}

    assert step == {"quick": 1.275, "full": 2.04, "paper": 2.04}
    assert step["paper"] == pytest.approx(0.04 * 255 * (0.2023 + 0.1994 + 0.2010) / 3, rel=0.005)


@every_targeted_attack
@pytest.mark.parametrize("eps", [2, 16.5])
def test_poisons_stay_within_eps_and_keep_their_labels(name: str, eps: float) -> None:
    view = attackers_view()
    made = small(registry.attack[name], eps=eps).poison(view, Context(seed=3))
    moved = (made.images.int() - view.train.x[made.index].int()).abs()

    assert made.images.dtype == torch.uint8 and 0 < int(moved.max()) <= eps
    assert torch.equal(made.labels, view.train.y[made.index])
    assert bool((made.labels == made.state["adversarial_labels"][:, None]).all())


def test_one_seed_gives_all_attacks_the_same_targets_and_bases() -> None:
    made = [small(registry.attack[name]).poison(attackers_view(), Context(seed=3)) for name in NAMES]

    assert len(made) >= 3
    for other in made[1:]:
        assert torch.equal(other.index, made[0].index)
        assert torch.equal(other.state["target_images"], made[0].state["target_images"])


@every_targeted_attack
def test_a_black_box_attacker_crafts_on_the_surrogates_it_names(name: str) -> None:
    asked: list[tuple[str, int, int, float]] = []

    def train(number: int, victim: VictimPart, dropout: float) -> Classifier:
        asked.append((victim.name, victim.params.width, number, dropout))  # type: ignore[attr-defined]
        return network(digits().train, victim.name, seed=number, width=victim.params.width)  # type: ignore[attr-defined]

    def no_extractor() -> Classifier:
        raise AssertionError("the victim's extractor is not for a black-box attacker")

    view = replace(attackers_view(), extractor=no_extractor, surrogate=train)
    attack = small(registry.attack[name], surrogates="resnet8 width=8, resnet8 width=12", dropout=0.1)
    made = attack.poison(view, Context(seed=3))
    white = small(registry.attack[name]).poison(attackers_view(), Context(seed=3))

    assert asked == [("resnet8", 8, 0, 0.1), ("resnet8", 12, 1, 0.1)]
    assert torch.equal(made.index, white.index) and not torch.equal(made.images, white.images)


def test_surrogates_are_read_with_their_parameters() -> None:
    parts = parse_surrogates(" resnet9 width=8,resnet8,")

    assert [(part.name, part.params.width) for part in parts] == [("resnet9", 8), ("resnet8", 16)]  # type: ignore[attr-defined]
    assert parse_surrogates("") == []


def test_a_surrogate_that_does_not_exist_is_told_what_does() -> None:
    assert "surrogate 'resnet99': unknown victim 'resnet99'; choose one of:" in refused(surrogates="resnet99")
    assert "surrogate 'resnet8 depth=3': depth: Extra inputs" in refused(surrogates="resnet8 depth=3")


def test_several_draws_need_dropout() -> None:
    assert "draws=3 averages passes that are all the same; set dropout above 0" in refused(draws=3)


def test_features_of_two_depths_are_the_last_but_one_block_and_the_penultimate() -> None:
    model = smooth_net()
    x = torch.rand(3, 1, 6, 6, generator=derive(0, "x"), dtype=torch.float64)
    maps, penultimate = features_at(model, x, 2)

    assert torch.equal(maps, model.body[0](model.normalize(x))) and torch.equal(
        penultimate, model.features(x)
    )
    with pytest.raises(ValueError, match="depths=3 asks for more than the 2 convolution blocks"):
        features_at(model, x, 3)


def test_more_draws_come_closer_to_their_mean() -> None:
    x = digits().test.x[:20].float() / 255

    def spread(draws: int) -> float:
        means = [surrogate(clean_model(), dropout=0.3, draws=draws, seed=s).features(x)[0] for s in range(8)]
        return float(torch.stack(means).var(0).mean())

    assert 0 < spread(5) < 0.5 * spread(1)


def test_dropout_leaves_the_network_as_it_was() -> None:
    x = digits().test.x[:4].float() / 255
    model = clean_model()
    before = model(x)

    dropped = surrogate(model, dropout=0.3).features(x)[0]

    assert torch.equal(model(x), before) and not torch.equal(dropped, model.features(x))


def test_a_surrogate_trained_with_dropout_is_another_network_and_repeatable() -> None:
    def trained(rate: float) -> dict[str, torch.Tensor]:
        model, ctx = network(digits().train, width=8), Context()
        hook = DropoutTraining.of(rate, ctx)
        train_network(model, digits().train, TrainingConfig(epochs=1, batch_size=50), ctx, hook)
        x = digits().test.x[:4].float() / 255
        assert torch.equal(model(x), model(x))  # no dropout is left behind
        return state_of(model)

    assert same_state(trained(0.3), trained(0.3)) and not same_state(trained(0.3), trained(0.0))
