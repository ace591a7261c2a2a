"""What the store says of runs that purified the same poisons otherwise."""

import pytest
from core_helpers import TINY, tiny_spec
from store_helpers import POISONED, add, record_of

from poisonlab.figures.purification import strength_curve
from poisonlab.records.artifacts import ModelHealth
from poisonlab.records.record import RunRecord, save_artifact
from poisonlab.spec.config import make_spec
from poisonlab.store import Store
from poisonlab.store.purification import by_strength


def targeted(store: Store, defense: str, seed: int = 0, success: float = 0.2, **values: object) -> RunRecord:
    overrides = TINY | {name.replace("__", "."): value for name, value in values.items()}
    spec = make_spec("digits", "bullseye_polytope", defense, seed=seed, overrides=overrides)
    record = record_of(
        spec, clean_accuracy=0.8, poison_success=success, targets=20.0, surviving_share=0.5, **POISONED
    )
    folder = store.index.runs / record.run_id
    folder.mkdir(parents=True)
    shown = save_artifact(ModelHealth({"psnr": 30.0}, "fine"), "health", "ebm", folder)
    return add(store, record.model_copy(update={"artifacts": [shown]}))


def test_runs_beside_share_all_but_the_defense(store: Store) -> None:
    own = targeted(store, "puregen_ebm")
    weak = targeted(store, "puregen_ebm", defense__steps=10)
    jpeg = targeted(store, "jpeg", clean_images=7)  # no purification looks at these
    targeted(store, "jpeg", seed=1)
    targeted(store, "jpeg", attack__poisons=4)
    add(store, record_of(tiny_spec("jpeg")))

    rows = store.purification.beside(own.run_id, "ModelHealth")

    assert rows["run_id"].tolist() == [own.run_id, jpeg.run_id, weak.run_id]
    assert rows["line"].tolist() == ["puregen_ebm (steps 300)", "jpeg", "puregen_ebm (steps 10)"]
    assert (
        len(store.purification.beside(own.run_id, "LangevinTrace")) == 1
    )  # the run itself, whatever it recorded


def test_strengths_differ_in_one_parameter_and_the_seed(store: Store) -> None:
    own = targeted(store, "puregen_ebm", success=0.1)
    targeted(store, "puregen_ebm", seed=1, success=0.3)
    targeted(store, "puregen_ebm", success=0.6, defense__steps=10)
    targeted(store, "puregen_ebm", defense__purify_temperature=1e-5)
    targeted(store, "jpeg")

    rows = store.purification.strengths(own.run_id, "steps")

    assert list(zip(rows["value"], rows["seed"], strict=True)) == [(10, 0), (300, 0), (300, 1)]
    assert rows["surviving_share"].tolist() == [0.5] * 3
    weak, strong = by_strength(rows).to_dict("records")
    assert strong["n"] == 2 and strong["success"] == pytest.approx(0.2) and strong["targets"] == 40
    assert 0.1 < strong["success_low"] < 0.2 < strong["success_high"] < 0.4  # Wilson's of 8 of 40
    assert weak["clean_accuracy_low"] != weak["clean_accuracy_low"]  # one seed has no interval
    curve = next(
        t for t in strength_curve(rows, by_strength(rows), "steps", 300).data if t.name == "by steps"
    )
    assert list(curve.text) == ["10", "300"] and list(curve.marker.symbol) == ["circle", "star"]


def test_backdoors_get_intervals_over_seeds(store: Store) -> None:
    for seed, asr in ((0, 0.2), (1, 0.3), (2, 0.4)):
        own = add(store, record_of(tiny_spec("jpeg", seed), clean_accuracy=0.9, asr=asr, asr_control=0.0))

    (row,) = by_strength(store.purification.strengths(own.run_id, "quality")).to_dict("records")

    assert row["success"] == pytest.approx(0.3) and row["targets"] == 0
    assert row["success_low"] == pytest.approx(0.3 - 4.303 * 0.1 / 3**0.5, abs=1e-3)


def test_an_unknown_run_has_no_neighbors(store: Store) -> None:
    unknown = "00000000-0000-0000-0000-000000000000"

    assert (
        store.purification.beside(unknown, "ModelHealth").empty
        and store.purification.strengths(unknown, "steps").empty
    )
