"""What is special about the traffic signs: the official folders, images of any size, sets of any size."""

from pathlib import Path

import pytest
import torch
from core_helpers import block_network, loaded
from PIL import Image

from poisonlab.data import gtsrb
from poisonlab.data.base import DataError
from poisonlab.data.gtsrb import Gtsrb, GtsrbConfig
from poisonlab.types import ImageSet


def write(path: Path, value: int, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255)).save(path)


@pytest.fixture
def signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two training images a class and three test images, on a machine without a network."""
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path))
    block_network(monkeypatch)
    folder = tmp_path / "gtsrb"
    for label in range(43):
        for frame in range(2):
            write(folder / f"GTSRB/Training/{label:05d}/00000_{frame:05d}.ppm", label, (25 + label, 40))
    for number in range(3):
        write(folder / f"GTSRB/Final_Test/Images/{number:05d}.ppm", 200 + number)
    (folder / "GT-final_test.csv").write_text(
        "Filename;Width;ClassId\n00000.ppm;32;7\n00001.ppm;32;0\n00002.ppm;32;42\n"
    )
    return folder


def load(**params: int) -> tuple[ImageSet, ImageSet]:
    return Gtsrb(GtsrbConfig(**params)).load()


def refused() -> str:
    with pytest.raises(DataError) as caught:
        load()
    return str(caught.value)


def test_folders_give_the_labels_and_images_of_any_side_end_at_one(signs: Path) -> None:
    train, test = load(size=16)

    assert train.x.shape == (86, 3, 16, 16) and torch.equal(train.y, torch.arange(86) // 2)
    assert torch.equal(train.x[:, 0, 3, 3].long(), train.y) and bool((train.x[:, 2] == 255).all())
    assert test.y.tolist() == [7, 0, 42] and test.x[:, 0, 0, 0].tolist() == [200, 201, 202]
    assert len(train.classes) == len(set(train.classes)) == 43 and train.classes[14] == "stop"


def test_the_tensor_file_stays_until_the_folders_hold_something_else(
    signs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    with monkeypatch.context() as patch:
        patch.setattr(gtsrb, "_read", lambda path: pytest.fail("read an image again"))
        assert len(load()[0]) == 86
    write(signs / "GTSRB/Training/00003/00001_00000.ppm", 3)

    assert len(load()[0]) == 87


def test_an_image_replaced_in_place_is_noticed(signs: Path) -> None:
    load()
    write(signs / "GTSRB/Training/00003/00000_00001.ppm", 99, (28, 40))
    train, _ = load()

    assert len(train) == 86 and 99 in train.x[:, 0, 3, 3].tolist()


def test_a_table_saved_by_a_spreadsheet_is_read(signs: Path) -> None:
    table = signs / "GT-final_test.csv"
    table.write_bytes(b"\xef\xbb\xbfFilename;ClassId\r\n00000.ppm;7\r\n00001.ppm;0\r\n")

    assert load()[1].y.tolist() == [7, 0]


def test_files_that_begin_with_a_dot_are_no_images(signs: Path) -> None:
    (signs / "GTSRB/Training/00003/._00000_00000.ppm").write_bytes(b"AppleDouble")

    assert len(load()[0]) == 86


def test_the_tensor_file_alone_is_enough(signs: Path) -> None:
    load()
    signs.rename(signs.parent / "elsewhere")

    assert len(load()[0]) == 86


def test_no_folder_and_no_network_says_what_to_put_where(signs: Path) -> None:
    signs.rename(signs.parent / "elsewhere")

    assert f"GTSRB is not in {signs}" in refused() and "official folders there" in refused()


def test_a_class_without_images_is_named(signs: Path) -> None:
    for file in (signs / "GTSRB/Training/00041").iterdir():
        file.unlink()

    assert "00041 has no .ppm images; expected a folder for each of 43 classes" in refused()


def test_a_truncated_image_is_named(signs: Path) -> None:
    path = signs / "GTSRB/Training/00009/00000_00001.ppm"
    path.write_bytes(path.read_bytes()[:-50])

    assert f"{path} cannot be read" in refused() and not (signs.parent / gtsrb.FILE.name).exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "GT-final_test.csv cannot be read"),
        ("Filename,ClassId\n00000.ppm,1\n", "expected columns Filename and ClassId"),
        ("Filename;ClassId\n00000.ppm;43\n", "ClassId from 0 to 42"),
        ("Filename;ClassId\n00009.ppm;4\n", "00009.ppm cannot be read"),
    ],
    ids=["missing", "commas", "unknown class", "missing image"],
)
def test_test_labels_that_cannot_be_used_are_explained(signs: Path, text: str | None, said: str) -> None:
    table = signs / "GT-final_test.csv"
    table.unlink()
    if text is not None:
        table.write_text(text)

    assert said in refused()


def test_real_signs_are_there_and_divide_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, _ = loaded("gtsrb", monkeypatch, size=32)

    assert len(pool) >= 2580 and len(test) >= 2150 and pool.shape == (3, 32, 32)
