"""How much of a perturbation a purification leaves, and the walks under one noise that show it."""

from typing import Any

import pytest
import torch
from core_helpers import digits, listening, noise_images, rest_slow, small, tiny_spec
from torch import Tensor

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.events import ArtifactReady, Cancelled, Metric
from poisonlab.figures.purification import surviving_share as along_the_walk
from poisonlab.measure.galleries import SHOWN
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.pipeline.purify import (
    PIXELS,
    examine,
    show_chains,
    surviving_metrics,
    surviving_share,
)
from poisonlab.records.artifacts import LangevinTrace
from poisonlab.spec.config import Config
from poisonlab.types import ImageSet, Poison

CLEAN = noise_images(6)
POISONED = CLEAN.x + 20


class Mixed(Defense):
    """Keeps ``share`` of each image and adds noise; the exact answer is known."""

    def __init__(self, share: float, noise: float = 0.0) -> None:
        super().__init__(Config())
        self.share, self.noise = share, noise

    def purify(self, data: ImageSet, ctx: Context) -> ImageSet:
        noise = torch.empty(data.x.shape).normal_(generator=ctx.generator("mixed"))
        ctx.metric("psnr_purified", 1, 1.0)
        x = (self.share * data.x.float() + self.noise * noise + 12).round().clamp(0, 255)
        return ImageSet(x.to(torch.uint8), data.y, data.classes)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_is_that_of_the_transform_and_noise_is_shared(share: float) -> None:
    ctx, heard = listening()

    found = surviving_share(CLEAN, POISONED, Mixed(share, noise=3), ctx)

    assert found == pytest.approx(torch.full((6,), share), abs=0.03)
    assert not [event for event in heard if isinstance(event, Metric)]  # those of the training set stay alone


def test_images_without_a_perturbation_have_no_share() -> None:
    half = torch.cat([CLEAN.x[:3], POISONED[3:]])

    found = surviving_share(CLEAN, half, Mixed(1), Context())

    assert found[:3].isnan().all() and found[3:] == pytest.approx(torch.ones(3))
    assert surviving_metrics(found) == {"surviving_share": pytest.approx(1.0)}
    assert surviving_metrics(torch.zeros(0)) == {}


def test_a_cancel_comes_through() -> None:
    def stop(event: object) -> None:
        raise Cancelled

    class Busy(Mixed):
        def purify(self, data: ImageSet, ctx: Context) -> ImageSet:
            ctx.progress(1, 2)
            return data

    with pytest.raises(Cancelled):
        surviving_share(CLEAN, POISONED, Busy(1), Context(send=stop))


def shown(name: str, clean: Tensor, poisoned: Tensor) -> LangevinTrace:
    defense = small(registry.defense[name])
    defense.prepare(digits().public, Context())
    ctx, heard = listening()
    show_chains(clean, poisoned, defense, ctx)
    return next(event.value for event in heard if isinstance(event, ArtifactReady))


@pytest.mark.parametrize("name", rest_slow(["puregen_ddpm", "puregen_ebm"]))
def test_walks_of_equal_images_are_equal_and_a_perturbation_starts_whole(name: str) -> None:
    clean = digits().train.x[:3]
    poisoned = (clean.int() + 30).clamp(0, 255).to(torch.uint8)

    equal, apart = shown(name, clean, clean), shown(name, clean, poisoned)

    assert torch.equal(equal.clean_images, equal.poisoned_images) and equal.same_noise
    assert along_the_walk(equal).shape[1] == 0
    share = along_the_walk(apart)
    assert (
        share.shape == (len(apart.steps), 3)
        and share[0].tolist() == [1, 1, 1]
        and not share[-1].isnan().any()
    )


def test_large_images_get_fewer_chains() -> None:
    side, counts = 64, []

    class Recorded(Mixed):
        def trace(self, x: Tensor, ctx: Context) -> Any:
            counts.append(len(x))

    train = ImageSet(torch.zeros(60, 3, side, side, dtype=torch.uint8), torch.zeros(60).long(), ("a",))
    index = torch.arange(40)[None]
    poison = Poison(index, train.x[index] + 9, train.y[index])

    examine(train, poison, torch.cat([train.x, poison.images[0]]), Recorded(1), Context())

    assert counts == [SHOWN * PIXELS // (3 * side * side)] * 2 == [6, 6]


def test_a_run_reports_the_share() -> None:
    metrics = run_experiment(tiny_spec("jpeg", defense__quality=90), Context()).metrics

    assert 0 < metrics["surviving_share"] < 2
    assert "surviving_share" not in run_experiment(tiny_spec("none"), Context()).metrics
