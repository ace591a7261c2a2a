"""``check-data``: from a folder to its files, and what is refused before anything is trained."""

from pathlib import Path

import pytest
from check_helpers import folder_of
from check_helpers import no_training as no_training  # noqa: PLC0414 - a fixture

from poisonlab.cli.main import main


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))


def check(tmp_path: Path, *options: str) -> int:
    return main(["check-data", "--results", str(tmp_path / "results"), "--device", "cpu", *options])


def test_a_folder_is_checked_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_training: list[tuple[int, int]]
) -> None:
    pictures = folder_of(tmp_path / "pictures")
    wanted = ["--csv", str(tmp_path / "out.csv"), "--filtered", str(tmp_path / "filtered")]

    assert check(tmp_path, "--images", str(pictures), "--size", "8", *wanted) == 0

    said = capsys.readouterr().out
    assert said.startswith("No verdict: only a ranking.")
    assert "strip: left out, needs trusted clean images" in said
    assert "9 of 90 images" in said
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) == 91
    assert sum(path.is_file() for path in (tmp_path / "filtered").rglob("*")) == 81


def test_trusted_pictures_give_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_training: list[tuple[int, int]]
) -> None:
    pictures = folder_of(tmp_path / "pictures")
    trusted = folder_of(tmp_path / "trusted", each=80)

    assert check(tmp_path, "--images", str(pictures), "--size", "8", "--clean", str(trusted)) == 0

    assert "of 19 clean sets of this kind" in capsys.readouterr().out
    assert len(no_training) == 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--images", "nowhere"], "is no folder"),
        (["--dataset", "nothing"], "unknown dataset"),
        (["--images", ".", "--dataset", "digits"], "not allowed with"),
        (["--dataset", "digits", "--share", "0.9"], "--share must be"),
        (["--dataset", "digits", "--filtered", "full"], "not empty"),
        (["--dataset", "digits", "--csv", "none/x.csv"], "a file in a folder that exists"),
        (["--dataset", "digits", "--csv", "full"], "a file in a folder that exists"),
        (["--images", "full", "--filtered", "full/new"], "lies among the pictures"),
        (["--dataset", "digits", "--filtered", "new", "--purified", "new"], "need a folder each"),
        (["--images", "set", "--size", "8", "--purified", "new"], "purifying needs an energy model"),
        (["--images", "set", "--size", "8", "--clean", "set"], "every trusted picture is among those"),
        ([], "required"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    folder_of(tmp_path / "set")

    assert check(tmp_path, *options) in (1, 2)

    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in line
