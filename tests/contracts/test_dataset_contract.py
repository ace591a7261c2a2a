"""What must hold for every registered dataset. A new file in ``data/`` is covered by being there.

Datasets whose files are not on this machine skip, and say so.
"""

import typing

import pytest
import torch
from core_helpers import loaded

from poisonlab import registry
from poisonlab.attacks.shared.backdoor import BackdoorAttack
from poisonlab.context import Context
from poisonlab.data.base import divide
from poisonlab.spec.config import PRESETS, Protocol, make_spec

PARTS = ("train", "test", "reserve", "public", "pretrain")
PROTOCOLS = typing.get_args(Protocol)
every_dataset = pytest.mark.parametrize("name", list(registry.dataset))


def rows_of(x: torch.Tensor) -> set[bytes]:
    return {image.tobytes() for image in x.numpy()}


@every_dataset
def test_loaded_images_are_labeled_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, _ = loaded(name, monkeypatch)

    assert pool.shape == test.shape and pool.classes == test.classes
    assert set(pool.y.tolist()) == set(test.y.tolist()) == set(range(len(pool.classes)))


def assert_parts_share_no_image(
    name: str, preset: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, test, config = loaded(name, monkeypatch, preset)
    if config.test_images > len(test):
        pytest.skip(f"only {len(test)} of the {config.test_images} test images of {name} are on this machine")
    splits = divide(pool, test, config, protocol)
    parts = {part: rows_of(getattr(splits, part).x) for part in PARTS}

    where = f"{name}, {preset}, {protocol}"
    assert len(splits.train) and len(splits.public), where
    for part in ("test", "reserve", "public", "pretrain"):
        assert not parts["train"] & parts[part], f"{where}: train and {part}"
    for part in ("reserve", "public", "pretrain"):
        assert not parts["test"] & parts[part], f"{where}: test and {part}"
    assert not parts["reserve"] & parts["pretrain"], where


@every_dataset
def test_the_attacked_set_shares_no_image_with_any_other_part(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for protocol in PROTOCOLS:
        assert_parts_share_no_image(name, "quick", protocol, monkeypatch)


@pytest.mark.slow
@every_dataset
@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "quick"])
def test_the_attacked_set_of_a_larger_preset_shares_no_image_with_any_other_part(
    name: str, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for protocol in PROTOCOLS:
        assert_parts_share_no_image(name, preset, protocol, monkeypatch)


@every_dataset
def test_the_division_is_always_the_same_and_balanced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, config = loaded(name, monkeypatch)
    first, again = (divide(pool, test, config, "from_scratch") for _ in range(2))

    assert torch.equal(first.train.x, again.train.x) and torch.equal(first.test.y, again.test.y)
    if len(torch.bincount(pool.y).unique()) > 1:
        return  # shares of an uneven set: tests/data
    for part in (first.train, first.train[: 10 * len(pool.classes) + 3], first.reserve):
        counts = torch.bincount(part.y, minlength=len(pool.classes))
        assert int(counts.max() - counts.min()) <= 1


@every_dataset
def test_every_quick_attack_finds_the_images_it_changes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, config = loaded(name, monkeypatch)
    for attack in registry.attack:
        spec = make_spec(name, attack, "none")
        train, method = divide(pool, test, config, spec.protocol).train, spec.attack.build()
        wanted = getattr(spec.attack.params, "poisons", 0)
        if isinstance(method, BackdoorAttack):
            assert len(method._rows(train, Context())), attack
        elif wanted:
            assert wanted <= int(torch.bincount(train.y).min()), attack
