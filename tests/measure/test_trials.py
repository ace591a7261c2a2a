"""Statistics over targets and target classes, what the store knows of them, and their pictures."""

import math

import numpy as np
import pandas as pd
import pytest
from core_helpers import TINY, tiny_spec
from scipy import stats
from store_helpers import POISONED, add, record_of

from poisonlab.figures.trials import class_success, target_intervals
from poisonlab.measure.intervals import bootstrap_interval, proportion_interval, sign_test
from poisonlab.spec.config import make_spec
from poisonlab.store import Store
from poisonlab.store.trials import by_line, over_classes, over_seeds, over_targets


def backdoor(
    store: Store, target: int, asr: float, defense: str = "awm", seed: int = 0, **more: object
) -> None:
    spec = tiny_spec(defense, seed, attack__target_class=target, **more)
    rates = {
        "clean_accuracy_undefended": 0.9,
        "clean_accuracy_control": 0.9,
        "asr_undefended": 1.0,
        "asr_control": 0.1,
    }
    add(store, record_of(spec, clean_accuracy=0.8, asr=asr, **rates))


def targeted(store: Store, defense: str, seed: int, success: float, targets: int = 20) -> None:
    spec = make_spec("digits", "bullseye_polytope", defense, seed=seed, overrides=TINY)
    add(
        store, record_of(spec, clean_accuracy=0.8, poison_success=success, targets=float(targets), **POISONED)
    )


def test_runs_that_differ_in_target_class_seed_and_defense_are_one_setting(store: Store) -> None:
    for target in (0, 1, 2):
        backdoor(store, target, 0.1)
    backdoor(store, 0, 0.3, seed=1)
    backdoor(store, 0, 0.3, attack__poison_rate=0.2)
    backdoor(store, 0, 0.3, attack__mapping="all_to_all")
    targeted(store, "jpeg", 0, 0.2)

    settings = store.trials.settings("backdoor")

    assert settings["classes"].tolist() == [3, 1] and settings["runs"].tolist() == [4, 1]
    assert store.trials.settings("targeted")["runs"].tolist() == [1]
    assert len(store.trials.rows(settings["setting"][0])) == 4
    assert store.trials.rows("'; DROP TABLE runs").empty


def test_control_and_undefended_count_once_a_trial_whatever_the_defenses(store: Store) -> None:
    for defense in ("awm", "ft", "none"):
        backdoor(store, 0, 0.2, defense)
    backdoor(store, 1, 0.4, "none")

    models = by_line(store.trials.rows(store.trials.settings("backdoor")["setting"][0]))

    assert models["line"].tolist() == ["control"] * 2 + ["undefended"] * 2 + ["awm", "ft"]


def test_targets_of_all_seeds_are_pooled_under_wilsons_interval(store: Store) -> None:
    targeted(store, "jpeg", 0, 0.2)
    targeted(store, "jpeg", 1, 0.5, targets=10)

    lines = over_targets(
        by_line(store.trials.rows(store.trials.settings("targeted")["setting"][0]))
    ).set_index("line")

    assert lines.loc["jpeg", ["hits", "n"]].tolist() == [9, 30]
    assert (lines.loc["jpeg", "low"], lines.loc["jpeg", "high"]) == pytest.approx(proportion_interval(9, 30))
    assert lines.loc["undefended", ["hits", "n"]].tolist() == [15 + 8, 30]
    assert lines.loc["control", "success"] == 0 and lines.loc["control", "high"] > 0.1


def test_classes_weigh_the_same_however_many_seeds_they_have(store: Store) -> None:
    for seed, asr in enumerate((0.1, 0.3)):
        backdoor(store, 0, asr, seed=seed)
    backdoor(store, 4, 0.8)
    backdoor(store, 7, 0.5)

    classes = over_seeds(by_line(store.trials.rows(store.trials.settings("backdoor")["setting"][0])))
    awm = over_classes(classes).set_index("line").loc["awm"]

    assert (awm["classes"], awm["n"], awm["worst"], awm["worst_class"]) == (3, 4, 0.8, 4)
    assert awm["success"] == pytest.approx(0.5) and awm["deviation"] == pytest.approx(0.3)
    assert 0.2 <= awm["low"] < 0.5 < awm["high"] <= 0.8 + 1e-9


def test_the_bootstrap_is_repeatable_and_silent_below_three() -> None:
    values = [0.1, 0.9, 0.2, 0.4, 0.4, 0.7, 0.0, 0.3, 0.5, 0.5]
    low, high = bootstrap_interval(values)
    error = pd.Series(values).std(ddof=0) / math.sqrt(10)

    assert bootstrap_interval(values) == (low, high)
    assert (low, high) == pytest.approx((0.4 - 1.96 * error, 0.4 + 1.96 * error), abs=0.02)
    assert bootstrap_interval([0.5] * 4) == (0.5, 0.5)
    assert all(math.isnan(v) for v in bootstrap_interval([0.1, 0.9]))


@pytest.mark.parametrize(("lost", "gained"), [(0, 1), (4, 11), (30, 2), (7, 7)])
def test_the_sign_test_is_that_of_scipy(lost: int, gained: int) -> None:
    assert sign_test(lost, gained) == pytest.approx(stats.binomtest(lost, lost + gained).pvalue)


def test_the_sign_test_is_exact() -> None:
    assert sign_test(0, 0) == 1 and sign_test(3, 3) == 1
    assert sign_test(6, 0) == pytest.approx(2 / 2**6) and sign_test(5, 1) == sign_test(1, 5) == pytest.approx(
        14 / 64
    )


def test_pictures_show_every_line_with_its_interval_and_worst_class() -> None:
    lines = pd.DataFrame({"line": ["control", "undefended", "jpeg"], "hits": [0, 19, 5], "n": [20, 20, 20]})
    lines["success"] = lines["hits"] / lines["n"]
    bounds = [proportion_interval(h, 20) for h in lines["hits"]]
    figure = target_intervals(lines.assign(low=[b[0] for b in bounds], high=[b[1] for b in bounds]))
    bars = [
        (trace.x[0] - trace.error_x.arrayminus[0], trace.x[0] + trace.error_x.array[0])
        for trace in figure.data
    ]
    assert np.array(bars) == pytest.approx(np.array(bounds))
    assert [t.text[0] for t in figure.data] == ["0 of 20", "19 of 20", "5 of 20"]

    classes = pd.DataFrame(
        {"line": ["awm"] * 3, "target_class": [0, 3, 5], "success": [0.1, 0.6, 0.2], "n": 1}
    )
    summary = over_classes(classes.assign(clean_accuracy=0.8))
    figure = class_success(classes, summary, [str(i) for i in range(10)])
    marks, mean = figure.data
    assert list(marks.y) == [0.1, 0.6, 0.2] and list(figure.layout.xaxis.ticktext) == ["0", "3", "5"]
    assert list(mean.y) == pytest.approx([0.3, 0.6]) and mean.error_y.array[0] > 0
