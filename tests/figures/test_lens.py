"""Figures of the lens: shared axes, marks that know their picture, one color scale, frames around a trigger."""

import numpy as np
import pytest
import torch
from torch import Tensor

from poisonlab.context import derive
from poisonlab.figures import lens as figures
from poisonlab.figures.style import CONTROL, POISONED, PURIFIED
from poisonlab.lens.attention import GRADIENTS, Attention
from poisonlab.lens.features import METHODS, Features, Planes, planes
from poisonlab.lens.per_class import PerClass
from poisonlab.lens.pictures import CLEAN, NO_LABEL, TRIGGERED, Pictures
from poisonlab.lens.pictures import POISONED as POISONS

MODELS = ("control", "undefended", "defended")


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=derive(seed, "figures"))


def pictures(n: int = 30) -> Pictures:
    x = (255 * draws(n, 1, 8, 8)).to(torch.uint8)
    group = torch.arange(n) % 3
    true = torch.arange(n) % 4
    given = torch.where(group == 2, NO_LABEL, torch.where(group == 1, 0, true))
    return Pictures(x, group, true, given, (CLEAN, POISONS, TRIGGERED), ("a", "b", "c", "d"))


def plane(method: str = "PCA") -> Planes:
    values = {name: draws(30, 6, seed=i) * (i + 1) for i, name in enumerate(MODELS)}
    return planes(Features(values), method)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_planes_before_and_after_a_defense_have_the_same_ranges(method: str) -> None:
    drawn = figures.feature_planes(plane(method), pictures()).layout

    assert drawn.xaxis2.range == drawn.xaxis3.range and drawn.yaxis2.range == drawn.yaxis3.range
    assert drawn.xaxis.range != drawn.xaxis2.range


def test_every_mark_holds_the_position_of_its_picture() -> None:
    shown = pictures()
    drawn = figures.feature_planes(plane(), shown)

    for panel in range(3):
        rows = np.concatenate([trace.customdata for trace in drawn.data[3 * panel : 3 * panel + 3]])
        assert sorted(rows.tolist()) == list(range(30))
    first = drawn.data[3]
    assert list(first.x) == plane().places["undefended"][list(first.customdata), 0].tolist()
    assert [trace.name for trace in drawn.data if trace.showlegend] == list(shown.groups)


def test_words_name_a_label_that_is_not_the_class() -> None:
    shown = pictures()

    assert figures.picture_words(shown, 0) == "clean training image, a a"
    assert figures.picture_words(shown, 1) == "poisoned training image, a b labeled a"
    assert figures.picture_words(shown, 2) == "test image with the trigger, a c"


def test_the_trigger_is_framed_and_the_rest_keeps_its_colors() -> None:
    support = torch.zeros(8, 8, dtype=torch.bool)
    support[5:, 5:] = True
    image = torch.full((1, 8, 8), 100, dtype=torch.uint8)
    attention = torch.zeros(8, 8)

    framed = figures.attended(image, attention, support, 80)
    plain = figures.attended(image, attention, torch.zeros_like(support), 80)

    changed = (framed != plain).any(2)
    assert framed.shape == (80, 80, 3)
    assert changed[50:, 50:].any() and not changed[:50].any() and not changed[:, :50].any()
    assert (framed[50, 50:] == 255).all() and (framed[51, 51:79] == 0).all()


def test_a_map_without_mass_is_one_color() -> None:
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)

    drawn = figures.attended(image, torch.zeros(8, 8), torch.ones(8, 8, dtype=torch.bool))

    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def looked() -> Attention:
    shares = {name: draws(3, 10, seed=i) for i, name in enumerate(MODELS)}
    shares["control"][0] = torch.nan
    empty = torch.zeros(0)
    names = ("Grad-CAM 4×4", "HiResCAM 4×4", GRADIENTS)
    return Attention(empty, empty, empty, ("a",), 0.1, names, 1, {}, {}, shares)


def test_bars_are_the_means_of_the_shares_that_are_known() -> None:
    found = looked()

    bars = {trace.name: trace for trace in figures.trigger_shares(found).data if trace.type == "bar"}

    assert {name: bar.marker.color for name, bar in bars.items()} == dict(
        zip(MODELS, (CONTROL, POISONED, PURIFIED), strict=True)
    )
    assert np.isnan(bars["control"].y[0])
    assert bars["defended"].y[2] == pytest.approx(float(found.shares["defended"][2].mean()))


def test_spectra_share_their_colors_and_changes_are_around_one() -> None:
    maps = {"clean": draws(8, 8), "poisoned": draws(8, 8, seed=1) + 1}

    spectra = figures.spectrum_maps(maps)
    changes = figures.spectrum_changes(maps)

    assert len(spectra.data) == 2 and all(trace.coloraxis == "coloraxis" for trace in spectra.data)
    assert spectra.layout.coloraxis.cmax == pytest.approx(float(maps["poisoned"].max()))
    assert len(changes.data) == 1
    assert changes.layout.coloraxis.cmin == -changes.layout.coloraxis.cmax
    assert changes.layout.coloraxis.colorbar.ticktext[1] == "1"
    assert list(spectra.data[0].x) == [-4, -3, -2, -1, 0, 1, 2, 3]


def test_a_matrix_has_shares_of_its_rows_and_nothing_of_an_empty_one() -> None:
    counts = torch.tensor([[3, 1], [0, 0]])
    no_images = torch.zeros(0)
    found = PerClass(
        ("a", "b"), 4, {"control": counts}, {}, torch.tensor([-1, -1]), no_images, no_images, no_images, 0, 0
    )

    drawn = figures.confusion(found, "control", False).data[0]

    assert drawn.z[0].tolist() == [0.75, 0.25] and np.isnan(drawn.z[1]).all()
    assert figures.class_rates(found, False).data[0].y[0] == 0.75
