"""What detectors of poisoned images find in digits, and what they wrongly flag. A minute: ``-m real``."""

from collections.abc import Callable

import pytest

from poisonlab import registry
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import make_spec

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(900)]
Measure = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> StageCache:
    """Control and victim are trained once for all."""
    return StageCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def measure(cache: StageCache, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Metrics of a detector against BadNets, without the retraining that may follow."""

    def run(name: str, poison_rate: float) -> dict[str, float]:
        monkeypatch.setattr(registry.defense[name], "filters", False)
        spec = make_spec("digits", "badnets", name, overrides={"attack.poison_rate": poison_rate})
        return run_experiment(spec, Context(cache=cache)).metrics

    return run


def test_strip_ranks_triggered_digits_first_and_lets_the_control_go(measure: Measure) -> None:
    found = measure("strip", 0.1)

    assert found["sample_auroc"] > 0.85 and found["detected_control"] == 0.0
    assert found["samples_flagged_control"] < 0.02


@pytest.mark.parametrize(
    ("name", "most_flagged"), [("spectral_signatures", 0.16), ("activation_clustering", 0.10)]
)
def test_the_share_of_the_control_that_is_flagged_is_bounded(
    name: str, most_flagged: float, measure: Measure
) -> None:
    found = measure(name, 0.1)  # half of the target class is poisoned: too much to be told by either

    assert found["samples_flagged_control"] <= most_flagged


def test_few_poisons_stand_out_spectrally(measure: Measure) -> None:
    found = measure("spectral_signatures", 0.02)  # a sixth of the target class

    assert found["sample_auroc"] > 0.6
    assert found["samples_caught"] > 2 * found["samples_flagged"]


def test_what_clustering_flags_is_poisoned_even_where_it_misses_most(measure: Measure) -> None:
    """A class of an honest model falls in two now and then, so nothing is asked of the verdict on the control."""
    found = measure("activation_clustering", 0.02)

    assert found["target_found"] == 1.0
    assert found["samples_caught"] > 0.1 and found["samples_flagged"] < 0.01
