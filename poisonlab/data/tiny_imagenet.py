"""Tiny-ImageNet-200 in the official folders, kept beside them as one tensor file."""

from pathlib import Path
from typing import Any, ClassVar

import torch

from poisonlab.data.base import DataError, DivisionConfig, data_folder, some_classes
from poisonlab.data.shared.image_folder import (
    pictures_in,
    read_pictures,
    read_table,
    state_of_files,
    visible,
)
from poisonlab.data.shared.recipes import AIRBENCH
from poisonlab.data.shared.tensor_file import TensorFile, Tensors
from poisonlab.registry import Card, dataset
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Preset, param
from poisonlab.types import ImageSet

SIDE = 64  # of the pictures
CLASSES = 200
# names: the classes' names as UTF-8 bytes, one a line
FILE = TensorFile("Tiny-ImageNet-200", "tiny_imagenet.safetensors", megabytes=1_400, more=("names",))
REMEDY = (
    "unpack the official tiny-imagenet-200.zip (cs231n.stanford.edu) there, or set POISONLAB_DATA to what holds "
    "tiny-imagenet-200/"
)


class TinyImageNetConfig(DivisionConfig):
    size: int = param(
        64, "Side of the images; below 64 they are average-pooled", quick=16, ge=8, le=64, unit="pixels"
    )
    classes: int = param(
        200,
        "How many of the 200 classes, at even steps through WordNet's order, so that a few are as varied as all",
        quick=20,
        ge=2,
        le=CLASSES,
    )
    train_images: int = param(95_000, "Attacked training set", quick=800, ge=20, unit="images")
    head_images: int = param(5_000, "Attacked fine-tuning set", quick=200, ge=20, unit="images")
    pretrain_images: int = param(90_000, "Extractor's own images", quick=700, ge=20, unit="images")
    reserve_images: int = param(5_000, "Pool of trusted images", quick=100, ge=0, unit="images")
    public_images: int = param(5_000, "Images for generative models", quick=200, ge=0, unit="images")
    test_images: int = param(10_000, "Test images", quick=400, ge=20, unit="images")


@dataset("tiny_imagenet")
class TinyImageNet:
    """100,000 + 10,000 color photographs of 200 classes (Le and Yang 2015), or a subset of them."""

    Config = TinyImageNetConfig
    card = Card(
        title="Tiny-ImageNet",
        references=(
            Reference(
                authors="Y. Le, X. Yang",
                title="Tiny ImageNet Visual Recognition Challenge",
                year=2015,
                detail="CS231n, Stanford",
            ),
        ),
        summary="ImageNet's photographs of 200 classes, shrunk to 64x64. The preset quick takes 20 of the classes with "
        "40 training images each and pools them to 16x16, so that a laptop finishes in a minute or two.",
        deviations=(
            "The official validation set serves as test set, as usual: the labels of the official test set are secret.",
        ),
    )
    class_count: ClassVar[int] = CLASSES
    image_counts: ClassVar[tuple[int, int]] = (100_000, 10_000)
    presets: ClassVar[dict[Preset, dict[str, Any]]] = {
        "quick": {
            "victim": "resnet8",
            "training": {
                "epochs": 60,
                "batch_size": 32,
                "lr": 0.1,
                "schedule": "one_cycle",
                "crop_padding": 1,
            },
            "head": {},
            "clean_images": 100,
        },
        "full": {
            "victim": "hyperlight",
            "training": AIRBENCH,
            "head": {},
            "clean_images": 5_000,
            "precision": "bfloat16",
        },
        "paper": {
            "victim": "resnet18",
            "training": {"epochs": 80, "lr": 0.1, "schedule": "cosine", "crop_padding": 8},
            "head": {},
            "clean_images": 5_000,
            "precision": "bfloat16",
        },
    }

    def __init__(self, config: TinyImageNetConfig) -> None:
        self.config = config

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Training and test images of the chosen classes, as many as there are, uint8 ``(n, 3, size, size)``."""
        root = data_folder()
        folder = root / "tiny-imagenet-200"
        source = None
        if folder.exists():
            tables = [folder / name for name in ("val/val_annotations.txt", "wnids.txt", "words.txt")]
            pictures = visible(folder, "train/*/images/*.JPEG") + visible(folder, "val/images/*.JPEG")
            source = state_of_files(folder, pictures + tables)
        tensors = FILE.load(root, _from_folders, source)

        names = bytes(tensors["names"].tolist()).decode().splitlines()
        return some_classes(tensors, names, self.config.classes, self.config.size)


def _from_folders(root: Path) -> Tensors:
    folder = root / "tiny-imagenet-200"
    if not folder.exists():
        raise DataError(f"Tiny-ImageNet is not in {folder}; {REMEDY}")
    # labels in WordNet's order, as folders sort
    synsets = sorted(line[0] for line in _rows(folder / "wnids.txt", columns=1))
    if len(set(synsets)) != CLASSES:
        raise DataError(
            f"{folder / 'wnids.txt'} names {len(set(synsets))} classes, expected {CLASSES}; {REMEDY}"
        )
    words = dict(line[:2] for line in _rows(folder / "words.txt", columns=2))
    names = "\n".join(words.get(synset, synset).split(",")[0] for synset in synsets)

    found = [pictures_in(folder / "train" / synset / "images", "*.JPEG", REMEDY) for synset in synsets]
    label_of = {synset: label for label, synset in enumerate(synsets)}
    table = folder / "val" / "val_annotations.txt"
    test = [(folder / "val" / "images" / line[0], label_of.get(line[1])) for line in _rows(table, columns=2)]
    strange = [path.name for path, label in test if label is None]
    if strange:
        raise DataError(f"{table} gives {strange[0]} a class that is not in wnids.txt; {REMEDY}")
    return {
        "train_x": read_pictures([path for own in found for path in own], SIDE, REMEDY),
        "train_y": torch.tensor([label for label, own in enumerate(found) for _ in own], dtype=torch.uint8),
        "test_x": read_pictures([path for path, _ in test], SIDE, REMEDY),
        "test_y": torch.tensor([label for _, label in test], dtype=torch.uint8),
        "names": torch.tensor(list(names.encode()), dtype=torch.uint8),
    }


def _rows(table: Path, columns: int) -> list[list[str]]:
    """The lines of a table, cut at tabs."""
    try:
        rows = [line.split("\t") for line in read_table(table).splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} cannot be read ({error}); {REMEDY}") from error
    if not rows or any(len(row) < columns for row in rows):
        raise DataError(
            f"{table} has {len(rows)} lines; expected some, with {columns} columns or more; {REMEDY}"
        )
    return rows
