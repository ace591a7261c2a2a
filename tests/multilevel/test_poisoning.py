"""Three players and two: objectives, both orders, the limit without an attacker, sweeps, and their records."""

import dataclasses
import json

import pytest
import torch

from poisonlab.cli import main
from poisonlab.context import derive
from poisonlab.multilevel import record as records
from poisonlab.multilevel.comparison import cells, comparisons
from poisonlab.multilevel.data import diabetes, split
from poisonlab.multilevel.method import minimize, value_and_gradient
from poisonlab.multilevel.poisoning import (
    Regression,
    bilevel,
    expected_mse,
    smooth_l1,
    trilevel,
    weights_of,
)
from poisonlab.multilevel.spec import ORDERS, Order, Outcome, Rules, SweepSpec
from poisonlab.multilevel.sweep import play, sweep
from poisonlab.records.record import RecordError
from poisonlab.store import Store

RULES = Rules(attacker_steps=4, learner_steps=5, outer_steps=3)
TINY = SweepSpec(penalties=(10.0, 30.0), noises=(0.0, 1.0), seeds=3, rules=RULES)


@pytest.fixture(autouse=True)
def no_reference(monkeypatch, tmp_path):
    monkeypatch.setattr(Store.__init__, "__defaults__", (tmp_path / "reference",))


@pytest.fixture(scope="module")
def data() -> Regression:
    return split(diabetes(), 40, 100, 3)


def levels_of(data: Regression, order: Order | None, penalty: float = 10.0):
    return trilevel(data, torch.full((3,), penalty), order, RULES) if order else bilevel(data, RULES)


@pytest.mark.parametrize("order", [*ORDERS, None])
def test_hypergradients_agree_with_differences_and_closed_slopes_with_autograd(
    data: Regression, order: Order | None
) -> None:
    levels, h = levels_of(data, order), 1e-4
    x = torch.full((3, 1, 1), -1.0, dtype=torch.float64)

    value, gradient, _ = value_and_gradient(levels, x)
    up, down = (value_and_gradient(levels, x + s)[0] for s in (h, -h))
    last = dataclasses.replace(levels[-1], gradient=None)
    by_autograd = value_and_gradient([*levels[:-1], last], x)

    torch.testing.assert_close(gradient.flatten(), (up - down) / (2 * h), rtol=1e-6, atol=1e-10)
    torch.testing.assert_close((value, gradient), by_autograd[:2], rtol=1e-11, atol=1e-14)


def test_the_two_orders_are_two_games(data: Regression) -> None:
    first, second = (minimize(levels_of(data, order)) for order in ORDERS)

    assert first.point[1].shape == second.point[2].shape == (3, 40, 10)
    assert not torch.allclose(weights_of(first.point, "min_max_min"), weights_of(second.point, "min_min_max"))


@pytest.mark.parametrize("order", list(ORDERS))
def test_an_attacker_who_cannot_pay_leaves_the_bilevel_game(data: Regression, order: Order) -> None:
    poor = minimize(levels_of(data, order, penalty=1e9))
    alone = minimize(levels_of(data, None))

    torch.testing.assert_close(
        weights_of(poor.point, order), weights_of(alone.point, None), atol=1e-6, rtol=0
    )
    assert weights_of(poor.point, order).abs().max() > 0.1


def test_the_attacker_raises_the_learners_loss(data: Regression) -> None:
    levels = levels_of(data, "min_max_min")
    attacked = minimize(levels).inner[0]  # the attacker's cost along its descent

    assert (attacked.diff(dim=0) < 0).all()


def test_smoothed_penalty_agrees_with_the_absolute_value_up_to_curvature() -> None:
    x = torch.tensor([0.25, -0.25, 0.0, 1.5], dtype=torch.float64, requires_grad=True)
    value = smooth_l1(x, 0.25)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)

    torch.testing.assert_close(value[[0, 1, 3]], x.abs()[[0, 1, 3]])
    assert value[2].item() == pytest.approx(3 * 0.25 / 8)
    torch.testing.assert_close(slope, torch.tensor([1.0, -1.0, 0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(curvature[[0, 1, 3]], torch.zeros(3, dtype=torch.float64))


def test_error_under_noise_is_what_drawing_the_noise_gives(data: Regression) -> None:
    theta = torch.linspace(-1, 1, 10, dtype=torch.float64).expand(3, 10)
    draws = derive(0, "noise")
    noisy = [
        expected_mse(theta, data.x_test + 0.5 * torch.randn(data.x_test.shape, generator=draws), data.y_test)
        for _ in range(200)
    ]

    torch.testing.assert_close(
        torch.stack(noisy).mean(0), expected_mse(theta, data.x_test, data.y_test, 0.5), rtol=0.01, atol=0
    )


def test_lambda_stays_in_its_box(data: Regression) -> None:
    tight = Rules(
        attacker_steps=2, learner_steps=3, outer_steps=5, outer_step=1000.0, lowest=-0.5, highest=0.5
    )

    played = play(data, tight, 10.0, "min_max_min")

    assert played.strengths.abs().max() <= 0.5 and played.strengths.abs().max() == 0.5


def test_an_unbounded_adversary_warns_and_a_bounded_one_does_not() -> None:
    spec = SweepSpec(penalties=(0.5, 50.0), seeds=2, rules=RULES)

    weak, strong = comparisons(sweep(diabetes(), spec))[::-1]

    assert "adversary is unbounded at penalty 0.5 in 2 of 2 seeds" in strong.warning()
    assert weak.warning() == ""


def outcome(penalty: float | None, seed: int, test_mse: float | None, weight_norm: float) -> Outcome:
    return Outcome(
        model="trilevel" if penalty else "bilevel",
        penalty=penalty,
        seed=seed,
        strength=0.0,
        weight_norm=weight_norm,
        perturbation=0.0,
        validation_mse=0.5,
        test_mse=test_mse,
        bounded=True,
        steps=1,
    )


@pytest.mark.parametrize(
    ("error", "norm", "verdict", "crossing"),
    [
        (0.6, 0.3, "above", 0.5),
        (0.5, 0.3, "always", None),
        (0.6, 0.6, "never", None),
        (0.5, 0.6, "below", 0.7385),
    ],
)
def test_crossing_of_the_means(error: float, norm: float, verdict: str, crossing: float | None) -> None:
    base = [outcome(None, seed, 0.56 + 0.01 * seed - 0.01, 0.5) for seed in range(3)]
    found = comparisons(
        [*base, *(outcome(9.0, seed, error + 0.01 * seed - 0.01, norm) for seed in range(3))]
    )[0]

    assert found.verdict == verdict
    assert (
        found.crossing == pytest.approx(crossing, abs=1e-4) if crossing else found.crossing != found.crossing
    )
    if verdict == "above":  # every pair differs alike: the interval is as wide as nothing
        assert found.sure == (pytest.approx(0.51, abs=0.011), 3.0)


def test_a_diverged_seed_leaves_no_mean() -> None:
    outcomes = [outcome(None, 0, 0.5, 0.5), outcome(None, 1, 0.5, 0.5), outcome(3.0, 0, 0.6, 0.3)]
    outcomes.append(outcome(3.0, 1, None, 0.3))

    (found,) = comparisons(outcomes)

    assert found.verdict == "diverged" and found.diverged == 1
    assert all(cell.mean != cell.mean for cell in cells(outcomes, [0.0]) if cell.penalty)


def test_a_sweep_repeats_itself_and_survives_its_file(tmp_path) -> None:
    outcomes = sweep(diabetes(), TINY)
    record = records.make_record(diabetes(), TINY, outcomes, 1.0)
    records.write(record, tmp_path)

    assert sweep(diabetes(), TINY) == outcomes and len(outcomes) == 9
    assert records.read(record.sweep_id, tmp_path)[0] == record
    with pytest.raises(RecordError, match="not a run id"):
        records.read("../../etc/passwd", tmp_path)


def test_a_forged_record_is_refused(tmp_path) -> None:
    record = records.make_record(diabetes(), TINY, sweep(diabetes(), TINY), 1.0)
    path = records.write(record, tmp_path)
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"outcomes": said["outcomes"][1:]}))

    with pytest.raises(RecordError, match="every penalty and seed"):
        records.read(record.sweep_id, tmp_path)


def test_a_sweep_of_hours_is_refused() -> None:
    rules = Rules(attacker_steps=100, learner_steps=200, outer_steps=200)

    with pytest.raises(ValueError, match="lower the steps"):
        sweep(diabetes(), SweepSpec(rules=rules))


ASK = [
    "multilevel",
    "--penalty",
    "10",
    "--noise",
    "0,1",
    "--seeds",
    "2",
    "--set",
    "learner_steps=3",
    "--set",
    "attacker_steps=2",
    "--set",
    "outer_steps=2",
]


def test_command_prints_a_table_and_keeps_the_sweep_where_the_store_finds_it(
    results, tmp_path, capsys
) -> None:
    assert main.main(ASK) == 0
    captured = capsys.readouterr()
    assert "trilevel better" in captured.out and "multilevel?sweep=" in captured.err
    assert main.main([*ASK, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)

    store = Store(results)
    try:
        assert (
            store.sweeps.find()["sweep_id"].tolist()[0] == said["sweep_id"] and len(store.sweeps.find()) == 2
        )
        rows = store.sweeps.results_of(said["sweep_id"])
        record = store.sweeps.record(said["sweep_id"])
    finally:
        store.close()
    assert len(rows) == 2 * 2 * 2 and rows["penalty"].isna().sum() == 4
    assert rows["test_mse"].iloc[-1] == pytest.approx(record.outcomes[-1].mse(1.0))


def test_command_reads_a_table(results, tmp_path, capsys) -> None:
    table = diabetes()
    lines = [",".join((*table.features, table.target))]
    lines += [",".join(map(str, (*x, y))) for x, y in zip(table.x.tolist(), table.y.tolist(), strict=True)]
    path = tmp_path / "again.csv"
    path.write_text("\n".join(lines))

    assert main.main([*ASK, "--csv", "--data", str(path)]) == 0
    brought = capsys.readouterr().out
    assert main.main([*ASK, "--csv"]) == 0
    assert brought == capsys.readouterr().out and len(brought.splitlines()) == 9


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--penalty", "ten"], "numbers separated by commas"),
        (["--penalty", "-1"], "greater than 0"),
        (["--seeds", "1"], "greater than or equal to 2"),
        (["--set", "speed=1"], "choose one of: train_rows"),
        (["--set", "train_rows=400"], "442 rows"),
        (["--target", "bmi"], "names a column of --data"),
    ],
)
def test_command_says_what_is_allowed(results, capsys, more: list[str], expected: str) -> None:
    assert main.main([*ASK, *more]) == 2
    assert expected in capsys.readouterr().err
