"""Tiny-ImageNet from the official folders: labels, names, choice of classes, and errors that name what is wrong."""

from pathlib import Path

import pytest
import torch
from core_helpers import block_network, loaded
from PIL import Image

from poisonlab.data import tiny_imagenet
from poisonlab.data.base import DataError
from poisonlab.data.tiny_imagenet import TinyImageNet, TinyImageNetConfig
from poisonlab.types import ImageSet

SYNSETS = [f"n{label:08d}" for label in range(200)]


def write(path: Path, value: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (64, 64), value if mode == "L" else (value, value, value)).save(path, quality=95)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One training picture a class, as bright as its label, every third one gray; two labeled pictures for tests."""
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path))
    block_network(monkeypatch)
    home = tmp_path / "tiny-imagenet-200"
    for label, synset in enumerate(SYNSETS):
        write(home / f"train/{synset}/images/{synset}_0.JPEG", label, "L" if label % 3 == 0 else "RGB")
    for number, value in enumerate((200, 210)):
        write(home / f"val/images/val_{number}.JPEG", value)
    (home / "wnids.txt").write_text("\n".join(reversed(SYNSETS)) + "\n")
    (home / "words.txt").write_text("".join(f"{s}\tthing {i}, other name\n" for i, s in enumerate(SYNSETS)))
    (home / "val/val_annotations.txt").write_text(
        "val_0.JPEG\tn00000150\t0\t0\t62\t62\nval_1.JPEG\tn00000001\t1\t1\t9\t9\n"
    )
    return home


def load(**params: int) -> tuple[ImageSet, ImageSet]:
    return TinyImageNet(TinyImageNetConfig(**params)).load()


def refused() -> str:
    with pytest.raises(DataError) as caught:
        load()
    return str(caught.value)


def test_folders_give_labels_in_wordnets_order_and_words_give_names(folder: Path) -> None:
    train, test = load(size=32)

    assert train.x.shape == (200, 3, 32, 32) and torch.equal(train.y, torch.arange(200))
    assert bool(((train.x.long() - torch.arange(200).view(-1, 1, 1, 1)).abs() <= 2).all())  # JPEG
    assert train.classes[7] == "thing 7" and len(train.classes) == 200
    assert test.y.tolist() == [150, 1] and test.split == "test"


def test_a_few_classes_are_taken_at_even_steps_and_numbered_anew(folder: Path) -> None:
    train, test = load(classes=4)

    assert train.classes == test.classes == ("thing 0", "thing 50", "thing 100", "thing 150")
    assert train.y.tolist() == [0, 1, 2, 3] and (train.x[:, 0, 9, 9].long() - train.y * 50).abs().max() <= 2
    assert test.y.tolist() == [3] and test.x.shape == (1, 3, 64, 64)


def test_the_tensor_file_is_enough_until_pictures_come_or_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    with monkeypatch.context() as patch:
        patch.setattr(tiny_imagenet, "read_pictures", lambda *args: pytest.fail("read the pictures again"))
        assert len(load()[0]) == 200
    write(folder / "train/n00000003/images/n00000003_7.JPEG", 3)
    assert len(load()[0]) == 201
    folder.rename(folder.parent / "elsewhere")

    assert len(load()[0]) == 201 and load()[0].classes[199] == "thing 199"


def test_no_folder_says_what_to_put_where(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    said = refused()

    assert f"Tiny-ImageNet is not in {folder}; unpack the official" in said and "POISONLAB_DATA" in said


def test_pictures_that_cannot_be_used_are_named_and_nothing_is_kept(folder: Path) -> None:
    path = folder / "train/n00000042/images/n00000042_0.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    assert f"{path} cannot be read" in refused()
    path.unlink()

    assert f"{path.parent} has no *.JPEG pictures" in refused()
    assert not (folder.parent / tiny_imagenet.FILE.name).exists()


@pytest.mark.parametrize(
    ("table", "text", "said"),
    [
        ("wnids.txt", "n00000001\n", "names 1 classes, expected 200"),
        ("words.txt", None, "words.txt cannot be read"),
        ("val/val_annotations.txt", "", "has 0 lines; expected some, with 2 columns or more"),
        ("val/val_annotations.txt", "val_0.JPEG n00000001\n", "expected some, with 2 columns or more"),
        (
            "val/val_annotations.txt",
            "val_0.JPEG\tn99999999\n",
            "gives val_0.JPEG a class that is not in wnids.txt",
        ),
        ("val/val_annotations.txt", "val_7.JPEG\tn00000001\n", "val_7.JPEG cannot be read"),
    ],
)
def test_tables_that_cannot_be_used_are_explained(
    folder: Path, table: str, text: str | None, said: str
) -> None:
    (folder / table).unlink()
    if text is not None:
        (folder / table).write_text(text)

    assert said in refused()


@pytest.mark.real
def test_the_real_set_has_names_and_the_quick_presets_images(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, config = loaded("tiny_imagenet", monkeypatch)

    assert len(set(pool.classes)) == config.classes == 20 and pool.classes[0] == "goldfish"
    assert len(pool) >= config.train_images + config.public_images and len(test) >= config.test_images
    assert pool.x.float().std() > 30
