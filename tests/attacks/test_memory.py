"""Crafting in groups: what a graph keeps of an image, how many fit, and that groups change no numbers."""

from functools import partial
from pathlib import Path

import pytest
import torch
from core_helpers import attackers_view, clean_model, listening, network, noise_images, small, surrogate
from torch import Tensor

from poisonlab import machine
from poisonlab.attacks.bullseye_polytope import BullseyePolytopeConfig, bullseye_loss
from poisonlab.attacks.convex_polytope import ConvexPolytope
from poisonlab.attacks.shared.memory import images_at_once
from poisonlab.attacks.shared.surrogates import Loss
from poisonlab.attacks.shared.targeted import descend, trials_at_once
from poisonlab.context import Context
from poisonlab.events import Metric

GIB = 2**30
MIB = 2**20


def photographs() -> Tensor:
    return noise_images(2, (3, 32, 32), 10).x.float() / 255


@pytest.mark.parametrize(("victim", "mib"), [("resnet18", 4.5), ("mobilenetv2", 13.0), ("densenet121", 37.9)])
def test_as_many_images_as_half_the_memory_holds(
    victim: str, mib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MiB that a pass keeps of an image of 32x32, as measured on torch's saved tensors."""
    monkeypatch.setattr(machine, "memory_bytes", lambda device: 100 * GIB)
    model = network(noise_images(2, (3, 32, 32), 10), victim).requires_grad_(False)

    assert images_at_once(model, photographs()) == pytest.approx(50 * GIB / (mib * MIB), rel=0.01)
    assert images_at_once(model, photographs(), graphs=4) == pytest.approx(12.5 * GIB / (mib * MIB), rel=0.01)


def test_a_system_that_does_not_say_sets_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda device: None)

    base = torch.zeros(7, 5, 1, 16, 16, dtype=torch.uint8)
    assert trials_at_once([surrogate(clean_model())], base) == 7


@pytest.mark.parametrize(("written", "expected"), [("1000\n", 1000), ("max\n", None), (None, None)])
def test_a_containers_limit_counts(
    written: str | None, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CONTAINER_LIMIT", tmp_path / "memory.max")
    if written:
        (tmp_path / "memory.max").write_text(written)
    found = machine.memory_bytes(torch.device("cpu"))

    assert found == expected if expected else found is None or found > 2**28


def test_trials_are_counted_by_their_poisons(monkeypatch: pytest.MonkeyPatch) -> None:
    base = torch.zeros(4, 10, 1, 16, 16, dtype=torch.uint8)
    monkeypatch.setattr(machine, "memory_bytes", lambda device: GIB)
    an_image = GIB / images_at_once(clean_model(), base[0].float())  # of memory, of which half is used

    found = []
    for images in (1, 19, 21, 39, 1000):
        monkeypatch.setattr(machine, "memory_bytes", lambda device, n=images: int(n * an_image) + 1)
        found.append(trials_at_once([surrogate(clean_model())], base))
    assert found == [1, 1, 2, 3, 4]


@pytest.mark.parametrize("at_once", [1, 2])
def test_trials_crafted_in_groups_are_those_crafted_together(at_once: int) -> None:
    train = attackers_view().train
    base = train.x[:30].unflatten(0, (3, 10))
    targets = train.x[30:33]
    one = surrogate(clean_model())
    config = BullseyePolytopeConfig(eps=48, steps=10, step_size=5)

    def losses_of(group: Tensor) -> list[Loss]:
        return [partial(bullseye_loss, one, one.target_features(group))]

    def crafted(trials: int) -> tuple[Tensor, float]:
        ctx, heard = listening()
        images = descend(base, targets, losses_of, trials, config, "distance", ctx)
        return images, next(e.value for e in heard if isinstance(e, Metric))

    together, distance = crafted(3)
    images, in_groups = crafted(at_once)

    # a batch of another size may round differently: a pixel in a thousand, by one level
    apart = (images.int() - together.int()).abs()
    assert in_groups == pytest.approx(distance, abs=1e-4)
    assert apart.max() <= 1 and (apart > 0).float().mean() <= 1e-3


def test_a_small_memory_changes_no_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    def poisons() -> Tensor:
        return small(ConvexPolytope, targets=3).poison(attackers_view(), Context(seed=3)).images

    together = poisons()
    monkeypatch.setattr(machine, "memory_bytes", lambda device: 1)

    assert torch.equal(poisons(), together)
