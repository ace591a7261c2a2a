"""``report`` and the papers of ``leaderboard --rank``."""

import json
import re
from pathlib import Path

import pytest

from poisonlab.cli import main
from poisonlab.store import Store

BACKDOOR = ["--dataset", "cifar10", "--threat", "backdoor", "--preset", "quick"]
CELL = re.compile(r'data-name="(\w+)" data-value="([^"]*)"|data-value="([^"]*)" data-name="(\w+)"')


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def cells(text: str) -> dict[str, dict[str, float]]:
    """The numbers of the ranking in a document, by method and column."""
    table = text.partition('<table id="ranks">')[2].partition("</table>")[0]
    rows = dict(re.findall(r'<tr data-method="([^"]*)">(.*?)</tr>', table, re.DOTALL))
    found = {}
    for method, row in rows.items():
        parts = [(a or d, b or c) for a, b, c, d in CELL.findall(row)]
        found[method] = {name: float(value) for name, value in parts if value}
    return found


@pytest.mark.parametrize("of", ["defense", "attack"])
def test_the_numbers_of_a_board_are_those_of_the_ranking(of, results: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "board.html"
    _, out, _ = run_cli(capsys, "leaderboard", "--rank", of, *BACKDOOR, "--loss-allowed", "0.03", "--json")
    code, said, _ = run_cli(
        capsys, "report", "board", "--rank", of, *BACKDOOR, "--loss-allowed", "0.03", "--to", str(target)
    )
    ranking = {row["name"]: row for row in json.loads(out)}
    found = cells(target.read_text())

    assert (code, said) == (0, "")
    assert list(found) == list(ranking) and len(found) > 10
    for method, numbers in found.items():
        assert numbers.keys() >= {"success", "worst", "loss", "seconds"}
        for name, value in numbers.items():
            assert value == pytest.approx(ranking[method][name], abs=1e-9), (method, name)


def test_a_run_and_a_comparison_are_written_whole(results: Path, tmp_path: Path, capsys) -> None:
    store = Store(results)
    first, second = sorted(store.runs.shipped.showcase)[:2]
    store.close()

    alone = run_cli(capsys, "report", "run", first, "--to", str(tmp_path / "run.html"))
    both = run_cli(capsys, "report", "compare", first, second, first, "--to", str(tmp_path / "both.html"))

    assert (alone[0], both[0]) == (0, 0)
    for name in ("run.html", "both.html"):
        size = (tmp_path / name).stat().st_size
        assert (tmp_path / name).read_text().endswith("</html>") and 4e6 < size < 10e6
    assert {path.name for path in tmp_path.iterdir()} == {"results", "run.html", "both.html"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "what"),
        (["board"], "--to"),
        (["board", "--dataset", "mnist", "--to", "x.html"], "no finished runs of such a block"),
        (["board", "--loss-allowed", "2", "--to", "x.html"], "must lie in [0, 1]"),
        (["board", "--to", "no/such/folder.html"], "a folder that exists"),
        (["run", "../x", "--to", "x.html"], "is not a run id"),
        (["run", "01a20086-c6f4-73e3-af5a-000000000000", "--to", "x.html"], "no run 01a20086"),
        (["compare", "01a20086-c6f4-73e3-af5a-88b79c15ccfb", "--to", "x.html"], "2 to 8 different runs"),
    ],
)
def test_impossible_reports_exit_2_with_one_line(
    arguments, expected, results: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)

    code, out, err = run_cli(capsys, "report", *arguments)

    assert (code, out) == (2, "") and expected in err and len(err.splitlines()) == 1
    assert not (tmp_path / "x.html").exists()


def test_the_papers_of_a_ranking_are_printed_as_bibtex(results: Path, capsys) -> None:
    code, out, _ = run_cli(capsys, "leaderboard", "--rank", *BACKDOOR, "--bibtex")

    assert code == 0 and "@inproceedings{wu2021adversarial," in out and "@misc{gu2017badnets," in out


def test_papers_are_those_of_a_ranking(results: Path, capsys) -> None:
    code, _, err = run_cli(capsys, "leaderboard", "--bibtex")

    assert code == 2 and "add --rank" in err
