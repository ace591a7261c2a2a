"""What is special about WaNet: one warp for all images, and noise samples that keep their labels."""

import pytest
import torch
from core_helpers import attackers_view, digits, listening, network, noise_images

from poisonlab.attacks.shared.batch_poisoning import BatchPoisoning
from poisonlab.attacks.wanet import WaNet, WaNetConfig, control_field, identity_grid, warp, warping_grid
from poisonlab.context import Context, derive
from poisonlab.models.base import as_floats


def hooked(**params: object) -> BatchPoisoning:
    """The hook at the start of a training on digits."""
    attack = WaNet(WaNetConfig(strength=3, **params))
    hook = attack.training_hook(attack.poison(attackers_view(), Context()), Context())
    assert isinstance(hook, BatchPoisoning)
    hook.begin(network(digits().train), digits().train, steps_an_epoch=4, epochs=1)
    return hook


def test_the_identity_grid_leaves_images_as_they_are() -> None:
    x = as_floats(digits().train.x[:4])

    assert torch.allclose(warp(x, identity_grid(16, 16, x.device)), x, atol=1e-5)


def test_the_field_has_mean_length_one_and_bends_by_half_pixels() -> None:
    field = control_field(4, derive(0, "field"))
    moved = warping_grid(field, 32, 32, strength=0.5) - identity_grid(32, 32, field.device)

    assert field.abs().mean().item() == pytest.approx(1)
    inside = moved[0, 8:24, 8:24].abs()
    assert 0 < inside.mean() * 32 / 2 < 0.5 and inside.max() * 32 / 2 < 1  # in pixels


def test_a_grid_never_leaves_the_image() -> None:
    grid = warping_grid(control_field(4, derive(0, "field")), 16, 16, strength=16)

    assert (float(grid.min()), float(grid.max())) == (-1, 1)


def test_values_are_rounded_where_backdoorbench_cuts_off_their_fraction() -> None:
    x = noise_images(20, (3, 32, 32)).x
    grid = warping_grid(control_field(4, derive(0, "field")), 32, 32, strength=0.5)
    lower = WaNet(WaNetConfig()).trigger(x, {"grid": grid}).int() - (255 * warp(as_floats(x), grid)).int()

    assert lower.unique().tolist() == [0, 1]
    assert lower.double().mean().item() == pytest.approx(0.49, abs=0.03)  # as the card says


def test_the_warp_is_drawn_once_for_each_seed() -> None:
    attack, view = WaNet(WaNetConfig()), attackers_view()
    first, again, other = (attack.poison(view, Context(seed=seed)).state["grid"] for seed in (1, 1, 2))

    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("mapping", ["all_to_one", "all_to_all"])
def test_each_batch_has_its_shares_and_noise_samples_keep_their_labels(mapping: str) -> None:
    hook, data = hooked(mapping=mapping), digits().train
    x, y, index = as_floats(data.x[:50]), data.y[:50], torch.arange(50)
    given = x.clone(), y.clone()

    changed_x, changed_y = hook.batch(x, y, index)

    assert torch.equal(x, given[0]) and torch.equal(y, given[1])
    assert (
        len(hook.true) == 5
        and len(hook.false) == 10
        and not set(hook.true.tolist()) & set(hook.false.tolist())
    )
    wanted = (y + 1) % 10 if mapping == "all_to_all" else torch.zeros_like(y)
    assert torch.equal(changed_y[hook.true], wanted[hook.true])
    others = torch.ones(50, dtype=torch.bool)
    others[hook.true] = False
    assert torch.equal(changed_y[others], y[others])
    others[hook.false] = False
    assert torch.equal(changed_x[others], x[others])
    assert torch.allclose(changed_x[hook.true], warp(x[hook.true], hook.poison.state["grid"]))
    assert not torch.allclose(
        changed_x[hook.false], warp(x[hook.false], hook.poison.state["grid"]), atol=0.05
    )
    if mapping == "all_to_one":
        assert bool((y[hook.true] != 0).all())


def test_other_rows_are_poisoned_in_every_batch() -> None:
    hook, order = hooked(), torch.arange(50)
    seen = []
    for rows in (order, order.flip(0)):
        part = digits().train[rows]
        hook.batch(as_floats(part.x), part.y, rows)
        seen.append(set(rows[hook.true].tolist()))

    assert len(seen[0]) == len(seen[1]) == 5 and not seen[0] & seen[1]


def test_an_epoch_ends_with_what_the_triggers_did() -> None:
    attack, (ctx, heard) = WaNet(WaNetConfig(strength=3)), listening()
    hook = attack.training_hook(attack.poison(attackers_view(), Context()), ctx)
    assert hook is not None
    data = digits().train[:50]
    hook.begin(network(data), data, steps_an_epoch=1, epochs=1)
    _, y = hook.batch(as_floats(data.x), data.y, torch.arange(50))
    hook.loss(torch.nn.functional.one_hot(y, 10).float(), y, 0.0)

    assert [(e.name, e.value) for e in heard] == [("triggered_accuracy", 1.0), ("cross_accuracy", 1.0)]  # type: ignore[attr-defined]


def test_as_a_data_poisoning_it_leaves_training_alone() -> None:
    attack = WaNet(WaNetConfig(mode="data"))

    assert attack.training_hook(attack.poison(attackers_view(), Context()), Context()) is None
