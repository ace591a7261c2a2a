"""CINIC-10 from the official folders: labels, origins, the tensor file, and errors that name what is wrong."""

import os
from pathlib import Path

import pytest
import torch
from core_helpers import block_network, loaded
from PIL import Image

from poisonlab.data import cinic10
from poisonlab.data.base import DataError, data_fingerprint
from poisonlab.data.cifar10 import CLASSES
from poisonlab.data.cinic10 import Cinic10, Cinic10Config, imagenet_part
from poisonlab.generative.sources import training_images
from poisonlab.types import ImageSet

SPLITS = ("train", "valid", "test")


def write(path: Path, value: int, size: tuple[int, int] = (32, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In each of the three parts one CIFAR-10 and one ImageNet picture a class; the red says which it is."""
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path))
    block_network(monkeypatch)
    for part, split in enumerate(SPLITS):
        for label, name in enumerate(CLASSES):
            own = tmp_path / "CINIC-10" / split / name
            write(own / f"cifar10-train-{label}.png", 60 * part + label)
            write(own / f"n02690373_{label}.png", 60 * part + 20 + label)
    return tmp_path / "CINIC-10"


def load() -> tuple[ImageSet, ImageSet]:
    return Cinic10(Cinic10Config(size=16)).load()


def reds(data: ImageSet) -> list[int]:
    return data.x[:, 0, 5, 5].tolist()


def refused() -> str:
    with pytest.raises(DataError) as caught:
        load()
    return str(caught.value)


def test_train_and_valid_are_the_pool_and_test_is_the_test_set(folder: Path) -> None:
    pool, test = load()

    assert pool.x.shape == (40, 3, 16, 16) and pool.classes == CLASSES and test.split == "test"
    assert torch.equal(pool.y, (torch.arange(20) // 2).repeat(2)) and torch.equal(
        test.y, torch.arange(20) // 2
    )
    assert reds(pool)[:4] == [0, 20, 1, 21] and reds(pool)[20:22] == [60, 80] and reds(test)[:2] == [120, 140]
    assert bool((pool.x[:, 2] == 255).all())


def test_the_imagenet_part_is_known_by_its_file_names(folder: Path) -> None:
    train, both = imagenet_part(), imagenet_part(16, valid=True)

    assert reds(train) == [20 + label for label in range(10)] and train.y.tolist() == list(range(10))
    assert reds(both) == [*range(20, 30), *range(80, 90)] and both.shape == (3, 16, 16)
    assert train.shape == (3, 32, 32)
    assert sorted(training_images("cinic10", both)[:, 0, 5, 5].tolist()) == reds(
        train
    )  # as a source, no CIFAR-10


def test_the_tensor_file_is_enough_until_pictures_come_or_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    with monkeypatch.context() as patch:
        patch.setattr(cinic10, "read_pictures", lambda *args: pytest.fail("read the pictures again"))
        assert len(load()[0]) == 40
    write(folder / "valid/frog/n01640846_7.png", 9)
    assert len(load()[0]) == 41
    folder.rename(folder.parent / "elsewhere")

    assert len(load()[0]) == 41 and len(imagenet_part(valid=True)) == 21


def test_a_picture_replaced_by_one_of_the_same_size_and_date_is_noticed(folder: Path) -> None:
    path = folder / "valid/frog/n02690373_6.png"
    before = path.stat()
    other = write(folder.parent / "other.png", 77)
    assert other.stat().st_size == before.st_size
    old, _ = load()

    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    new, _ = load()

    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [(a, b) for a, b in zip(reds(old), reds(new), strict=True) if a != b] == [(86, 77)]
    assert data_fingerprint(old, old) != data_fingerprint(new, new)


def test_files_that_begin_with_a_dot_are_no_pictures(folder: Path) -> None:
    (folder / "train/frog/._n02690373_6.png").write_bytes(b"AppleDouble")
    write(folder / "train/frog/.ipynb_checkpoints/n02690373_6-checkpoint.png", 5)
    pool, _ = load()
    assert len(pool) == 40


def test_no_folder_says_what_to_put_where(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    said = refused()

    assert f"CINIC-10 is not in {folder}; unpack the official" in said and "POISONLAB_DATA" in said


def test_a_class_without_pictures_is_named(folder: Path) -> None:
    for file in (folder / "test/ship").iterdir():
        file.unlink()

    assert f"{folder / 'test/ship'} has no *.png pictures" in refused()


def test_pictures_that_cannot_be_used_are_named_and_nothing_is_kept(folder: Path) -> None:
    path = folder / "valid/cat/n02690373_3.png"
    path.write_bytes(path.read_bytes()[:-30])
    assert f"{path} cannot be read" in refused()
    write(path, 1, (31, 32))

    assert f"{path} has 31x32 pixels, expected 32x32" in refused()
    assert not (folder.parent / cinic10.FILE.name).exists()


@pytest.mark.real
def test_the_real_set_holds_both_origins_and_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, config = loaded("cinic10", monkeypatch)
    part = imagenet_part(16, valid=True)

    assert len(pool) >= config.train_images + config.public_images and len(test) >= config.test_images
    assert 0.7 < len(part) / len(pool) < 0.85  # 7 of 9
    assert len(torch.bincount(part.y)) == 10 and part.x.float().std() > 30
