"""What is taken away: the table of files, the filtered set, the purified set."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from check_helpers import folder_of, noise_suspects, tiny_recipe
from PIL import Image

from poisonlab.check.data import DataCheck, check_data
from poisonlab.check.suspects import Suspects, of_dataset, of_folder
from poisonlab.check.takeaway import write_csv, write_filtered, write_purified
from poisonlab.context import Context
from poisonlab.data.base import DataError
from poisonlab.types import ImageSet

HOSTILE = ("=cmd()", 'a,"b"', "line\nbreak", "..", "猫 <b>")


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_training: list[tuple[int, int]]) -> DataCheck:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    brought = of_folder(folder_of(tmp_path / "pictures"), 8)
    return check_data(brought, tiny_recipe(), Context())


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_table_has_every_file_once_under_its_name(check: DataCheck, tmp_path: Path) -> None:
    write_csv(check, tmp_path / "out.csv")

    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == files(tmp_path / "pictures")
    assert all(row["file"].startswith(f"{row['class']}/") for row in rows)
    assert [int(row["rank"]) for row in rows] == list(range(1, 91))
    top = float(rows[0]["spectral_signatures"])
    assert top == max(float(row["spectral_signatures"]) for row in rows)
    assert list(rows[0])[:5] == ["rank", "file", "class", "flagged_by", "flagged"]


def test_the_filtered_folder_holds_exactly_what_is_not_flagged(check: DataCheck, tmp_path: Path) -> None:
    kept = write_filtered(check, tmp_path / "filtered")

    left_out = {check.suspects.names[row] for row in check.ranking.flagged.nonzero().flatten().tolist()}
    assert len(left_out) == 9 and kept == 81
    assert files(tmp_path / "filtered") == files(tmp_path / "pictures") - left_out
    some = check.suspects.names[0]
    assert (tmp_path / "filtered" / some).read_bytes() == (tmp_path / "pictures" / some).read_bytes()
    assert not list(tmp_path.glob(".filtered-*"))


def test_a_folder_with_something_in_it_is_left_as_it_is(check: DataCheck, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not empty"):
        write_filtered(check, tmp_path / "pictures")

    assert len(files(tmp_path / "pictures")) == 90


def test_names_of_classes_lead_nowhere(tmp_path: Path, no_training: list[tuple[int, int]]) -> None:
    plain = noise_suspects(100)
    data = ImageSet(plain.data.x, plain.data.y, HOSTILE)
    found = check_data(Suspects(data, tuple(f"{name}\n" for name in plain.names)), tiny_recipe(), Context())

    kept = write_filtered(found, tmp_path / "inner" / "filtered")
    write_csv(found, tmp_path / "out.csv")

    assert len(files(tmp_path / "inner" / "filtered")) == kept
    assert [path.name for path in (tmp_path / "inner").iterdir()] == ["filtered"]
    text = (tmp_path / "out.csv").read_text(encoding="utf-8")
    assert len(list(csv.DictReader(io.StringIO(text, newline="")))) == 100


def test_a_table_of_labels_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_training: list[tuple[int, int]]
) -> None:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    root = tmp_path / "pictures"
    (root / "images").mkdir(parents=True)
    lines = ["file,label"]
    for number in range(100):
        Image.new("RGB", (9, 9), (2 * number, 9, 9)).save(root / "images" / f"{number}.png")
        lines.append(f"images/{number}.png,{'even' if number % 2 == 0 else 'odd'}")
    (root / "labels.csv").write_text("\n".join(lines))
    found = check_data(of_folder(root, 8), tiny_recipe(), Context())

    kept = write_filtered(found, tmp_path / "filtered")

    again = of_folder(tmp_path / "filtered", 8)
    assert len(again) == kept == 90 and again.by_table
    assert {again.data.classes[int(y)] for y in again.data.y} == {"even", "odd"}


def test_purifying_needs_a_model_of_clean_images(check: DataCheck, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs an energy model"):
        write_purified(check, tmp_path / "purified", tiny_recipe(), None, Context())

    assert not (tmp_path / "purified").exists()


def test_digits_are_purified_by_the_model_that_ships(
    tmp_path: Path, no_training: list[tuple[int, int]]
) -> None:
    whole = of_dataset("digits", "quick")
    found = check_data(Suspects(whole.data[:12], whole.names[:12]), tiny_recipe(), Context())

    write_purified(found, tmp_path / "purified", replace(tiny_recipe(), kind="digits"), None, Context())

    written = sorted((tmp_path / "purified").rglob("*.png"))
    assert len(written) == 12
    first = torch.from_numpy(np.array(Image.open(written[0])))
    before = whole.data.x[int(written[0].stem), 0]
    difference = (first.float() - before.float()).abs().mean()
    assert 0 < difference < 40  # it moved, and it is the same digit
