"""The ranking on top of the leaderboard."""

from pathlib import Path

import pandas as pd
import pytest
from page_helpers import Open, words

from poisonlab.figures.ranking import mean_ranks
from poisonlab.store.ranking import Block, Rankings, ranked

BLOCK = Block("cifar10", "backdoor", "quick")
RUNS = pd.DataFrame(
    [
        (attack, defense, 0, success, loss, 1.0, 3.0)
        for attack in ("badnets", "blend")
        for defense, success, loss in (("none", 1.0, 0.0), ("awm", 0.1, 0.01), ("anp", 0.05, 0.08))
    ],
    columns=["attack", "defense", "seed", "success", "loss", "success_undefended", "seconds"],
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
