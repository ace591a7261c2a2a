"""Folders and tables as others leave them: links, pipes, names of any bytes, rows that contradict each other."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poisonlab.cli.main import main
from poisonlab.data import own
from poisonlab.data.base import DataError
from poisonlab.data.shared.own_folder import Found, look
from poisonlab.data.shared.own_names import class_name

COUNT = 60


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    for i in range(COUNT):
        noise = np.random.default_rng(i).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i:03d}.png")
    return folder


Fill = Callable[[str], Path]


@pytest.fixture
def fill(pool: Path, tmp_path: Path) -> Fill:
    """Put pictures into a folder below ``tmp_path / "set"``."""

    def put(name: str) -> Path:
        return Path(shutil.copytree(pool, tmp_path / "set" / name, dirs_exist_ok=True))

    return put


def kept(found: Found) -> tuple[str, ...]:
    """The names of the classes of a set once it is a dataset."""
    name = own.add("set", found, 16, "crop")
    made = own.own_sets()[name]
    train, _ = made(made.Config()).load()
    return train.classes


# -- names ------------------------------------------------------------------------------------------


def test_names_of_classes_can_be_shown_anywhere(fill: Fill, tmp_path: Path) -> None:
    for name in ("a\nb", "\x1b[31mred", "\u202eевил", "👩\u200d🔬"):
        fill(name)

    found = look(tmp_path / "set")

    assert set(found.classes) == {"a b", "[31mred", "евил", "👩\u200d🔬"}
    assert kept(found) == found.classes


def test_names_that_are_no_utf8_are_read_as_latin1(fill: Fill, tmp_path: Path) -> None:
    fill("tea")
    latin = os.fsencode(tmp_path / "set") + b"/caf\xe9"
    try:
        os.rename(fill("coffee"), latin)
        os.rename(latin + b"/000.png", latin + b"/\xff.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")

    assert kept(look(tmp_path / "set")) == ("café", "tea")


@pytest.mark.parametrize(("name", "said"), [(" ", "nothing can be read"), ("x" * 300, "300 characters")])
def test_names_that_are_none(name: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        class_name(name)


def test_no_name_steers_a_terminal(fill: Fill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    fill("\x1b[31m/train/a")
    fill("\x1b[31m/train/b")

    assert main(["data", "look", str(tmp_path / "set")]) == 0

    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err


# -- layouts ----------------------------------------------------------------------------------------


def test_a_class_of_trains_is_no_training_part(fill: Fill, tmp_path: Path) -> None:
    for name in ("train", "plane", "boat"):
        fill(name)

    assert look(tmp_path / "set").classes == ("boat", "plane", "train")


def test_pictures_beside_the_parts_are_counted(fill: Fill, tmp_path: Path) -> None:
    for name in ("Train/a", "Train/b", "training/a", "training/b", "test/a", "test/b", "unlabeled"):
        fill(name)

    found = look(tmp_path / "set")

    assert [(train, test) for _, train, test in found.counts()] == [(2 * COUNT, COUNT)] * 2
    assert found.skipped == {"beside the folder Train": COUNT}


def test_a_table_sorts_what_lies_in_parts(fill: Fill, tmp_path: Path) -> None:
    fill("train")
    fill("test")
    rows = [f"{part}\\{i:03d}.png,{i % 2},{part}" for part in ("train", "test") for i in range(COUNT)]
    (tmp_path / "set" / "labels.csv").write_text("\n".join(["file,label,split", *rows]))

    found = look(tmp_path / "set")

    assert found.classes == ("0", "1") and len(found.test) == COUNT


def test_a_readme_beside_the_wrapping_folder(fill: Fill, tmp_path: Path) -> None:
    fill("pets/cat")
    fill("pets/dog")
    (tmp_path / "set" / "README.md").write_text("x")

    found = look(tmp_path / "set")

    assert found.classes == ("cat", "dog") and found.skipped == {"no picture (.md)": 1}


def test_pictures_of_other_forms_are_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.tif").write_bytes(b"x")

    with pytest.raises(DataError, match=r"left out: 2 no picture \(\.tif\)"):
        look(tmp_path / "set")


# -- links and what is no file ----------------------------------------------------------------------


def test_links_in_a_circle_and_pipes_are_left_out(fill: Fill, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        fill(name)
    root = tmp_path / "set"
    (root / "loop").symlink_to(".")
    (root / "cat" / "up").symlink_to("..")
    os.mkfifo(root / "cat" / "pipe.png")

    found = look(root)

    assert found.classes == ("cat", "dog") and len(found.train) + len(found.test) == 2 * COUNT
    assert found.skipped == {
        "links to a folder around them": 1,
        "links to folders within a class": 1,
        "no file but a pipe or a device": 1,
    }


@pytest.mark.parametrize("to", ["itself.png", "absent.png"])
def test_a_link_to_no_picture_is_named(to: str, fill: Fill, tmp_path: Path) -> None:
    fill("dog")
    (fill("cat") / "itself.png").symlink_to(to)

    with pytest.raises(DataError, match=r"itself\.png"):
        own.add("set", look(tmp_path / "set"), 16, "crop")


def test_a_folder_that_may_not_be_read_is_no_empty_one(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("dog")
    closed = fill("cat/more")
    scan = os.scandir

    def refusing(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)

    with pytest.raises(DataError, match=f"{closed} cannot be read: Permission denied"):
        look(tmp_path / "set")


# -- tables -----------------------------------------------------------------------------------------

ROWS = [f"{i:03d}.png,{i % 2}" for i in range(COUNT)]


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        ("file,class", [*ROWS, "./000.png,1"], r"1 files more than once: '000\.png'"),
        ("file,class", [*ROWS[1:], "000.png, "], r"no label for '000\.png'"),
        ("file,class", [*ROWS[1:], "000.png"], r"no label for '000\.png'"),
        ("file,class", [*ROWS, "a\0.png,1"], "names 1 files that are not in"),
        ("file,class", [*ROWS, f"{'x' * 300}.png,1"], "names 1 files that are not in"),
        ("file,class,split", [f"{row},secret" for row in ROWS], "'secret'; expected train, val or test"),
    ],
    ids=["twice", "blank", "short", "nul", "long", "split"],
)
def test_rows_that_cannot_be(header: str, rows: list[str], said: str, fill: Fill, tmp_path: Path) -> None:
    fill("")
    (tmp_path / "set" / "labels.csv").write_text("\n".join([header, *rows]))

    with pytest.raises(DataError, match=said):
        look(tmp_path / "set")


def test_rows_longer_than_the_header_and_lines_within_quotes(fill: Fill, tmp_path: Path) -> None:
    fill("")
    rows = [f'{i:03d}.png,"big\r\n{i % 2}",more,and more' for i in range(COUNT)]
    (tmp_path / "set" / "labels.csv").write_bytes("\r\n".join(["file,class", *rows]).encode())

    assert look(tmp_path / "set").classes == ("big 0", "big 1")


def test_a_table_below_a_link(fill: Fill, tmp_path: Path) -> None:
    folder = fill("")
    rows = [f"{folder.resolve()}/{i:03d}.png,{i % 2}" for i in range(COUNT)]
    (folder / "labels.csv").write_text("\n".join(["file,class", *rows]))
    (tmp_path / "link").symlink_to(folder)

    found = look(tmp_path / "link")

    assert all(path.is_relative_to(found.root) for path, _ in found.train)


def test_a_table_whose_name_cannot_be(fill: Fill, tmp_path: Path) -> None:
    fill("")
    with pytest.raises(DataError, match="is no file"):
        look(tmp_path / "set", "a\0b")
