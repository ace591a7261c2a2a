"""Which pictures and which networks of a run are looked at."""

import pytest
import torch

from poisonlab.lens.pictures import CLEAN, POISONED, TARGET, TRIGGERED, networks, pictures, spread
from poisonlab.pipeline.reopen import Opened


@pytest.mark.parametrize(("count", "most"), [(0, 5), (3, 5), (10, 5), (1000, 7)])
def test_rows_are_spread_evenly_and_none_comes_twice(count: int, most: int) -> None:
    rows = spread(count, most)

    assert len(rows) == min(count, most) == len(rows.unique())
    assert not len(rows) or (int(rows[0]) == 0 and int(rows[-1]) < count)


def test_groups_are_what_they_are_called(repaired: Opened) -> None:
    found = pictures(repaired, most=40)

    attacked = repaired.attacked
    assert len(found) == 40 and set(found.group.tolist()) == {0, 1, 2}
    poisoned = {image.numpy().tobytes() for image in attacked.poison.images[0]}
    assert all(found.x[row].numpy().tobytes() in poisoned for row in found.rows(POISONED))
    assert not any(found.x[row].numpy().tobytes() in poisoned for row in found.rows(CLEAN))
    assert (found.given[found.rows(CLEAN)] == found.true[found.rows(CLEAN)]).all()
    target = attacked.threat.target_class  # type: ignore[union-attr]
    assert (found.given[found.rows(POISONED)] == target).all()
    assert (found.true[found.rows(TRIGGERED)] != target).all()


def test_a_run_gives_the_same_pictures_each_time(repaired: Opened) -> None:
    assert torch.equal(pictures(repaired).x, pictures(repaired).x)


def test_a_targeted_attack_shows_the_target_of_the_trial(targeted: Opened) -> None:
    for trial in range(3):
        found = pictures(targeted, trial)
        target = targeted.attacked.threat.images[trial]  # type: ignore[union-attr]
        assert torch.equal(found.x[found.rows(TARGET)], target[None])


def test_each_trial_has_its_network_and_all_share_the_control(targeted: Opened) -> None:
    each = [networks(targeted, trial) for trial in range(3)]

    assert all(list(found) == ["control", "undefended"] for found in each)
    heads = [found["undefended"].head.weight for found in each]
    assert not torch.equal(heads[0], heads[1])


def test_without_an_attack_there_is_a_control_alone(unattacked: Opened) -> None:
    assert list(networks(unattacked)) == ["control"]
    found = pictures(unattacked, most=40)
    assert len(found) == 40 and len(found.rows(POISONED)) == 0
