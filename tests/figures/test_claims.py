"""The figure of published and measured numbers draws what there is and leaves out what there is not."""

import numpy as np
import pandas as pd

from poisonlab.figures.claims import dumbbell

NAN = float("nan")


def rows() -> pd.DataFrame:
    """Both numbers, only a published one, only a measured one, and neither."""
    frame = pd.DataFrame({"label": ["FT", "NC", "AWM", "RNP"], "n": [3, 0, 1, 0], "wanted": [10, 1, 1, 1]})
    for name in ("clean_accuracy", "success"):
        frame[name] = [0.9, NAN, 0.8, NAN]
        frame[f"{name}_low"], frame[f"{name}_high"] = [0.85, NAN, NAN, NAN], [0.92, NAN, NAN, NAN]
        frame[f"{name}_sd"], frame[f"{name}_published_sd"] = [0.05, NAN, NAN, NAN], [NAN, 0.1, NAN, NAN]
        frame[f"{name}_published"] = [0.7, 0.2, NAN, NAN]
    return frame


def test_rings_discs_and_bars_stand_where_numbers_are() -> None:
    figure = dumbbell(rows())

    drawn = {(t.name, t.xaxis): (list(t.x), list(t.y)) for t in figure.data if t.name}
    assert drawn["published", "x"] == ([0.7, 0.2], ["FT", "NC"])
    assert drawn["measured: attack success", "x2"] == ([0.9, 0.8], ["FT", "AWM"])
    bars = [t for t in figure.data if t.mode == "lines"]
    assert [list(t.x) for t in bars] == [[0.7, 0.9, None]] * 2


def test_deviations_and_missing_runs_are_told() -> None:
    told = {(t.name, t.xaxis): list(t.customdata) for t in dumbbell(rows()).data if t.name}

    assert told["published", "x2"] == ["", " ± 10.00%"]
    assert told["measured: attack success", "x2"] == [" ± 5.00%, n=3 of 10", ", n=1"]


def test_a_defense_without_any_number_takes_no_line() -> None:
    assert list(dumbbell(rows()).layout.yaxis.categoryarray) == ["AWM", "NC", "FT"]


def test_one_seed_has_no_interval() -> None:
    (disc,) = [t for t in dumbbell(rows()).data if t.name == "measured: clean accuracy"]

    np.testing.assert_allclose(disc.error_x.array, [0.02, 0], atol=1e-9)
    np.testing.assert_allclose(disc.error_x.arrayminus, [0.05, 0], atol=1e-9)


def test_nothing_at_all_still_draws() -> None:
    assert dumbbell(rows().iloc[3:]).layout.height > 100
