"""What the store says of screens on the attacks of one setting."""

from core_helpers import tiny_spec
from store_helpers import add, record_of

from poisonlab.spec.config import ExperimentSpec
from poisonlab.store import Store


def measured(store: Store, spec: ExperimentSpec, auroc: float) -> str:
    record = record_of(spec, clean_accuracy=0.9, asr=0.5, asr_undefended=1.0, screen_auroc=auroc)
    add(store, record)
    return record.run_id


def test_a_row_is_the_mean_over_the_seeds_of_runs_that_are_otherwise_alike(store: Store) -> None:
    first = measured(store, tiny_spec("scale_up", 0, clean_images=20), 0.8)
    measured(store, tiny_spec("scale_up", 1, clean_images=20), 0.6)
    measured(store, tiny_spec("strip", 0, clean_images=20), 0.5)
    measured(store, tiny_spec("scale_up", 0, clean_images=20, attack__poison_rate=0.2), 0.9)
    measured(store, tiny_spec("scale_up", 0, clean_images=10), 0.1)  # another defender
    measured(store, tiny_spec("scale_up", 1, clean_images=20, training__epochs=2), 0.1)  # another victim

    rows = store.screens.rows(first)

    assert rows[["attack", "defense", "seeds", "screen_auroc"]].round(3).to_numpy().tolist() == [
        ["badnets (poison_rate 0.1)", "scale_up", 2, 0.7],
        ["badnets (poison_rate 0.1)", "strip", 1, 0.5],
        ["badnets (poison_rate 0.2)", "scale_up", 1, 0.9],
    ]
