"""CINIC-10 in the official folders, kept beside them as one tensor file."""

from pathlib import Path
from typing import Any, ClassVar

import torch

from poisonlab.data.base import DataError, DivisionConfig, data_folder, pool_to
from poisonlab.data.cifar10 import CLASSES
from poisonlab.data.shared.image_folder import pictures_in, read_pictures, state_of_files, visible
from poisonlab.data.shared.recipes import AIRBENCH
from poisonlab.data.shared.tensor_file import TensorFile, Tensors
from poisonlab.registry import Card, dataset
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Preset, param
from poisonlab.types import ImageSet

SIDE = 32  # of the pictures
SPLITS = ("train", "valid", "test")
# 1 where a picture stems from ImageNet, 0 where from CIFAR-10
ORIGINS = ("train_imagenet", "valid_imagenet")
FILE = TensorFile("CINIC-10", "cinic10.safetensors", megabytes=900, more=("valid_x", "valid_y", *ORIGINS))
REMEDY = (
    "unpack the official CINIC-10.tar.gz (datashare.ed.ac.uk/handle/10283/3192) into that folder, so that it holds "
    "train, valid and test with a folder for each class, or set POISONLAB_DATA to what holds CINIC-10/"
)


class Cinic10Config(DivisionConfig):
    size: int = param(
        32, "Side of the images; below 32 they are average-pooled", quick=16, ge=8, le=32, unit="pixels"
    )
    train_images: int = param(
        90_000, "Attacked training set", quick=4_000, ge=20, unit="images", source="PureGen, section 4.1"
    )
    head_images: int = param(500, "Attacked fine-tuning set", ge=20, unit="images")
    pretrain_images: int = param(80_000, "Extractor's own images", quick=4_000, ge=20, unit="images")
    reserve_images: int = param(5_000, "Pool of trusted images", quick=500, ge=0, unit="images")
    public_images: int = param(50_000, "Images for generative models", quick=1_000, ge=0, unit="images")
    test_images: int = param(90_000, "Test images", quick=1_780, ge=20, le=90_000, unit="images")


@dataset("cinic10")
class Cinic10:
    """270,000 color photographs of CIFAR-10's classes, of CIFAR-10 and ImageNet (Darlow et al. 2018), or a subset."""

    Config = Cinic10Config
    card = Card(
        title="CINIC-10",
        references=(
            Reference(
                authors="L. Darlow, E. Crowley, A. Antoniou, A. Storkey",
                title="CINIC-10 is not ImageNet or CIFAR-10",
                year=2018,
                arxiv="1810.03505",
            ),
        ),
        summary="CIFAR-10 with ImageNet's photographs of the same ten classes, shrunk to 32x32: more images, noisier "
        "labels, harder. Its ImageNet part is what PureGen learns from to purify CIFAR-10. The preset quick pools to "
        "16x16 and asks for 5,000 training images.",
        deviations=(
            "The images for training are the official train and valid folders together, so that the defender's and "
            "the public images need not be taken from the 90,000 that are attacked.",
            "Two of nine images are CIFAR-10's, in every folder: a network trained on CIFAR-10 has seen some of them.",
        ),
    )
    class_count: ClassVar[int] = len(CLASSES)
    image_counts: ClassVar[tuple[int, int]] = (180_000, 90_000)
    class_names: ClassVar[tuple[str, ...]] = CLASSES
    presets: ClassVar[dict[Preset, dict[str, Any]]] = {
        "quick": {
            "victim": "resnet8",
            "training": {"epochs": 20, "lr": 0.2, "schedule": "one_cycle", "crop_padding": 1},
            "head": {},
            "clean_images": 250,
        },
        "full": {
            "victim": "hyperlight",
            "training": AIRBENCH,
            "head": {},
            "clean_images": 500,
            "precision": "bfloat16",
        },
        "paper": {
            "victim": "resnet18",
            "training": {"epochs": 80, "lr": 0.1, "schedule": "cosine", "crop_padding": 4},
            "head": {},
            "clean_images": 500,
            "precision": "bfloat16",
        },
    }

    def __init__(self, config: Cinic10Config) -> None:
        self.config = config

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Training images (train, then valid) and test images, as many as there are, uint8 ``(n, 3, size, size)``."""
        tensors = _tensors()
        size = self.config.size
        x, y = (torch.cat([tensors[f"{split}_{part}"] for split in SPLITS[:2]]) for part in "xy")
        train = ImageSet(pool_to(x, size), y.long(), CLASSES)
        test = ImageSet(pool_to(tensors["test_x"], size), tensors["test_y"].long(), CLASSES, "test")
        return train, test

    def as_source(self) -> ImageSet:
        """What generative models learn from: the images that are not CIFAR-10's."""
        return imagenet_part(self.config.size)


def imagenet_part(size: int = SIDE, valid: bool = False) -> ImageSet:
    """The images that do not stem from CIFAR-10: what PureGen trains on to purify CIFAR-10 (section 4.1).

    70,000 of the official train folder, recognized by their file names, which lack the prefix ``cifar10-``.

    Args:
        size: side that they are average-pooled to.
        valid: take those of the valid folder, too.

    Raises:
        DataError: CINIC-10 is absent or damaged; the message says what to do.
    """
    tensors = _tensors()
    splits = SPLITS[: 1 + valid]
    mine = torch.cat([tensors[f"{split}_imagenet"] for split in splits]).bool()
    x, y = (torch.cat([tensors[f"{split}_{part}"] for split in splits])[mine] for part in "xy")
    return ImageSet(pool_to(x, size), y.long(), CLASSES, "imagenet")


def _tensors() -> Tensors:
    root = data_folder()
    folder = root / "CINIC-10"
    source = state_of_files(folder, visible(folder, "*/*/*.png")) if folder.exists() else None
    return FILE.load(root, _from_folders, source)


def _from_folders(root: Path) -> Tensors:
    folder = root / "CINIC-10"
    if not folder.exists():
        raise DataError(f"CINIC-10 is not in {folder}; {REMEDY}")
    tensors = {}
    for split in SPLITS:
        found = [pictures_in(folder / split / name, "*.png", REMEDY) for name in CLASSES]
        paths = [path for own in found for path in own]
        tensors[f"{split}_x"] = read_pictures(paths, SIDE, REMEDY)
        counts = torch.tensor([len(own) for own in found])
        tensors[f"{split}_y"] = torch.arange(len(CLASSES), dtype=torch.uint8).repeat_interleave(counts)
        origins = [not path.name.startswith("cifar10-") for path in paths]
        tensors[f"{split}_imagenet"] = torch.tensor(origins, dtype=torch.uint8)
    del tensors["test_imagenet"]
    return tensors
