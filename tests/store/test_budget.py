"""What the store says of runs that differ in clean images and seeds only."""

from pathlib import Path

import pytest
from core_helpers import tiny_spec
from store_helpers import add, record_of, ship

from poisonlab.spec.config import ExperimentSpec
from poisonlab.store import Store
from poisonlab.store.budget import means


def measured(store: Store, spec: ExperimentSpec, asr: float = 0.5) -> None:
    add(store, record_of(spec, clean_accuracy=0.9, asr=asr, asr_undefended=1.0, der=0.7))


def test_runs_that_differ_in_more_than_budget_seed_and_defense_are_another_setting(store: Store) -> None:
    for count in (10, 20):
        for seed in (0, 1):
            measured(store, tiny_spec("rnp", seed, clean_images=count))
    measured(store, tiny_spec("ft", clean_images=10))
    measured(store, tiny_spec("rnp", clean_images=10, attack__poison_rate=0.2))

    settings = store.budgets.settings()

    assert settings["points"].tolist() == [2, 1] and settings["runs"].tolist() == [5, 1]
    rows = store.budgets.rows(settings["setting"][0])
    assert list(zip(rows["line"], rows["clean_images"], rows["seed"], strict=True)) == [
        ("ft", 10, 0),
        ("rnp", 10, 0),
        ("rnp", 10, 1),
        ("rnp", 20, 0),
        ("rnp", 20, 1),
    ]


def test_defenses_of_one_name_are_told_apart_by_what_differs(store: Store) -> None:
    measured(store, tiny_spec("rnp", defense__recover_epochs=2))
    measured(store, tiny_spec("rnp", defense__recover_epochs=7))

    lines = store.budgets.rows(store.budgets.settings()["setting"][0])["line"]

    assert sorted(lines) == ["rnp (recover_epochs 2)", "rnp (recover_epochs 7)"]


def test_a_seed_counts_once_and_the_local_run_wins(results: Path, tmp_path: Path) -> None:
    rates = {"clean_accuracy": 0.9, "asr": 0.4, "der": 0.5}
    ship([record_of(tiny_spec("rnp"), **rates)], tmp_path / "reference")
    store = Store(results, tmp_path / "reference")
    measured(store, tiny_spec("rnp"), asr=0.2)

    rows = store.budgets.rows(store.budgets.settings()["setting"][0])

    assert len(store.runs.find()) == 2
    assert rows["source"].tolist() == ["local"] and rows["success"].tolist() == [0.2]
    store.close()


def test_means_are_over_seeds_with_an_interval_from_two_on(store: Store) -> None:
    for seed, asr in ((0, 0.2), (1, 0.4)):
        measured(store, tiny_spec("rnp", seed, clean_images=10), asr)
    measured(store, tiny_spec("rnp", clean_images=20), 0.3)

    two, one = means(store.budgets.rows(store.budgets.settings()["setting"][0])).to_dict("records")

    assert (two["n"], one["n"]) == (2, 1)
    assert (
        two["success"] == pytest.approx(0.3) and two["success_low"] == 0 and two["success_high"] == 1
    )  # t = 12.7
    assert one["success"] == 0.3 and one["success_low"] != one["success_low"]


def test_an_unknown_setting_has_no_rows(store: Store) -> None:
    assert store.budgets.rows("'; DROP TABLE runs").empty and store.budgets.settings().empty


def test_waiting_jobs_are_known_by_group_and_seed(store: Store) -> None:
    spec = tiny_spec("rnp", 3)
    store.jobs.enqueue([spec])

    assert store.jobs.queued().keys() == {(spec.group(), 3)}
