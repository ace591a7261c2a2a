"""What must hold for every registered dataset. A new file in ``data/`` is covered by being there.

Datasets whose files are not on this machine skip, and say so.
"""

import typing
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from core_helpers import loaded

from poisonlab import registry
from poisonlab.attacks.shared.backdoor import BackdoorAttack
from poisonlab.context import Context
from poisonlab.data.base import divide
from poisonlab.spec.config import PRESETS, Protocol, make_spec
from poisonlab.types import ImageSet, Splits

PARTS = ("train", "test", "reserve", "public", "pretrain")
PROTOCOLS = typing.get_args(Protocol)
every_dataset = pytest.mark.parametrize("name", list(registry.dataset))


@dataclass(frozen=True)
class Quick:
    """A dataset as the preset ``quick`` takes it."""

    name: str
    pool: ImageSet
    test: ImageSet
    config: Any

    def divided(self, protocol: Protocol) -> Splits:
        return divide(self.pool, self.test, self.config, protocol)


@pytest.fixture(scope="module", params=list(registry.dataset))
def quick(request: pytest.FixtureRequest) -> Quick:
    """Each dataset, loaded once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        return Quick(request.param, *loaded(request.param, patch))


def rows_of(x: torch.Tensor) -> set[bytes]:
    return {image.tobytes() for image in x.numpy()}


def test_loaded_images_are_labeled_bytes(quick: Quick) -> None:
    pool, test = quick.pool, quick.test

    assert pool.shape == test.shape and pool.classes == test.classes
    assert set(pool.y.tolist()) == set(test.y.tolist()) == set(range(len(pool.classes)))


def skip_unless_complete(name: str, test: ImageSet, config: Any) -> None:
    if config.test_images > len(test):
        pytest.skip(f"only {len(test)} of the {config.test_images} test images of {name} are on this machine")


def assert_parts_share_no_image(splits: Splits, where: str) -> None:
    parts = {part: rows_of(getattr(splits, part).x) for part in PARTS}

    assert len(splits.train) and len(splits.public), where
    for part in ("test", "reserve", "public", "pretrain"):
        assert not parts["train"] & parts[part], f"{where}: train and {part}"
    for part in ("reserve", "public", "pretrain"):
        assert not parts["test"] & parts[part], f"{where}: test and {part}"
    assert not parts["reserve"] & parts["pretrain"], where


def test_the_attacked_set_shares_no_image_with_any_other_part(quick: Quick) -> None:
    skip_unless_complete(quick.name, quick.test, quick.config)
    for protocol in PROTOCOLS:
        assert_parts_share_no_image(quick.divided(protocol), f"{quick.name}, {protocol}")


@pytest.mark.slow
@every_dataset
@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "quick"])
def test_the_attacked_set_of_a_larger_preset_shares_no_image_with_any_other_part(
    name: str, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, test, config = loaded(name, monkeypatch, preset)
    skip_unless_complete(name, test, config)
    for protocol in PROTOCOLS:
        assert_parts_share_no_image(divide(pool, test, config, protocol), f"{name}, {preset}, {protocol}")


def test_the_division_is_always_the_same_and_balanced(quick: Quick) -> None:
    first, again = (quick.divided("from_scratch") for _ in range(2))

    assert torch.equal(first.train.x, again.train.x) and torch.equal(first.test.y, again.test.y)
    if len(torch.bincount(quick.pool.y).unique()) > 1:
        return  # shares of an uneven set: tests/data
    for part in (first.train, first.train[: 10 * len(quick.pool.classes) + 3], first.reserve):
        counts = torch.bincount(part.y, minlength=len(quick.pool.classes))
        assert int(counts.max() - counts.min()) <= 1


def test_every_quick_attack_finds_the_images_it_changes(quick: Quick) -> None:
    specs = {attack: make_spec(quick.name, attack, "none") for attack in registry.attack}
    train_of = {protocol: quick.divided(protocol).train for protocol in {s.protocol for s in specs.values()}}
    for attack, spec in specs.items():
        train = train_of[spec.protocol]
        method = spec.attack.build()
        wanted = getattr(spec.attack.params, "poisons", 0)
        if isinstance(method, BackdoorAttack):
            assert len(method._rows(train, Context())), attack
        elif wanted:
            assert wanted <= int(torch.bincount(train.y).min()), attack
