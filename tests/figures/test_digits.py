"""Figures of the lessons on digits that do not move."""

import numpy as np

from poisonlab.figures import digits
from poisonlab.figures.style import POISONED


def test_the_attackers_class_has_its_own_color_among_the_sizes() -> None:
    figure = digits.sizes(np.array([9.0, 3.0, 7.0]), target=1)

    attackers, others, median = figure.data
    assert list(attackers.x) == ["1"] and list(attackers.y) == [3.0] and attackers.marker.color == POISONED
    assert list(others.x) == ["0", "2"] and median.name == "median 7.0"
    assert list(figure.layout.xaxis.categoryarray) == ["0", "1", "2"]  # not those of the other classes first


def test_shares_are_drawn_in_percent_with_what_is_named_below_them() -> None:
    figure = digits.hidden([2, 8], {"strength 1": np.array([0.25, 0.75])}, limit=0.5, honest=0.6, chosen=8)

    assert list(figure.data[0].x) == ["2 x 2", "8 x 8"] and list(figure.data[0].y) == [25.0, 75.0]
    band, honest, chosen = figure.layout.shapes
    assert (band.y0, band.y1) == (0, 50) and honest.y0 == 60 and chosen.x0 == 1
