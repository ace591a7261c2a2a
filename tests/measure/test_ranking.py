"""Mean ranks, their intervals, and the tests of Friedman and Nemenyi, against scipy and against work by hand."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from poisonlab.measure import ranking
from poisonlab.measure.ranking import rank, spearman


def one_seed(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows)[..., None]


def test_ties_share_the_mean_of_their_places() -> None:
    found = rank(one_seed((0.1, 0.2, 0.5), (0.1, 0.4, 0.4), (0.3, 0.2, 0.4)))

    # by hand: 1.5, 1.5, 3; then 1.5, 3, 1.5; then 3, 1.5, 1.5
    assert found.mean.tolist() == pytest.approx(
        [(1.5 + 1.5 + 3) / 3, (1.5 + 3 + 1.5) / 3, (3 + 1.5 + 1.5) / 3]
    )


@given(st.integers(0, 10_000))
def test_mean_ranks_and_friedman_are_those_of_scipy(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 6, (5, 7, 3)) / 5
    means = values.mean(2)

    found = rank(values, resamples=10)

    assert found.mean.tolist() == pytest.approx(stats.rankdata(means, axis=0).mean(1).tolist())
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*means).pvalue, nan_ok=True)


def test_the_largest_may_be_the_best() -> None:
    values = one_seed((0.9, 0.8), (0.5, 0.1))

    assert rank(values).mean.tolist() == [2, 1]
    assert rank(values, largest_first=True).mean.tolist() == [1, 2]


@pytest.mark.parametrize(("methods", "q"), [(5, 2.728), (10, 3.164)])
def test_nemenyi_s_distance_is_that_of_demsar_s_table(methods: int, q: float) -> None:
    values = np.random.default_rng(0).random((methods, 12, 1))

    distance = rank(values, resamples=10).critical

    assert distance == pytest.approx(q * np.sqrt(methods * (methods + 1) / (6 * 12)), rel=1e-3)


@pytest.mark.parametrize("methods", [3, 40])
def test_nemenyi_s_distance_is_that_of_scipy(methods: int) -> None:
    values = np.random.default_rng(0).random((methods, 2, 1))

    q = stats.studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2)

    assert rank(values, resamples=10).critical == pytest.approx(q * np.sqrt(methods * (methods + 1) / 12))


@given(st.integers(0, 10_000))
def test_rank_correlation_is_that_of_scipy(seed: int) -> None:
    left, right = np.random.default_rng(seed).integers(0, 9, (2, 8)) / 8
    expected = stats.spearmanr(left, right)

    assert spearman(left.tolist(), right.tolist()) == pytest.approx((expected.statistic, expected.pvalue))
    assert spearman(left.tolist(), left.tolist()) == pytest.approx((1, 0))


def test_what_differs_on_every_task_is_told_apart_and_what_does_not_shares_a_rank() -> None:
    draws = np.random.default_rng(3)
    good = draws.uniform(0, 0.1, (2, 11, 3))
    bad = draws.uniform(0.8, 1, (2, 11, 3))

    found = rank(np.concatenate([bad[:1], good, bad[1:]]))

    assert found.rank.tolist() == [3, 1, 1, 3]
    assert found.friedman is not None and found.friedman < 1e-5


def test_intervals_hold_the_mean_rank_and_are_the_same_each_time() -> None:
    values = np.random.default_rng(5).random((6, 9, 4))

    first = rank(values)
    again = rank(values)

    assert (first.low <= first.mean).all() and (first.mean <= first.high).all()
    assert np.array_equal(first.low, again.low) and np.array_equal(first.high, again.high)


def test_tasks_are_drawn_for_all_methods_at_once() -> None:
    """A method that is better by a hair on every task is better in every resample."""
    base = np.random.default_rng(1).random((1, 8, 2))

    found = rank(np.concatenate([base, base + 1e-6]))

    assert found.high[0] == 1 and found.low[1] == 2 and found.rank.tolist() == [1, 2]


def test_seeds_are_drawn_within_their_task() -> None:
    """On one task the tasks cannot vary; with three seeds that disagree the rank still is unsure."""
    agreed = np.array([[[0.1, 0.1, 0.1]], [[0.2, 0.2, 0.2]]])
    torn = np.array([[[0.1, 0.1, 0.9]], [[0.2, 0.2, 0.2]]])

    assert rank(agreed).rank.tolist() == [1, 2]
    assert rank(torn).rank.tolist() == [1, 1]


def test_a_seed_that_one_method_lacks_does_not_count_against_it() -> None:
    values = np.array([[[0.1, np.nan]], [[0.2, 0.9]]])

    found = rank(values)

    assert found.mean.tolist() == [1, 2] and found.high[0] == 1


def test_large_tables_are_resampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).random((4, 6, 2))
    monkeypatch.setattr(ranking, "CELLS", 100)

    in_parts = rank(values, resamples=500)

    monkeypatch.undo()
    whole = rank(values, resamples=500)
    assert in_parts.low.tolist() == pytest.approx(whole.low.tolist(), abs=0.35)


def test_a_single_run_tells_nothing_apart() -> None:
    found = rank(one_seed((0.1,), (0.5,), (0.9,)))

    assert found.mean.tolist() == [1, 2, 3]
    assert (found.low.tolist(), found.high.tolist()) == ([1, 1, 1], [3, 3, 3])
    assert found.rank.tolist() == [1, 1, 1]


def test_two_methods_or_one_task_have_no_test() -> None:
    few = rank(one_seed((0.1, 0.2), (0.3, 0.4)))
    single = rank(one_seed((0.1,), (0.2,), (0.3,)))

    assert few.friedman is None and few.critical is None
    assert single.friedman is None


def test_a_cell_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="every method on every task"):
        rank(one_seed((0.1, np.nan), (0.2, 0.3)))
    with pytest.raises(ValueError, match="every method on every task"):
        rank(np.zeros((0, 3, 1)))


def test_ranks_and_intervals_do_not_mind_another_thread_that_imports_torch() -> None:
    """A viewer opened the leaderboard while another's page was importing torch: scipy.stats then cannot be imported."""
    code = (
        "import sys, types, numpy as np\n"
        "sys.modules['torch'] = types.ModuleType('torch')  # as far as another thread has come\n"
        "from poisonlab.measure import intervals, ranking\n"
        "ranking.rank(np.random.default_rng(0).random((4, 3, 2)))\n"
        "ranking.spearman([1, 2, 3, 4], [1, 3, 2, 4])\n"
        "intervals.proportion_interval(1, 3), intervals.mean_interval([1, 2]), intervals.sign_test(2, 1)\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
