"""CIFAR-10 through torchvision's checksummed download, kept beside it as one tensor file."""

import hashlib
import os
from pathlib import Path
from typing import Any, ClassVar

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torchvision.datasets import CIFAR10 as Archive

from poisonlab.config import Preset, param
from poisonlab.data.base import DataError, DivisionConfig, data_folder, pool_to
from poisonlab.registry import Card, dataset
from poisonlab.types import ImageSet

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TENSOR_FILE = "cifar10.safetensors"
# SHA-256 of the tensors' bytes, in the order of the official archive (which torchvision checks by MD5).
PIXELS_SHA256 = "32e5966899bde482c0ef7d076bf69809b4b1488c806f657a814cfca4646ec493"


class Cifar10Config(DivisionConfig):
    size: int = param(32, "Side of the images; below 32 they are average-pooled", quick=16, ge=8, le=32, unit="pixels")
    train_images: int = param(45_000, "Attacked training set", quick=12_000, ge=20, le=50_000, unit="images")
    head_images: int = param(500, "Attacked fine-tuning set", ge=20, le=50_000, unit="images")
    pretrain_images: int = param(44_500, "Extractor's own images", quick=15_000, ge=20, le=50_000, unit="images")
    reserve_images: int = param(5_000, "Pool of trusted images", quick=1_250, ge=0, le=50_000, unit="images")
    public_images: int = param(5_000, "Images for generative models", quick=20_000, ge=0, le=50_000, unit="images")
    test_images: int = param(10_000, "Test images", quick=4_000, ge=20, le=10_000, unit="images")


@dataset("cifar10")
class Cifar10:
    """50,000 + 10,000 colour photographs of ten classes (Krizhevsky 2009)."""

    Config = Cifar10Config
    card = Card(
        title="CIFAR-10",
        paper="A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
        summary="60,000 colour photographs of ten classes at 32x32. The preset quick pools them to 16x16 and takes "
        "a subset, so that a laptop finishes in minutes.",
    )
    presets: ClassVar[dict[Preset, dict[str, Any]]] = {
        "quick": {
            "victim": "resnet8",
            "training": {"epochs": 8, "lr": 0.2, "schedule": "one_cycle", "crop_padding": 1},
            "head": {},
            "clean_images": 500,
        },
        "paper": {
            "victim": "resnet18",
            "training": {"epochs": 100, "lr": 0.1, "schedule": "cosine", "crop_padding": 4},
            "head": {},
            "clean_images": 500,
            "precision": "bfloat16",
        },
    }

    def __init__(self, config: Cifar10Config) -> None:
        self.config = config

    def load(self) -> tuple[ImageSet, ImageSet]:
        """The official training and test sets, uint8 ``(n, 3, size, size)``."""
        tensors = _tensors(data_folder())
        size = self.config.size
        train = ImageSet(pool_to(tensors["train_x"], size), tensors["train_y"].long(), CLASSES)
        test = ImageSet(pool_to(tensors["test_x"], size), tensors["test_y"].long(), CLASSES, "test")
        return train, test


def _tensors(root: Path) -> dict[str, torch.Tensor]:
    """``train_x`` ``train_y`` ``test_x`` ``test_y``, uint8, from the tensor file, which is made when absent."""
    path = root / TENSOR_FILE
    if path.exists():
        return _read(path)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{TENSOR_FILE}.lock"):
            if not path.exists():
                _write(_from_archive(root), path)
    except (OSError, SafetensorError) as error:  # the latter stands for a full disk, too
        raise DataError(
            f"cannot keep CIFAR-10 under {root}: {getattr(error, 'strerror', None) or error}; free 400 MB there or set "
            "POISONLAB_DATA to another folder"
        ) from error
    return _read(path)


def _from_archive(root: Path) -> dict[str, torch.Tensor]:
    try:
        train, test = (Archive(root, train=part, download=True) for part in (True, False))
    except Exception as error:  # torchvision raises whatever the network or the unpacking raised
        raise DataError(
            f"CIFAR-10 is neither complete in {root / 'cifar-10-batches-py'} nor can it be downloaded ({error}); "
            "put the official cifar-10-batches-py folder there, or set POISONLAB_DATA to the folder that holds it"
        ) from error
    return {
        "train_x": torch.from_numpy(train.data).permute(0, 3, 1, 2).contiguous(),
        "train_y": torch.tensor(train.targets, dtype=torch.uint8),
        "test_x": torch.from_numpy(test.data).permute(0, 3, 1, 2).contiguous(),
        "test_y": torch.tensor(test.targets, dtype=torch.uint8),
    }


def _write(tensors: dict[str, torch.Tensor], path: Path) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, torch.Tensor]:
    remedy = f"delete {path} and run again: it is made anew from the archive or the download"
    try:
        tensors = load_file(path)
    except Exception as error:  # truncated, not safetensors, unreadable
        raise DataError(f"{path} is damaged ({error}); expected CIFAR-10 as one tensor file; {remedy}") from error
    hasher = hashlib.sha256()
    for name in ("train_x", "train_y", "test_x", "test_y"):
        if name not in tensors:
            raise DataError(f"{path} lacks {name!r}; expected CIFAR-10 as one tensor file; {remedy}")
        hasher.update(tensors[name].numpy().data)
    if hasher.hexdigest() != PIXELS_SHA256:
        found = hasher.hexdigest()
        raise DataError(
            f"{path} has SHA-256 {found[:12]}... of its tensors, expected {PIXELS_SHA256[:12]}...; {remedy}"
        )
    return tensors
