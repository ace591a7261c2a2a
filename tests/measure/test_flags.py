"""What the store says of runs on corrupted training sets."""

import math

import pytest
from core_helpers import TINY
from store_helpers import add, record_of

from poisonlab.figures.repair import over_flagging
from poisonlab.records.record import RecordError, RunRecord
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.store import Store


def spec(defense: str, seed: int = 0, attack: str = "label_noise", **params: object) -> ExperimentSpec:
    return make_spec(
        "digits", attack, defense, seed=seed, overrides=TINY | {f"defense.{k}": v for k, v in params.items()}
    )


def measured(store: Store, of: ExperimentSpec, accuracy: float = 0.9, **more: float) -> RunRecord:
    loss = {"accuracy_loss": 0.95 - accuracy, "accuracy_loss_undefended": 0.25, "accuracy_loss_control": 0.0}
    others = {
        "clean_accuracy_undefended": 0.7,
        "clean_accuracy_control": 0.95,
        "clean_accuracy_retrained": 0.94,
    }
    values = {"clean_accuracy": accuracy, "corrupted": 0.24} | loss | others | more
    return add(store, record_of(of, **values))


def test_runs_are_compared_over_the_share_flagged_and_with_what_flags_nothing(store: Store) -> None:
    first = measured(store, spec("relabel", flag_share=0.2), 0.92)
    measured(store, spec("relabel", seed=1, flag_share=0.6), 0.91)
    measured(store, spec("finetune_without", flag_share=0.2), 0.9)
    measured(store, spec("ft"), 0.88)
    measured(store, spec("nad"), 0.8801)  # too near to have a label of its own
    measured(store, spec("relabel", attack="input_corruption", flag_share=0.2))

    rows = store.flags.rows(first.run_id)

    shares = [
        (line, None if math.isnan(share) else share)
        for line, share in zip(rows["line"], rows["flag_share"], strict=True)
    ]
    assert shares == [
        ("finetune_without", 0.2),
        ("ft", None),
        ("nad", None),
        ("relabel", 0.2),
        ("relabel", 0.6),
    ]
    assert set(rows["clean_accuracy_retrained"]) == {0.94} and set(rows["corrupted"]) == {0.24}
    figure = over_flagging(rows)
    assert {trace.name for trace in figure.data if trace.name} == {"finetune_without", "relabel"}
    assert {a.text for a in figure.layout.annotations} == {"ft, nad", "undefended", "retrained", "truly bad"}


def test_an_id_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(RecordError):
        store.flags.rows("nonsense")


def test_a_gain_over_the_control_keeps_its_interval(store: Store) -> None:
    for seed, accuracy in enumerate((0.96, 0.97)):
        measured(store, spec("ft", seed), accuracy)

    (row,) = store.leaderboard.rows().to_dict("records")

    assert row["threat"] == "corruption" and row["success"] == pytest.approx(-0.015) and row["control"] == 0
    assert row["success_low"] < row["success"] < row["success_high"]
