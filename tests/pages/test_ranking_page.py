"""The ranking on top of the leaderboard."""

import json
from pathlib import Path

import pandas as pd
import pytest
from page_helpers import Open, words

from poisonlab.figures.board import heatmap, trade_off
from poisonlab.figures.ranking import mean_ranks
from poisonlab.store.ranking import Block, Rankings, marks, ranked

BLOCK = Block("cifar10", "backdoor", "quick")
RUNS = pd.DataFrame(
    [
        (
            attack,
            defense,
            0,
            success,
            loss,
            1.0,
            3.0,
            f"run of {attack} and {defense}",
            0.9 - loss,
            None,
            None,
        )
        for attack in ("badnets", "blend")
        for defense, success, loss in (("none", 1.0, 0.0), ("awm", 0.1, 0.01), ("anp", 0.05, 0.08))
    ],
    columns=[
        "attack",
        "defense",
        "seed",
        "success",
        "loss",
        "success_undefended",
        "seconds",
        "run_id",
        "clean_accuracy",
        "robust_accuracy",
        "der",
    ],
)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rankings, "blocks", lambda self: [BLOCK])
    monkeypatch.setattr(Rankings, "runs", lambda self, block: RUNS)


def test_the_page_opens_on_the_ranking_and_a_higher_price_changes_it(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "leaderboard")
    assert list(app.dataframe[0].value["name"]) == ["none", "awm", "anp"]
    assert "Over 2 attacks; first is what lets through least" in words(app)

    app.number_input(key="may_cost").set_value(10).run()

    assert list(app.dataframe[0].value["name"]) == ["none", "anp", "awm"]


def test_attacks_are_ranked_on_request(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "leaderboard", ranked="attacks")

    assert list(app.dataframe[0].value["name"]) == ["badnets", "blend"]
    assert "Over 2 defenses" in words(app)


def test_a_mark_for_each_method_with_a_rank() -> None:
    rows = ranked(
        pd.concat([RUNS, RUNS.head(1).assign(defense="once", success=0.0)]), BLOCK, "defense", 0.1
    ).rows

    (marks,) = mean_ranks(rows, "none").data

    assert list(marks.y) == ["none", "anp", "awm"]  # "once" met one attack of two
    assert (marks.error_x.array >= 0).all() and (marks.error_x.arrayminus >= 0).all()


def test_the_block_is_drawn_in_the_order_of_the_ranking(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "leaderboard")

    assert app.segmented_control(key="metric").options == [
        "Attack success",
        "Clean accuracy",
    ]  # no more has data
    cells = json.loads(app.get("plotly_chart")[1].proto.spec)["data"][0]
    assert cells["x"] == ["none", "awm", "anp"]


def test_a_cell_is_the_mean_over_seeds_and_names_the_newest_run() -> None:
    again = RUNS.head(1).assign(seed=1, success=0.5, run_id="the newest")
    failed = RUNS.head(1).assign(defense="failed", success=None)
    image, clicks = heatmap(pd.concat([RUNS, again, failed]), "success", "ASR", ["anp", "none"]).data

    assert list(image.x) == ["anp", "none", "awm"]  # in the given order, others after them; no empty column
    place = list(zip(clicks.y, clicks.x, strict=True)).index(("badnets", "none"))
    assert list(clicks.customdata[place]) == ["the newest", 2, 0.75] and clicks.text[place] == "75.0%"


def test_the_front_holds_what_no_other_beats_in_both() -> None:
    marks = pd.DataFrame(
        [
            ("none", 0.0, 1.0),
            ("good", 0.01, 0.2),
            ("worse", 0.02, 0.3),
            ("dear", 0.2, 0.1),
            ("tie", 0.2, 0.1),
        ],
        columns=["name", "loss", "success"],
    ).assign(run_id="", tasks=2)

    front, shown = trade_off(marks, "none").data

    assert list(zip(front.x, front.y, strict=True)) == [(0.0, 1.0), (0.01, 0.2), (0.2, 0.1)]
    assert list(shown.text) == ["none", "good", "worse", "dear", "tie"]


def test_a_mean_over_fewer_attacks_is_named_so_and_on_no_front() -> None:
    marks = pd.DataFrame(
        [("none", 0.0, 1.0, 3), ("whole", 0.02, 0.3, 3), ("easy", 0.01, 0.1, 1)],
        columns=["name", "loss", "success", "tasks"],
    ).assign(run_id="")

    front, shown = trade_off(marks, "none").data

    assert list(zip(front.x, front.y, strict=True)) == [(0.0, 1.0), (0.02, 0.3)]
    assert list(shown.text) == ["none", "easy (1 of 3)", "whole"]
    assert shown.marker.color[1] == shown.marker.color[0] != shown.marker.color[2]


def test_marks_of_one_attack_are_its_runs_and_of_all_the_boards_means() -> None:
    board = ranked(RUNS, BLOCK, "defense", 0.05)

    (awm,) = marks(RUNS, board, "blend").query("name == 'awm'").to_dict("records")
    assert awm == {"name": "awm", "success": 0.1, "loss": 0.01, "run_id": "run of blend and awm", "tasks": 1}
    every = marks(RUNS, board, None)
    assert list(every["name"]) == list(board.rows["name"]) and set(every["run_id"]) == {""}
