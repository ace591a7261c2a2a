"""The energy model: its sizes, and that a diverging one is never used."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import digits, listening
from torch import Tensor, nn

from poisonlab.context import Context, derive
from poisonlab.defenses.puregen_ebm import PureGenEBM, PureGenEBMConfig
from poisonlab.events import ArtifactReady, Event, Log, Metric
from poisonlab.generative import ebm, weights
from poisonlab.generative.ebm import EBMConfig, decay, energy_network, train_ebm
from poisonlab.generative.langevin import LangevinConfig
from poisonlab.training.loop import Diverged

TINY: dict[str, Any] = {
    "architecture": "light",
    "filters": 4,
    "updates": 4,
    "batch_size": 8,
    "bank_size": 16,
    "chain_steps": 2,
    "health_every": 1,
    "min_psnr": 0,
}
SAMPLER = LangevinConfig(step_clamp=0.03, state_clamp=1.5)


def train(send: Any = lambda event: None, **params: Any) -> tuple[nn.Module, ebm.Health]:
    return train_ebm(digits().public.x, EBMConfig(**TINY | params), SAMPLER, Context(send=send))


@pytest.mark.parametrize(("filters", "parameters"), [(128, 1_053_824), (64, 264_768), (32, 66_848)])
def test_sngan_network_has_the_released_size(filters: int, parameters: int) -> None:
    network = energy_network(EBMConfig(architecture="sngan", filters=filters), 3, derive(0))

    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("architecture", ["sngan", "light"])
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 32)], ids=str)
def test_a_network_gives_one_energy_an_image(architecture: str, shape: tuple[int, int, int]) -> None:
    network = energy_network(EBMConfig(architecture=architecture, filters=4), shape[0], derive(0))

    assert network(torch.rand(5, *shape)).shape == (5,)


def test_first_weights_depend_on_the_generator_alone() -> None:
    torch.rand(3)  # a draw from the global source in between must not matter
    first, again = (energy_network(EBMConfig(filters=4), 1, derive(1, "init")) for _ in range(2))

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_learning_rate_falls_at_the_published_marks() -> None:
    assert [decay(u / 120, 0.1) for u in (0, 39, 40, 75, 99, 100)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.01, 0.001]
    )


def test_training_ends_healthy_and_frozen() -> None:
    network, health = train()

    assert health.sound(EBMConfig(**TINY))
    assert not any(p.requires_grad for p in network.parameters())


def steps_of_released_loss(positives: Tensor, negatives: Tensor, start: nn.Module, tau: float) -> nn.Module:
    """Three steps of Adam on (mean E(x+) - mean E(x-)) / tau, as the repository takes them."""
    energy = copy.deepcopy(start)
    optimizer = torch.optim.Adam(energy.parameters(), lr=1e-4)
    for _ in range(3):
        optimizer.zero_grad()
        ((energy(positives).mean() - energy(negatives).mean()) / tau).backward()
        optimizer.step()
    return energy


@pytest.mark.parametrize(("penalty", "epsilon"), [(0.0, 1e-12), (1.0, 1e-8)])
def test_epsilon_is_scaled_where_the_loss_is_the_released_one(penalty: float, epsilon: float) -> None:
    """A loss with a penalty of our own, under which the shipped weights were trained, keeps torch's."""
    config = EBMConfig(filters=4, bank_size=16, batch_size=8, energy_penalty=penalty)
    training = ebm._Training(digits().public.x, config, LangevinConfig(), Context())
    assert training.optimizer.param_groups[0]["eps"] == pytest.approx(epsilon, rel=1e-9)


def test_steps_are_those_of_the_released_loss_divided_by_its_temperature() -> None:
    config = EBMConfig(filters=4, bank_size=16, batch_size=8)
    training = ebm._Training(digits().public.x, config, LangevinConfig(), Context())
    positives = training.noisy_data(8)
    negatives = training.noisy_data(8)
    released = steps_of_released_loss(positives, negatives, training.energy, tau=1e-4)

    for _ in range(3):
        training._descend(positives, negatives)

    apart = [
        float((a - b).detach().abs().max())
        for a, b in zip(training.energy.parameters(), released.parameters(), strict=True)
    ]
    assert max(apart) < 1e-7  # of 3e-4 that a weight moves; with torch's own epsilon 3.5e-6


def test_averaging_of_weights() -> None:
    """A mean of decay 0 is the last value; with a decay it lies between the values seen."""
    weights = [torch.tensor([float(v)]) for v in (0, 8, 2)]
    for decay_, expected in ((0.0, 2.0), (0.05, 2.28)):
        mean = weights[0].clone()
        for seen, value in enumerate(weights[1:], 1):
            ebm.running_mean(decay_)([mean], [value], torch.tensor(seen))
        assert mean.item() == pytest.approx(expected, abs=1e-6)


def test_training_is_the_same_for_the_same_seed() -> None:
    (first, _), (again, _) = train(), train()

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_an_energy_model_that_never_was_healthy_raises() -> None:
    with pytest.raises(Diverged, match="diverged at update 1 .* lower its lr or chain_steps"):
        train(lr=1.0, min_psnr=60)


def unsound_at(updates: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the n-th health checks find a model that blew up."""
    real, calls = ebm.check_health, iter(range(1, 100))

    def check(*args: Any) -> ebm.Health:
        health = real(*args)
        return ebm.Health(-5.0, math.nan, 0.0, 0.5) if next(calls) in updates else health

    monkeypatch.setattr(ebm, "check_health", check)


def test_divergence_is_rolled_back_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    unsound_at({3}, monkeypatch)
    heard: list[Event] = []

    _, health = train(heard.append)

    warnings = [e.message for e in heard if isinstance(e, Log) and e.level == "warning"]
    assert len(warnings) == 1 and "at update 3" in warnings[0] and "back to update 2" in warnings[0]
    assert [e.step for e in heard if isinstance(e, Metric) and e.name == "ebm_psnr"] == [1, 2, 3, 3, 4]
    assert math.isfinite(health.energy_gap)


def test_after_a_roll_back_nothing_is_left_of_a_model_that_blew_up(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = ebm.check_health, iter(range(1, 100))

    def blow_up_at_third(energy: nn.Module, held_out: Tensor, bank: Tensor, *rest: Any) -> ebm.Health:
        if next(calls) == 3:
            with torch.no_grad():
                for tensor in (*energy.parameters(), bank):
                    tensor.fill_(math.nan)
        return real(energy, held_out, bank, *rest)

    monkeypatch.setattr(ebm, "check_health", blow_up_at_third)
    network, health = train()

    assert math.isfinite(health.psnr)
    assert all(bool(p.isfinite().all()) for p in network.parameters())


def test_too_many_roll_backs_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    unsound_at(set(range(2, 100)), monkeypatch)
    with pytest.raises(Diverged, match="after 5 roll-backs"):
        train()


def test_a_huge_learning_rate_never_passes_for_a_model() -> None:
    """Really diverging, not pretended: the released step without clamps on a net with a huge learning rate."""
    config = EBMConfig(**TINY | {"lr": 1.0, "updates": 30, "min_psnr": 16, "chain_steps": 10})
    heard: list[Event] = []
    try:
        _, health = train_ebm(digits().public.x, config, LangevinConfig(), Context(send=heard.append))
    except Diverged as error:
        assert "PSNR" in str(error)
    else:
        assert health.psnr >= 16 and any(isinstance(e, Log) and e.level == "warning" for e in heard)


def test_too_few_public_images_name_the_numbers() -> None:
    with pytest.raises(ValueError, match="at least 128 public images, got 100"):
        train_ebm(digits().public.x[:100], EBMConfig(**TINY), SAMPLER, Context())


# -- shipped weights ----------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of shipped weights."""
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "weights")
    return tmp_path / "weights"


HEALTH = {"psnr": 30.0, "energy_gap": 0.0, "bank_energy_spread": 1.0, "noise_auroc": 0.9}


def test_weights_are_found_for_exactly_their_key(shelf: Path) -> None:
    public, config = digits().public.x, EBMConfig(**TINY)
    mine = weights.key(public, config, SAMPLER)
    weights.ship(mine, {"w": torch.arange(3.0)}, HEALTH, "a command")
    others = [
        weights.key(public[1:], config, SAMPLER),
        weights.key(public, config.model_copy(update={"lr": 0.5}), SAMPLER),
        weights.key(public, config, LangevinConfig()),
    ]

    found = weights.find(mine)
    assert found and torch.equal(found.tensors["w"], torch.arange(3.0)) and found.health == HEALTH
    assert [weights.find(key) for key in others] == [None, None, None]


def test_weights_over_five_megabytes_are_refused(shelf: Path) -> None:
    with pytest.raises(ValueError, match="may take 5242880 bytes, these take 5242884"):
        weights.ship(["key"], {"w": torch.zeros(5 * 2**18 + 1)}, HEALTH, "a command")
    assert not shelf.exists()


def prepared(**params: Any) -> tuple[PureGenEBM, list[Event]]:
    ctx, heard = listening()
    defense = PureGenEBM(PureGenEBMConfig(**TINY | {"step_clamp": 0.03, "state_clamp": 1.5} | params))
    defense.prepare(digits().public, ctx)
    return defense, heard


def test_a_defense_uses_shipped_weights_and_says_so(shelf: Path) -> None:
    trained, _ = prepared(weights="train")
    key = weights.key(digits().public.x, trained.config.ebm(), trained.config.sampler())
    moved = {name: w + 1 for name, w in trained.energy_model.state_dict().items()}
    weights.ship(key, moved, HEALTH, "a command")

    shipped, heard = prepared(weights="shipped")

    assert all(torch.equal(w, moved[name]) for name, w in shipped.energy_model.state_dict().items())
    assert any("a command" in e.message for e in heard if isinstance(e, Log))


def test_asked_to_train_a_defense_ignores_shipped_weights(shelf: Path) -> None:
    trained, _ = prepared(weights="train")
    key = weights.key(digits().public.x, trained.config.ebm(), trained.config.sampler())
    weights.ship(key, {n: w + 1 for n, w in trained.energy_model.state_dict().items()}, HEALTH, "a command")

    again, _ = prepared(weights="train")

    pairs = zip(again.energy_model.parameters(), trained.energy_model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_health_is_shown(shelf: Path) -> None:
    _, heard = prepared()
    health = next(e.value for e in heard if isinstance(e, ArtifactReady) and e.name == "ebm_health")

    assert {"psnr", "noise_auroc"} <= health.values.keys() and "trained in this run" in health.verdict


def test_zero_steps_purify_nothing(shelf: Path) -> None:
    defense, _ = prepared(steps=0)
    data = digits().train[:10]

    assert torch.equal(defense.purify(data, Context()).x, data.x)


def test_shipped_weights_of_this_repository_fit_their_names() -> None:
    for path in weights.FOLDER.glob("*.safetensors"):
        assert path.stat().st_size <= weights.MAX_BYTES + 2**16, path.name
