"""CIFAR-100 from a folder of the official form: labels, names, a choice of classes, and errors that say what to do."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from core_helpers import block_network
from torchvision.datasets import CIFAR100

from poisonlab.data.base import DataError
from poisonlab.data.cifar100 import CLASSES, Cifar100, Cifar100Config
from poisonlab.spec.config import make_spec
from poisonlab.types import ImageSet


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path))
    block_network(monkeypatch)
    return tmp_path / "cifar-100-python"


@pytest.fixture
def folder(empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One picture a class in either part, its red as bright as its label; no MD5 sum is compared."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    write(empty, CLASSES)
    return empty


def write(folder: Path, names: tuple[str, ...]) -> None:
    folder.mkdir(exist_ok=True)
    labels = list(range(100))
    planes = np.zeros((100, 3, 32, 32), np.uint8)
    planes[:, 0] = np.arange(100).reshape(-1, 1, 1)
    part = {"data": planes.reshape(100, -1), "fine_labels": labels, "coarse_labels": [0] * 100}
    for name in ("train", "test"):
        (folder / name).write_bytes(pickle.dumps(part))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(names)}))


def load(**params: int) -> tuple[ImageSet, ImageSet]:
    return Cifar100(Cifar100Config(**params)).load()


def test_all_classes_come_with_their_pixels_and_names(folder: Path) -> None:
    train, test = load()

    assert train.x.shape == (100, 3, 32, 32) and test.split == "test"
    assert torch.equal(train.y, torch.arange(100)) and train.classes == CLASSES
    assert torch.equal(train.x[:, 0, 5, 7].long(), torch.arange(100)) and not train.x[:, 1:].any()


def test_a_few_classes_are_taken_at_even_steps_and_numbered_anew(folder: Path) -> None:
    train, test = load(classes=4, size=16)

    assert train.classes == test.classes == tuple(CLASSES[label] for label in (0, 25, 50, 75))
    assert train.y.tolist() == [0, 1, 2, 3] and train.x[:, 0, 0, 0].tolist() == [0, 25, 50, 75]
    assert train.x.shape == (4, 3, 16, 16)


def test_names_are_the_archives_own(folder: Path) -> None:
    write(folder, ("something else", *CLASSES[1:]))

    with pytest.raises(DataError, match="names other classes than CIFAR-100; put the official folder there"):
        load()


def test_without_an_archive_the_folder_is_named_and_nothing_is_kept(empty: Path) -> None:
    with pytest.raises(DataError, match="neither complete in .*cifar-100-python nor can it be downloaded"):
        load()

    assert not (empty.parent / "cifar100.safetensors").exists()


def test_the_checksums_are_those_that_are_published() -> None:
    """A file that torchvision did not check would be unpickled."""
    assert CIFAR100.tgz_md5 == "eb9058c3a382ffc7106e4002c42a8d85"
    assert dict(CIFAR100.train_list)["train"] == "16019d7e3df5f24257cddd939b257f8d"
    assert dict(CIFAR100.test_list)["test"] == "f0ef6b0ae62326f3e7ffdfab6717acfc"
    assert CIFAR100.meta["md5"] == "7973b15100ade9c7d40fb424638fde48"


def test_presets_fit_five_hundred_images_a_class() -> None:
    for preset in ("quick", "full", "paper"):
        for attack in ("badnets", "blend", "wanet", "bullseye_polytope", "gradient_matching"):
            assert make_spec("cifar100", attack, "anp", preset=preset).dataset.name == "cifar100"
