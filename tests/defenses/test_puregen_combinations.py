"""The members of the PureGen family: what each does in which order, and where their models come from."""

from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import digits, listening, rest_slow, small
from torch import Tensor

from poisonlab import registry
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.defenses.shared import puregen
from poisonlab.defenses.shared.puregen import PureGen, moment, steps_of
from poisonlab.events import ArtifactReady, Event, Log, StageFinished
from poisonlab.generative import ddpm, weights
from poisonlab.generative.langevin import to_model_range
from poisonlab.generative.sources import fitted, training_images
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import digest, make_spec

FAMILY = ("puregen_ebm", "puregen_ddpm", "puregen_naive", "puregen_reps", "puregen_filt")
TARGETED = {
    "dataset.head_images": 80,
    "dataset.pretrain_images": 200,
    "dataset.test_images": 60,
    "dataset.public_images": 130,
    "training.epochs": 1,
    "head.epochs": 2,
    "attack.targets": 2,
    "attack.poisons": 3,
    "attack.steps": 2,
    "defense.updates": 2,
    "defense.batch_size": 8,
    "defense.bank_size": 16,
    "defense.chain_steps": 2,
    "defense.health_every": 1,
    "defense.min_psnr": 0,
    "defense.ddpm_updates": 2,
    "defense.ddpm_batch_size": 8,
    "defense.steps": 2,
    "defense.ddpm_steps": 2,
    "defense.ddpm_levels": 4,
    "defense.weights": "train",
}


def prepared(name: str, ctx: Context | None = None, **params: Any) -> PureGen:
    defense = small(registry.defense[name], **params)
    defense.prepare(digits().public, ctx or Context())
    return defense


def order_of_calls(name: str, monkeypatch: pytest.MonkeyPatch, **params: Any) -> list[tuple[str, int]]:
    """Which models walked the images, and how far."""
    defense, calls = prepared(name, **params), []

    def chain(energy: object, x: Tensor, steps: int, *rest: object) -> Tensor:
        calls.append(("ebm", steps))
        return x

    def there_and_back(network: object, x: Tensor, steps: int, *rest: object) -> Tensor:
        calls.append(("ddpm", steps))
        return x

    monkeypatch.setattr(puregen, "langevin", chain)
    monkeypatch.setattr(ddpm, "purify", there_and_back)
    defense.purify(digits().train[:4], Context())
    return calls


def test_naive_walks_downhill_and_then_into_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = order_of_calls("puregen_naive", monkeypatch, steps=7, ddpm_steps=4)

    assert calls == [("ebm", 7), ("ddpm", 4)]


def test_networks_may_compute_in_bfloat16_while_the_walk_stays_in_float32() -> None:
    """On a machine without such instructions both walks are the same."""
    defense = prepared("puregen_naive", steps=5, ddpm_steps=3)
    x = to_model_range(digits().train.x[:8])

    ends = {
        precision: defense.psi(
            x, (5, 3, 1), Context().generator("walk"), Context(precision=precision), lambda *_: None
        )
        for precision in (torch.float32, torch.bfloat16)
    }

    assert {end.dtype for end in ends.values()} == {torch.float32}
    assert torch.allclose(*ends.values(), rtol=0, atol=0.02)


def test_reps_repeats_both(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = order_of_calls("puregen_reps", monkeypatch, steps=2, ddpm_steps=3, repetitions=3)

    assert calls == [("ebm", 2), ("ddpm", 3)] * 3


def test_every_round_noises_anew() -> None:
    defense, x = (
        prepared("puregen_reps", steps=0, ddpm_steps=1, repetitions=2),
        to_model_range(digits().train.x[:2]),
    )
    states: dict[int, Tensor] = {}
    defense.psi(
        x, (0, 1, 2), Context().generator("x"), Context(), lambda step, x: states.update({step: x.clone()})
    )

    assert sorted(states) == [0, 1, 2, 3] and steps_of((0, 1, 2)) == 4
    first, second = ((states[i + 1] - states[i]).flatten() for i in (0, 2))
    assert first.std() > 0 and torch.corrcoef(torch.stack([first, second]))[0, 1].abs() < 0.2


def test_published_vectors() -> None:
    vectors = {name: registry.defense[name](registry.defense[name].Config()).vector() for name in FAMILY}

    assert vectors == {
        "puregen_ebm": (500, 0, 1),
        "puregen_ddpm": (0, 125, 1),
        "puregen_naive": (150, 75, 1),
        "puregen_reps": (10, 50, 5),
        "puregen_filt": (0, 125, 1),
    }


@pytest.mark.parametrize(
    ("step", "vector", "words"),
    [
        (0, (3, 2, 2), "as given"),
        (3, (3, 2, 2), "round 1: 3 Langevin steps"),
        (4, (3, 2, 2), "round 1: 2 of 2 noise levels left"),
        (6, (3, 2, 2), "round 1: 0 of 2 noise levels left"),
        (7, (3, 2, 2), "round 2: 1 Langevin steps"),
        (5, (9, 0, 1), "5 Langevin steps"),
    ],
)
def test_moments_of_a_walk(step: int, vector: tuple[int, int, int], words: str) -> None:
    assert moment(step, vector) == words


# -- Filt ---------------------------------------------------------------------------------------------


def test_filt_leaves_exactly_the_half_of_low_energy_untouched() -> None:
    defense, data = prepared("puregen_filt"), digits().train[:30]
    energies = defense.energy(data.x)
    assert energies is not None
    low = energies <= energies.median()  # the 15th of 30

    purified = defense.purify(data, Context())

    changed = (purified.x != data.x).flatten(1).any(1)
    assert not changed[low].any() and changed[~low].all()
    assert torch.equal(purified.y, data.y)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_filt_purifies_nothing_or_everything_at_the_ends(share: float) -> None:
    data = digits().train[:20]
    changed = (prepared("puregen_filt", share=share).purify(data, Context()).x != data.x).flatten(1).any(1)

    assert changed.sum() == share * len(data)


def run_of(defense: str, cache: StageCache) -> list[Event]:
    """Events of a tiny run with a defense."""
    known = registry.defense[defense].Config.model_fields
    overrides = {
        k: v for k, v in TARGETED.items() if k.partition(".")[2] in known or not k.startswith("defense.")
    }
    ctx, heard = listening(cache=cache)
    run_experiment(make_spec("digits", "bullseye_polytope", defense, overrides=overrides), ctx)
    return heard


def test_filt_ranks_and_keeps_poisons_as_the_attacker_left_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is given holds raw poisons, so a poison of low energy reaches the victim with every pixel."""
    kind, seen = registry.defense["puregen_filt"], []
    real = kind.purify

    def purify(self: PureGen, data: Any, ctx: Context) -> Any:
        seen.append((data.x.clone(), self.unnatural(data.x)))  # type: ignore[attr-defined]
        return real(self, data, ctx)

    monkeypatch.setattr(kind, "purify", purify)
    heard = run_of("puregen_filt", StageCache(tmp_path))
    poisons = next(e.value for e in heard if isinstance(e, ArtifactReady) and e.name == "poison")
    shown = next(e.value for e in heard if isinstance(e, ArtifactReady) and e.name == "purification")

    assert len(seen) == 2  # a ranking for each trial
    given, rows = seen[0]
    for image in poisons.poisoned[:3]:
        assert (given == image).flatten(1).all(1).any()
    untouched = torch.ones(len(given), dtype=torch.bool)
    untouched[rows] = False
    for before, after in zip(shown.before, shown.after, strict=True):
        row = int((given == before).flatten(1).all(1).nonzero()[0])
        assert torch.equal(before, after) == bool(untouched[row])


# -- models -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_members_of_one_sweep_share_their_models(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)

    def models(name: str) -> dict[str, bool]:
        """Model stages of a run, and whether they were there."""
        finished = (e for e in run_of(name, cache) if isinstance(e, StageFinished))
        return {e.stage: e.cached for e in finished if e.stage in ("ebm", "ddpm")}

    stages = [models(name) for name in ("puregen_naive", "puregen_filt", "puregen_ddpm", "puregen_ebm")]

    assert stages == [
        {"ebm": False, "ddpm": False},
        {"ebm": True, "ddpm": True},
        {"ddpm": True},
        {"ebm": True},
    ]


def test_shipped_diffusion_weights_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    trained = prepared("puregen_ddpm")
    assert trained.noise_model is not None
    moved = {name: w + 1 for name, w in trained.noise_model.state_dict().items()}
    key = trained.config.diffusion_recipe().key(digits().public.x)
    weights.ship(key, moved, {"psnr": 20.0, "psnr_noised": 10.0}, "a command", "ddpm")

    shipped = prepared("puregen_ddpm", weights="shipped").noise_model

    assert shipped is not None
    assert all(torch.equal(w, moved[name]) for name, w in shipped.state_dict().items())


def test_a_walk_without_an_energy_model_is_recorded_to_its_end() -> None:
    defense, x = prepared("puregen_ddpm"), digits().train.x[:3]
    chain = defense.trace(x, Context())

    assert chain.steps.tolist() == [0, 1, 2, 3, 4] and chain.used == 4
    assert chain.moments[0] == "as given" and chain.moments[-1] == "0 of 3 noise levels left"
    assert torch.equal(chain.states[0], x) and chain.energies.isnan().all() and defense.energy(x) is None


def test_steps_beyond_the_levels_learned_are_refused() -> None:
    with pytest.raises(ValueError, match="ddpm_steps=60 asks for noise levels that the network never sees"):
        registry.defense["puregen_ddpm"].Config(ddpm_steps=60, ddpm_levels=50)


# -- what they learn from -----------------------------------------------------------------------------


def test_images_of_another_dataset_are_made_to_fit() -> None:
    color = torch.stack([torch.full((8, 8), v) for v in (30, 60, 90)])[None].to(torch.uint8)
    gray = torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)

    assert torch.equal(fitted(color, (1, 4, 4)), torch.full((1, 1, 4, 4), 60, dtype=torch.uint8))
    assert torch.equal(fitted(gray, (3, 16, 16)), torch.full((1, 3, 16, 16), 77, dtype=torch.uint8))
    assert torch.equal(fitted(color, (3, 8, 8)), color)


def test_another_dataset_as_source_gives_as_many_images_in_the_shape_of_the_public_ones() -> None:
    public = digits().public
    smaller = public.__class__(public.x[:, :, :8, :8].repeat(1, 3, 1, 1), public.y, public.classes)

    assert torch.equal(training_images("public", public), public.x)
    assert training_images("digits", smaller).shape == (len(public), 3, 8, 8)
    assert training_images("digits", smaller, most=200).shape == (200, 3, 8, 8)


def test_an_unknown_source_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown source 'imagenet'; choose one of: public, .*digits"):
        registry.defense["puregen_ebm"].Config(source="imagenet")


def test_the_attacked_dataset_itself_is_no_source() -> None:
    with pytest.raises(ValueError, match="source 'digits' is the attacked dataset"):
        make_spec("digits", "bullseye_polytope", "puregen_ddpm", overrides={"defense.source": "digits"})


def what_it_learned_from(
    monkeypatch: pytest.MonkeyPatch, attack: str = "badnets", **overrides: Any
) -> Tensor:
    """Public images that the defense was handed in a tiny run."""
    given = []
    monkeypatch.setattr(
        registry.defense["puregen_ddpm"], "prepare", lambda self, public, ctx: given.append(public.x)
    )
    monkeypatch.setattr(registry.defense["puregen_ddpm"], "purify", lambda self, data, ctx: data)
    monkeypatch.setattr(registry.defense["puregen_ddpm"], "trace", lambda self, x, ctx: None)
    tiny = {
        k: v
        for k, v in TARGETED.items()
        if attack != "badnets" or k.partition(".")[0] in ("training", "dataset")
    }
    tiny = {k: v for k, v in tiny.items() if not k.startswith("defense.")} | {"dataset.train_images": 100}
    run_experiment(make_spec("digits", attack, "puregen_ddpm", overrides=tiny | overrides), Context())
    return given[0]


def test_a_stress_test_puts_the_trigger_into_a_share_of_the_public_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean = what_it_learned_from(monkeypatch)
    stressed = what_it_learned_from(monkeypatch, public_poison=0.5)
    changed = (stressed != clean).flatten(1).any(1)

    assert changed.sum() == round(0.5 * len(clean))
    assert not (stressed != clean)[:, :, :8].any()  # the patch is in the lower right corner


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({}, "images: public;"),
        ({"defense.source": "cifar10"}, "images of another dataset: cifar10;"),
        ({"public_poison": 0.5}, "images: public, 50% of them with the trigger;"),
    ],
    ids=["public", "shifted", "poisoned"],
)
@pytest.mark.parametrize("defense", rest_slow(["puregen_ddpm", "puregen_ebm"]))
def test_the_health_of_a_model_names_what_it_learned_from(
    defense: str, overrides: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = registry.dataset["digits"]
    monkeypatch.setattr(registry.dataset["cifar10"], "load", lambda self: method(method.Config()).load())
    known = registry.defense[defense].Config.model_fields
    brief: dict[str, Any] = {
        "dataset.train_images": 100,
        "dataset.test_images": 60,
        "dataset.public_images": 130,
    }
    brief |= {"training.epochs": 1} | {
        k: v for k, v in TARGETED.items() if k.removeprefix("defense.") in known
    }
    ctx, heard = listening()
    run_experiment(make_spec("digits", "badnets", defense, overrides=brief | overrides), ctx)
    (health,) = [e.value for e in heard if isinstance(e, ArtifactReady) and e.name.endswith("health")]

    assert f"trained in this run, {said}" in health.verdict
    assert health.verdict in [e.message for e in heard if isinstance(e, Log)]


def test_a_stress_test_of_public_images_that_are_not_used_is_refused() -> None:
    stressed = {"public_poison": 0.5, "defense.source": "cifar10"}
    with pytest.raises(
        ValueError, match="public_poison=0.5 puts the trigger into public images, of which source 'cif"
    ):
        make_spec("digits", "badnets", "puregen_ebm", overrides=stressed)


def test_a_stress_test_without_a_trigger_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match="public_poison=0.5 needs a trigger; attack 'bullseye_polytope' has none"
    ):
        what_it_learned_from(monkeypatch, "bullseye_polytope", public_poison=0.5)


def test_runs_without_a_stress_test_keep_their_group() -> None:
    spec = make_spec("digits", "badnets", "none")
    dumped = spec.model_dump(mode="json", exclude={"seed", "preset", "public_poison", "fine_tune"})

    assert spec.group() == digest(dumped)
    assert make_spec("digits", "badnets", "none", overrides={"public_poison": 0.5}).group() != spec.group()
