"""What is special about Adaptive-Patch: one of four faint patches in training, several opaque ones at test time."""

from typing import Any

import pytest
import torch
from core_helpers import attackers_view, digits, noise_images

from poisonlab.attacks.adaptive_patch import PATCHES, AdaptivePatch, AdaptivePatchConfig, patches
from poisonlab.context import Context
from poisonlab.types import Poison

RATES = {"poison_rate": 0.1, "cover_rate": 0.2}


def made(**params: Any) -> Poison:
    return AdaptivePatch(AdaptivePatchConfig(**(RATES | params))).poison(attackers_view(), Context(seed=1))


def test_patches_have_the_published_places_and_sizes() -> None:
    _, masks = patches((3, 32, 32))
    places = [mask[0].nonzero() for mask in masks]
    boxes = [(*place.min(0).values.tolist(), *place.max(0).values.tolist()) for place in places]

    assert boxes == [(27, 27, 31, 31), (1, 18, 13, 30), (0, 0, 31, 31), (21, 21, 28, 28)]
    pixels = dict(zip(PATCHES, masks.flatten(1).sum(1).tolist(), strict=True))
    assert pixels == {"emblem": 25, "disc": pytest.approx(140, abs=8), "checkers": 4 * 9, "square": 64}


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16), (3, 13, 13), (3, 30, 45), (4, 64, 64)])
def test_on_images_of_other_sizes_every_patch_shows_more_than_one_color(shape: tuple[int, int, int]) -> None:
    marks, masks = patches(shape)

    assert marks.shape == (4, *shape) and masks.shape == (4, 1, *shape[1:])
    assert float(marks.min()) >= 0 and float(marks.max()) <= 1
    for mark, mask in zip(marks, masks, strict=True):
        shown = mark[:, mask[0]]  # (c, pixels)
        assert 4 <= shown.shape[1] < 0.35 * mask.numel()
        assert len(shown.unique(dim=1).T) > 1


def test_payload_is_relabeled_cover_keeps_its_labels_and_no_row_is_both() -> None:
    train, poison = digits().train, made(target_class=3)
    payload = round(0.1 * len(train))

    assert poison.budget == payload + round(0.2 * len(train))
    assert len(poison.index[0].unique()) == poison.budget
    assert set(poison.labels[0, :payload].tolist()) == {3}
    assert torch.equal(poison.labels[0, payload:], train.y[poison.index[0, payload:]])


def test_each_training_image_gets_one_patch_by_its_opacity_each_patch_as_many_of_both_groups() -> None:
    opacity = {"emblem": 0.5, "disc": 0.2, "checkers": 0.5, "square": 0.3}
    train, poison = digits().train, made()
    marks, masks = patches(train.shape)
    x = train.x[poison.index[0]].float()
    payload = round(0.1 * len(train))
    seen = []
    for image, before in zip(poison.images[0].float(), x, strict=True):
        fitting = []
        for number, name in enumerate(PATCHES):
            mark = 255 * marks[number]
            expected = torch.where(masks[number], before + opacity[name] * (mark - before), before)
            if float((image - expected).abs().max()) <= 0.5 + 1e-3:
                fitting.append(number)
        assert len(fitting) == 1
        seen += fitting

    for group in (seen[:payload], seen[payload:]):
        counts = [group.count(number) for number in range(4)]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("at_test", "shown"),
    [("emblem_and_checkers", (0, 2)), ("disc_and_square", (1, 3)), ("all", (0, 1, 2, 3))],
)
def test_at_test_time_several_patches_are_shown_at_once_and_hide_what_lies_below(
    at_test: Any, shown: tuple[int, ...]
) -> None:
    x = noise_images(5, (3, 32, 32)).x
    before = x.clone()
    method = AdaptivePatch(AdaptivePatchConfig(at_test=at_test))
    marks, masks = patches((3, 32, 32))

    triggered = method.trigger(x, {"marks": marks, "masks": masks})

    inside = masks[list(shown)].any(0).expand(3, 32, 32)
    assert torch.equal(x, before)
    assert torch.equal(triggered[:, ~inside], x[:, ~inside])
    assert bool((triggered[:, inside] == triggered[0, inside]).all())  # nothing of the images is left there
    last = masks[shown[-1]].expand(3, 32, 32)
    assert torch.equal(triggered[0, last], (255 * marks[shown[-1]][last]).round().to(torch.uint8))


def test_gtsrb_is_shown_other_patches_at_published_rates() -> None:
    there = AdaptivePatchConfig.for_preset("paper", "gtsrb")
    here = AdaptivePatchConfig.for_preset("paper", "cifar10")

    assert (there.poison_rate, there.cover_rate, there.at_test) == (0.005, 0.01, "disc_and_square")
    assert (here.poison_rate, here.cover_rate, here.at_test) == (0.003, 0.006, "emblem_and_checkers")


def test_images_too_small_for_four_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="needs images of side 13 or more; these have 6"):
        AdaptivePatch(AdaptivePatchConfig()).check_images(noise_images(5, (3, 6, 9)))
