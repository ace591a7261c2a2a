"""Class activation maps: formulas against their definition, shares, the choice of a layer, and real images."""

from pathlib import Path

import pytest
import torch
from core_helpers import loaded, network, noise_images
from torch import Tensor, nn

from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.lens.attention import (
    GRADIENTS,
    Layer,
    attention,
    enlarged,
    grad_cam,
    hires_cam,
    looked_at,
    share_inside,
    spatial_layers,
    trigger_side,
    usual_map,
)
from poisonlab.models.base import Classifier, as_floats, predict
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.pipeline.reopen import Opened, reopen
from poisonlab.spec.config import make_spec

LAYERS = (Layer("a", 16, 16), Layer("b", 8, 8), Layer("c", 4, 4))


def corner(side: int, size: int = 16) -> Tensor:
    support = torch.zeros(2, size, size, dtype=torch.bool)
    support[:, -side:, -side:] = True
    return support


def test_the_last_layer_of_each_resolution_is_found() -> None:
    images = noise_images(shape=(1, 16, 16))
    model = network(images, width=8)

    found = spatial_layers(model, as_floats(images.x[:1]))

    assert [(layer.height, layer.width) for _, layer in found.values()] == [(16, 16), (8, 8), (4, 4)]
    assert list(found) == ["body.3", "body.4", "body.5"]


class Tokens(nn.Module):
    """What a transformer does with an image: patches, and from then on a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, 4)
        self.blocks = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.blocks(self.patches(x).flatten(2).mT)
        return tokens.mean(1)


def test_a_network_of_sequences_has_no_such_layer_but_gradients() -> None:
    images = noise_images(8, (1, 16, 16))
    model = Classifier(Tokens(), 6, 4, torch.zeros(1), torch.ones(1)).eval()

    found = spatial_layers(model, as_floats(images.x[:1]))
    answers, maps = looked_at(model, images.x, found)

    assert found == {} and maps.shape == (1, 8, 16, 16)
    assert torch.equal(answers, predict(model, images.x))


def test_before_average_pooling_both_methods_are_the_derivative_times_the_channel() -> None:
    activation = torch.rand(3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.linspace(-1, 1, 5)
    gradient = (weight / 16).view(1, 5, 1, 1).expand_as(activation)  # of weight @ activation.mean((2, 3))

    expected = torch.einsum("c,nchw->nhw", weight / 16, activation).relu()

    assert torch.allclose(grad_cam(activation, gradient), expected, atol=1e-6)
    assert torch.allclose(hires_cam(activation, gradient), expected, atol=1e-6)


def test_gradients_are_those_of_the_networks_own_answer() -> None:
    images = noise_images(6, (1, 16, 16))
    model = network(images, width=8).double()
    x = images.x.double() / 255

    answers, maps = looked_at(model, x, {})
    step = torch.zeros_like(x[:1])
    step[..., 7, 9] = 1e-5
    score = [model(x[:1] + sign * step)[0, answers[0]] for sign in (1, -1)]

    assert float(maps[-1, 0, 7, 9]) == pytest.approx(
        abs((score[0] - score[1]).item()) / 2e-5, rel=1e-3, abs=1e-8
    )


def test_shares_of_parts_that_cover_the_image_add_up_to_one() -> None:
    maps = torch.rand(4, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    support = corner(5)

    inside = share_inside(maps, support)
    outside = share_inside(maps, ~support)

    assert bool(((inside >= 0) & (inside <= 1)).all())
    assert torch.allclose(inside + outside, torch.ones(4, 2))


def test_a_map_that_is_the_same_everywhere_has_the_share_of_the_pixels() -> None:
    assert share_inside(torch.ones(2, 16, 16), corner(4)).tolist() == pytest.approx([1 / 16, 1 / 16])


def test_an_empty_map_and_an_empty_trigger_have_no_share() -> None:
    assert share_inside(torch.zeros(2, 16, 16), corner(4)).isnan().all()
    assert share_inside(torch.ones(2, 16, 16), ~corner(16)).isnan().all()


def test_a_map_in_the_corner_cell_stays_there_when_it_is_enlarged() -> None:
    coarse = torch.zeros(2, 8, 8)
    coarse[:, -1, -1] = 1.0

    large = enlarged(coarse, (16, 16))

    assert float(large.min()) >= 0
    assert share_inside(large, corner(3)).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    ("support", "chosen"),
    [(corner(3), 3), (corner(4), 4), (corner(8), 5), (corner(1), 3), (~corner(16), 2), (corner(16), 2)],
    ids=["two cells of one pixel", "of two", "of four", "finest", "no trigger", "everywhere"],
)
def test_the_first_map_is_the_deepest_that_resolves_the_trigger(support: Tensor, chosen: int) -> None:
    assert usual_map(LAYERS, support) == chosen


def test_the_side_of_a_trigger_is_that_of_its_box() -> None:
    assert trigger_side(corner(3)) == 3
    assert trigger_side(~corner(16)) is None


def test_a_run_has_every_map_of_every_network_on_the_same_pictures(repaired: Opened) -> None:
    found = attention(repaired)

    assert list(found.maps) == ["control", "undefended", "defended"]
    assert found.names == (
        *(f"Grad-CAM {n}×{n}" for n in (16, 8, 4)),
        *(f"HiResCAM {n}×{n}" for n in (16, 8, 4)),
        GRADIENTS,
    )
    assert found.names[found.usual] == "HiResCAM 16×16"
    for model in found.maps:
        assert found.maps[model].shape == (7, 8, 16, 16) and float(found.maps[model].min()) >= 0
        known = found.shares[model][found.shares[model].isfinite()]
        assert len(known) and bool(((known >= 0) & (known <= 1)).all())
    assert found.even == pytest.approx(9 / 256, abs=1e-3)


def test_without_a_trigger_nothing_has_a_share(targeted: Opened) -> None:
    found = attention(targeted, 1)

    assert found.even != found.even and not found.support.any()
    assert all(shares.isnan().all() for shares in found.shares.values())
    assert torch.equal(found.x[0], targeted.attacked.threat.images[1])  # type: ignore[union-attr]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("seed", "target_class"), [(1, 3)])  # others: docs/results.md; minutes each
def test_a_backdoored_network_looks_at_the_trigger_and_a_repaired_one_does_not(
    seed: int, target_class: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On photographs, by the map that the page shows first. Grad-CAM of the last layer is five times the even share."""
    loaded("cifar10", monkeypatch)
    spec = make_spec("cifar10", "badnets", "anp", seed=seed, overrides={"attack.target_class": target_class})
    run_experiment(spec, Context(cache=StageCache(tmp_path)))

    found = attention(reopen(spec, tmp_path))

    share = {model: float(shares[found.usual].nanmean()) for model, shares in found.shares.items()}
    print(share)
    assert share["undefended"] >= 0.5
    assert share["defended"] < 0.2 and share["control"] < 0.2
    last = found.names.index("Grad-CAM 4×4")
    assert float(found.shares["undefended"][last].nanmean()) > 3 * found.even
