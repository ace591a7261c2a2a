"""Who is compared with whom, from rows of the leaderboard and from published tables."""

from poisonlab.published.comparisons import compared
from poisonlab.published.tables import published_tables

ROWS: list[dict[str, object]] = [
    {"attack": "badnets", "defense": "awm", "dataset": "digits", "victim": "resnet8", "n": 3},
    {"attack": "badnets", "defense": "anp", "dataset": "digits", "victim": "resnet8", "n": 5},
    {"attack": "badnets", "defense": "awm", "dataset": "cifar10", "victim": "resnet8", "n": 4},
    {"attack": "blend", "defense": "awm", "dataset": "digits", "victim": "resnet8", "n": 1},
]


def test_runs_are_counted_by_opponent_most_frequent_first() -> None:
    found = compared("attack", "badnets", ROWS, [])

    assert found.runs == 12
    assert list(found.measured["defense"].items()) == [("awm", 7), ("anp", 5)]
    assert found.measured["dataset"] == {"digits": 8, "cifar10": 4}
    assert "attack" not in found.measured


def test_a_published_table_names_opponents_and_rivals() -> None:
    table = published_tables()["abl_readme"]
    (found,) = compared("defense", "abl", [], [table]).tables

    assert (found.id, found.opponents, found.rivals) == ("abl_readme", ("badnets",), ())


def test_both_sides_of_a_table_agree() -> None:
    tables = list(published_tables().values())
    for attack in ("badnets", "blend"):
        for found in compared("attack", attack, [], tables).tables:
            for defense in found.opponents:
                other = compared("defense", defense, [], [published_tables()[found.id]]).tables
                assert other and attack in other[0].opponents


def test_what_nobody_measured_is_compared_with_nothing() -> None:
    found = compared("victim", "resnet9", ROWS, published_tables().values())

    assert found.runs == 0 and not found.tables and not any(found.measured.values())
