"""The figures of a check show every set and every pair."""

import torch

from poisonlab.check.calibration import calibrated
from poisonlab.check.evidence import Evidence
from poisonlab.check.ranking import ranked
from poisonlab.figures.check_data import MOST, agreement, among_clean_sets


def test_the_set_stands_among_all_clean_ones_in_each_row() -> None:
    clean = [{"strip": 0.01 * n, "spectral_signatures": 2.0 + 0.1 * n} for n in range(5)]

    figure = among_clean_sets(calibrated({"strip": 0.02, "spectral_signatures": 99.0}, clean, "", 10))

    *rows, own = figure.data
    assert [len(row.x) for row in rows] == [5, 5]
    assert own.name == "this set" and max(own.x) == MOST  # far away, and still in sight


def test_the_square_of_agreement_is_symmetric() -> None:
    rising = torch.arange(30.0)
    scores = {"strip": rising, "ewc_influence": -rising, "spectral_signatures": rising}
    ranking = ranked([Evidence(name, values, None, 0.0) for name, values in scores.items()])

    square = torch.tensor(agreement(ranking).data[0].z)

    assert torch.equal(square, square.T)
    torch.testing.assert_close(square[0], torch.tensor([1.0, -1.0, 1.0]))
