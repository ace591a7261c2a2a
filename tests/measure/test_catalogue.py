"""One catalogue of metrics: names, families, what belongs to a kind of threat, and what follows from an entry."""

import pytest

from poisonlab.measure import catalogue
from poisonlab.measure.metric import UNDEFENDED, Metric, Unit
from poisonlab.spec.threats import THREATS
from poisonlab.ui import glossary

MEASURED_OF_A_BACKDOOR = {
    "clean_accuracy": 0.9,
    "clean_accuracy_undefended": 0.95,
    "asr": 0.1,
    "asr_undefended": 1.0,
    "asr_control": 0.02,
    "robust_accuracy": None,
}


def test_a_suffix_names_the_same_measure_on_another_model() -> None:
    found = catalogue.find("asr_undefended")

    assert found is not None and found.label == "ASR, undefended"
    assert found.rate and found.threats == {"backdoor"}
    assert found.text.endswith(UNDEFENDED.help)


def test_a_metric_without_a_family_has_no_suffixes() -> None:
    assert catalogue.find("der_oracle") is None
    assert catalogue.find("no_such_metric") is None


def test_an_entry_of_its_own_beats_the_family() -> None:
    found = catalogue.find("detected_control")

    assert found is not None and found.label == "False alarm" and found.better == "lower"


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'asr' is in the catalogue already"):
        catalogue.register(Metric("asr", "ASR", "Again."))


@pytest.mark.parametrize("threat", THREATS)
def test_each_kind_of_threat_has_one_headline_metric(threat: str) -> None:
    headlines = [m for m in catalogue.METRICS.values() if m.headline and threat in m.threats]

    assert headlines == [catalogue.headline(threat)]


def test_columns_of_success_hold_the_headline_metric_of_the_threat() -> None:
    columns = catalogue.values(MEASURED_OF_A_BACKDOOR, "backdoor")

    assert columns["success"] == 0.1
    assert columns["success_undefended"] == 1.0
    assert columns["control"] == 0.02
    assert columns["robust_accuracy"] is None and columns["targets"] is None


def test_the_control_of_a_corruption_is_its_accuracy() -> None:
    names = catalogue.summary("corruption")

    assert names == ["clean_accuracy", "accuracy_loss", "clean_accuracy_control", "clean_accuracy_retrained"]


def test_what_is_better_large_is_read_from_the_largest_down() -> None:
    assert catalogue.largest_first("clean_accuracy")
    assert not catalogue.largest_first("success")
    assert not catalogue.largest_first("dataset")


@pytest.mark.parametrize("name", sorted(catalogue.METRICS))
def test_the_glossary_explains_every_metric(name: str) -> None:
    metric = catalogue.METRICS[name]
    term = glossary.define(name)

    assert (term.label, term.rate) == (metric.label, metric.unit is Unit.RATE)
    assert len(term.text) > 40
