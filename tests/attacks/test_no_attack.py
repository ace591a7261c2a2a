"""No attack: a run without poison, from its empty poison to its metrics."""

import pytest
import torch
from core_helpers import TINY, attackers_view, small

from poisonlab import registry
from poisonlab.attacks.none import NoAttack
from poisonlab.context import Context
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import make_spec


def test_nothing_is_poisoned() -> None:
    view = attackers_view()
    poison = small(NoAttack).poison(view, Context())
    poisoned = poison.apply(view.train)

    assert poison.trials == 1 and poison.budget == 0
    assert torch.equal(poisoned.x, view.train.x) and torch.equal(poisoned.y, view.train.y)


def test_the_undefended_model_is_the_control() -> None:
    found = run_experiment(make_spec("digits", "none", "ft", overrides=TINY), Context()).metrics

    assert found["asr_undefended"] == found["asr_control"]
    assert found["clean_accuracy_undefended"] == found["clean_accuracy_control"]


def test_it_is_measured_with_the_patch_of_badnets() -> None:
    view = attackers_view()
    threat = small(NoAttack).threat(small(NoAttack).poison(view, Context()), 10)
    patch = small(registry.attack["badnets"], target_class=0, margin=0).trigger(view.train.x, {})

    assert torch.equal(threat.trigger(view.train.x), patch)


@pytest.mark.slow
def test_detectors_and_isolation_count_what_they_accuse_of_innocent_images() -> None:
    few = {"defense.repeats": 2, "defense.unlearn_epochs": 2, "defense.recover_epochs": 1, "clean_images": 10}
    found = run_experiment(make_spec("digits", "none", "rnp", overrides=TINY | few), Context()).metrics
    short = {"defense.isolation_epochs": 1, "defense.unlearning_epochs": 1, "training.epochs": 3}
    isolated = run_experiment(make_spec("digits", "none", "abl", overrides=TINY | short), Context()).metrics

    assert (
        "samples_flagged" in found and not {"target_found", "sample_auroc", "samples_caught"} & found.keys()
    )
    assert "isolation_precision" not in isolated
