"""``reproduce``: a published table is measured in slices that add up, and by the published setting alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from published_helpers import OVER, toy_folder

from poisonlab.cli import main
from poisonlab.published.specs import specs_of
from poisonlab.published.tables import published_tables
from poisonlab.records.record import read_record
from poisonlab.runner.timeslice import TimeSlice
from poisonlab.store import Store

TOY = ["reproduce", "toy", "--device", "cpu"]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("poisonlab.published.tables.FOLDER", toy_folder(tmp_path / "tables"))
    monkeypatch.setattr(Store.__init__, "__defaults__", (tmp_path / "reference",))


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def records(results: Path) -> list[Any]:
    return [read_record(path.parent)[0] for path in sorted(results.glob("runs/*/run.json"))]


def test_the_table_is_measured_and_then_nothing_is_left(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_cli(capsys, *TOY)

    assert code == 0 and out.splitlines()[-1] == "3 of 3 done"
    assert "BadNets × Fine-tuning: accuracy " in out and "(12.50 published)" in out
    assert "BadNets × Pruning: accuracy " in out and "(- published)" in out
    found = records(results)
    assert [r.spec.defense.name for r in found] == ["none", "ft", "clp"]  # published cells first
    assert {r.spec.preset for r in found} == {"paper"} and found[0].spec.training.epochs == 1
    assert "victim" in found[1].cached and "control" in found[1].cached  # shared by the cache

    code, out, _ = run_cli(capsys, *TOY)
    assert code == 0 and out == "3 of 3 done\n" and len(records(results)) == 3

    _, out, _ = run_cli(capsys, *TOY, "--list")
    assert [line.split()[-1] for line in out.splitlines()[2:5]] == ["done"] * 3
    assert "published only: there is no attack not_here_yet here" in out
    assert "published only: no defense here stands for Theirs" in out


def test_other_recipes_seeds_and_choices_are_other_runs(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cli(capsys, *TOY, "--only", "badnets", "--defenses", "none")
    code, out, _ = run_cli(
        capsys, *TOY, "--only", "badnets", "--defenses", "none", "--published-epochs", "--seed", "4"
    )

    assert code == 0 and out.endswith("1 of 1 done\n")
    assert [(r.spec.training.epochs, r.spec.seed) for r in records(results)] == [(1, 0), (2, 4)]


def test_a_cell_of_several_runs_is_their_mean(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("poisonlab.published.tables.FOLDER", toy_folder(tmp_path / "over", **OVER))

    code, out, _ = run_cli(capsys, *TOY, "--defenses", "tuned")

    lines, found = out.splitlines(), records(results)
    assert code == 0 and lines[-1] == "2 of 2 done"
    assert [r.spec.attack.params.target_class for r in found] == [0, 7]
    first, second = (100 * r.metrics["asr"] for r in found)
    assert (
        lines[0].startswith("BadNets × Fine-tuning, target_class 0: accuracy ")
        and "published" not in lines[0]
    )
    mean, sd, worst = (first + second) / 2, abs(first - second) / 2**0.5, max(first, second)
    assert (
        f"success {mean:.2f} ± {sd:.2f}, at most {worst:.2f} (12.50 ± 3.00, at most 20.00 published)"
        in lines[2]
    )

    # one of the two is lost
    next(p for p in results.glob("runs/*/run.json") if found[1].run_id in str(p)).unlink()
    _, out, _ = run_cli(capsys, *TOY, "--defenses", "tuned", "--list")
    assert out.splitlines()[2].endswith("1 of 2 done")


def test_every_stage_is_computed_once_in_a_cache_that_holds_one_victim(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All defenses of one target class come before the next class: its victim is not needed again then."""
    monkeypatch.setattr("poisonlab.published.tables.FOLDER", toy_folder(tmp_path / "over", **OVER))
    monkeypatch.setenv("POISONLAB_CACHE_GB", str(300_000 / 2**30))

    code, _, _ = run_cli(capsys, *TOY)

    found = records(results)
    assert code == 0 and [r.spec.attack.params.target_class for r in found] == [0, 0, 0, 7, 7, 7]
    assert [r.spec.attack.params.target_class for r in found if "victim" not in r.cached] == [0, 7]
    kept = [path.name for path in (results / "cache").glob("victim-*")]
    assert len(kept) == 1  # the other victim had to go


def test_groups_of_trials_are_seeds_that_no_repeat_shares(tmp_path: Path) -> None:
    replaced = {'name = "badnets" }': 'name = "badnets", over = { seed = [0, 1, 2] } }'}
    table = published_tables(toy_folder(tmp_path / "seeds", **replaced))["toy"]

    assert [[s.seed for s in specs_of(table, "badnets", "none", seed=n)] for n in (0, 1)] == [
        [0, 1, 2],
        [3, 4, 5],
    ]


def slow_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Every look at the clock takes ``seconds``: a stage of some steps becomes long."""
    ticks = iter(range(1_000_000))
    monkeypatch.setattr(TimeSlice.__init__, "__defaults__", (lambda: seconds * next(ticks),))


def test_slices_leave_no_half_run_and_go_on_at_the_last_whole_stage(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_clock(monkeypatch, 20.0)
    said = []
    for _ in range(12):
        code, out, _ = run_cli(capsys, *TOY, "--minutes", "1")
        said.append(out.splitlines()[-1])
        assert code == 0, out
        assert len(list(results.glob("runs/*"))) == len(records(results))
        if said[-1] == "3 of 3 done":
            break

    assert said[0] == "0 of 3 done, run the same command again"
    assert said[-1] == "3 of 3 done" and len(said) > 2
    assert len({r.spec.group() for r in records(results)}) == len(records(results)) == 3


LEARNED = {
    'name = "clp" }': 'name = "puregen_ebm", settings = { "defense.architecture" = "light", "defense.filters" = 4, '
    '"defense.updates" = 8, "defense.batch_size" = 8, "defense.bank_size" = 16, "defense.chain_steps" = 2, '
    '"defense.health_every" = 1, "defense.min_psnr" = 0, "defense.steps" = 2 } }',
    '"dataset.train_images" = 120': '"dataset.train_images" = 120\n"dataset.public_images" = 130',
}


@pytest.mark.slow
def test_a_long_stage_is_left_in_its_midst_and_ends_with_the_same_numbers(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("poisonlab.published.tables.FOLDER", toy_folder(tmp_path / "learned", **LEARNED))
    monkeypatch.setattr("poisonlab.cache.partial.EVERY", 0.0)
    only = [*TOY, "--defenses", "cut"]
    run_cli(capsys, *only, "--results", str(tmp_path / "straight"))
    slow_clock(monkeypatch, 5.0)
    unfinished = set[str]()
    for _ in range(30):
        code, out, _ = run_cli(capsys, *only, "--minutes", "1")
        unfinished |= {path.name.split("-")[1] for path in results.glob("cache/unfinished-*")}
        assert code == 0, out
        if out.endswith("1 of 1 done\n"):
            break

    (straight,), (sliced,) = records(tmp_path / "straight"), records(results)
    assert "ebm" in unfinished
    assert sliced.metrics == straight.metrics
    kept = [[p for p in record.points if not p[1].startswith("learned_")] for record in (sliced, straight)]
    assert kept[0] == kept[1]  # what was seen live is not told again of a victim that is there already


def test_a_stage_longer_than_a_whole_slice_is_an_error_and_no_endless_loop(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_clock(monkeypatch, 1000.0)

    for _ in range(3):
        code, out, _ = run_cli(capsys, *TOY, "--minutes", "2")

    assert code == 1 and "does not fit into --minutes 2: allow more" in out


def test_a_failing_cell_is_named_and_the_rest_is_measured(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replaced = {'name = "clp" }': 'name = "clp", settings = { "attack.poison_rate" = 1.0 } }'}
    monkeypatch.setattr("poisonlab.published.tables.FOLDER", toy_folder(tmp_path / "broken", **replaced))

    code, out, _ = run_cli(capsys, *TOY)

    assert code == 1 and out.splitlines()[-1] == "2 of 3 done, 1 failed"
    assert "BadNets × Pruning: failed; " in out and "candidate images" in out
    code, out, _ = run_cli(capsys, *TOY)
    assert code == 1 and out.splitlines()[-1] == "2 of 3 done, 1 failed"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["reproduce"], "--list or one of: toy"),
        (["reproduce", "nothing"], "choose one of: toy"),
        ([*TOY, "--only", "trojan"], "choose among: badnets, other"),
        ([*TOY, "--defenses", "x"], "choose among: none, tuned, cut, theirs"),
        ([*TOY, "--only", "other"], "there is no attack not_here_yet here"),
        ([*TOY, "--minutes", "0"], "--minutes must be more than 0"),
        ([*TOY, "--seed", "-1"], "greater than or equal to 0"),
    ],
)
def test_impossible_requests_exit_2_with_one_line(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    code, out, err = run_cli(capsys, *arguments)

    assert (code, out) == (2, "") and expected in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_it_needs_none_of_the_app(results: Path, tmp_path: Path) -> None:
    """As on a bare GPU node: no database, no browser."""
    missing = ["duckdb", "streamlit", "pandas", "plotly", "pyarrow"]
    code = (
        f"import sys; from pathlib import Path; sys.modules.update(dict.fromkeys({missing}))\n"
        "from poisonlab.cli import main; from poisonlab.published import tables\n"
        f"tables.FOLDER = Path({str(tmp_path / 'tables')!r}); sys.exit(main.main({[*TOY, '--defenses', 'none']}))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("1 of 1 done\n") and "duckdb is not installed" in done.stderr
    assert len(records(results)) == 1


def test_the_list_names_every_table(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_cli(capsys, "reproduce", "--list")

    assert code == 0 and out.splitlines()[2].split()[:4] == ["toy", "4", "2", "read"]


def test_measured_cells_come_back_from_another_machine(
    results: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_cli(capsys, *TOY, "--defenses", "none", "--results", str(tmp_path / "node"))

    code, out, _ = run_cli(capsys, "import", str(tmp_path / "node" / "runs"))

    assert code == 0 and out.startswith("1 runs imported")
    _, out, _ = run_cli(capsys, "leaderboard", "--json")
    assert [row["preset"] for row in json.loads(out)] == ["paper"]
