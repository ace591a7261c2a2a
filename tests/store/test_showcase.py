"""The runs that are shipped with their pictures."""

from dataclasses import replace

from poisonlab.store.showcase import Candidate, choose


def run_id(letter: str) -> str:
    return f"0000000{letter}-0000-7000-8000-000000000000"


ONE = Candidate(run_id("a"), "digits", "badnets", "awm", frozenset({"PoisonGallery"}), seed=0, size=10)


def test_every_method_dataset_and_kind_is_shown_by_as_few_runs_as_it_takes_first():
    rich = replace(ONE, run_id=run_id("b"), kinds=frozenset({"PoisonGallery", "NeuronScores"}))
    other = replace(ONE, run_id=run_id("c"), defense="rnp")
    shown = choose([ONE, rich, other])

    assert [one.run_id for one in shown] == [run_id("b"), run_id("c")]
    assert "kind NeuronScores" in shown[0].shows and shown[1].shows == ["defense rnp"]


def test_of_equal_runs_the_lowest_seed_is_shown():
    later = [replace(ONE, run_id=run_id("c"), seed=3), replace(ONE, run_id=run_id("b"), seed=1)]

    assert choose([*later, ONE])[0].run_id == ONE.run_id


def test_neither_runs_nor_bytes_pass_their_limits():
    many = [
        replace(ONE, run_id=f"000000{i:02}-0000-7000-8000-000000000000", attack=f"attack{i}")
        for i in range(20)
    ]

    assert len(choose(many, max_runs=5)) == 5
    assert len(choose(many, max_bytes=35)) == 3
    assert len(choose([replace(ONE, size=100)], max_bytes=35)) == 0


def test_runs_that_failed_or_have_no_pictures_are_not_shown():
    assert choose([replace(ONE, done=False), replace(ONE, kinds=frozenset())]) == []
