"""Attack x defense: which rows a cell stands for."""

import pandas as pd

from poisonlab.figures.board import heatmap


def test_a_cell_is_of_the_presets_own_values_or_starred() -> None:
    rows = pd.DataFrame(
        [
            ("blend", "none", "", 0.9),
            ("blend", "jpeg", "", 0.2),
            ("blend", "jpeg", "defense.quality=85", 0.8),
            ("sig", "jpeg", "defense.quality=25", 0.1),
            ("sig", "jpeg", "defense.quality=85", 0.3),
        ],
        columns=["attack", "defense", "settings", "success"],
    )
    (cells,) = heatmap(rows, "success", "ASR").data

    assert list(cells.x) == ["none", "jpeg"] and list(cells.y) == ["blend", "sig"]
    assert [list(line) for line in cells.text] == [["90.0%", "20.0%"], ["", "20.0%*"]]
