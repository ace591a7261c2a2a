"""German traffic signs in the official folders, as torchvision lays them out, kept beside them as one tensor file."""

import csv
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.datasets import GTSRB as Archive

from poisonlab.data.base import DataError, DivisionConfig, both_sets, data_folder
from poisonlab.data.shared.image_folder import read_table, state_of_files, visible
from poisonlab.data.shared.recipes import AIRBENCH
from poisonlab.data.shared.tensor_file import TensorFile, Tensors
from poisonlab.registry import Card, dataset
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Preset, param
from poisonlab.types import ImageSet

CLASSES = (
    "limit 20",
    "limit 30",
    "limit 50",
    "limit 60",
    "limit 70",
    "limit 80",
    "end of limit 80",
    "limit 100",
    "limit 120",
    "no passing",
    "no passing for trucks",
    "right of way at crossing",
    "priority road",
    "yield",
    "stop",
    "no vehicles",
    "no trucks",
    "no entry",
    "danger",
    "bend to the left",
    "bend to the right",
    "double bend",
    "bumpy road",
    "slippery road",
    "road narrows on the right",
    "road works",
    "traffic signals",
    "pedestrians",
    "children",
    "bicycles",
    "ice or snow",
    "wild animals",
    "end of all limits",
    "turn right ahead",
    "turn left ahead",
    "ahead only",
    "ahead or right",
    "ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no passing",
    "end of no passing for trucks",
)
FILE = TensorFile("GTSRB", "gtsrb.safetensors", megabytes=150)
SIDE = 32  # of the stored images
TEST_TABLE = "GT-final_test.csv"
REMEDY = "put the official folders there as torchvision's GTSRB has them, or set POISONLAB_DATA to what holds gtsrb/"


class GtsrbConfig(DivisionConfig):
    size: int = param(
        32, "Side of the images; below 32 they are average-pooled", quick=16, ge=8, le=32, unit="pixels"
    )
    train_images: int = param(24_000, "Attacked training set", quick=2_064, ge=20, unit="images")
    head_images: int = param(430, "Attacked fine-tuning set", ge=20, unit="images")
    pretrain_images: int = param(24_000, "Extractor's own images", quick=1_806, ge=20, unit="images")
    reserve_images: int = param(1_320, "Pool of trusted images", quick=344, ge=0, unit="images")
    public_images: int = param(1_320, "Images for generative models", quick=172, ge=0, unit="images")
    test_images: int = param(12_630, "Test images", quick=2_150, ge=20, unit="images")


@dataset("gtsrb")
class Gtsrb:
    """26,640 + 12,630 photographs of 43 German traffic signs (Stallkamp et al. 2012), or a subset of them."""

    Config = GtsrbConfig
    card = Card(
        title="GTSRB traffic signs",
        references=(
            Reference(
                authors="J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel",
                title="Man vs. computer: Benchmarking machine learning algorithms for traffic sign recognition",
                year=2012,
                journal="Neural Networks",
                volume=32,
            ),
        ),
        summary="Photographs of 43 German traffic signs, the classic story of a sticker that turns a stop sign into a "
        "speed limit. The preset quick pools them to 16x16 and asks for 48 training images a class.",
        deviations=(
            "Every image is resized to 32x32 bilinearly without antialiasing, as the 32x32 copies in circulation are.",
            "Frames of one track show the same physical sign; the division keeps images apart, not tracks. The test "
            "set is the official one and shares no track with the others.",
        ),
    )
    class_count: ClassVar[int] = len(CLASSES)
    image_counts: ClassVar[tuple[int, int]] = (26_640, 12_630)
    class_names: ClassVar[tuple[str, ...]] = CLASSES
    presets: ClassVar[dict[Preset, dict[str, Any]]] = {
        "quick": {
            "victim": "resnet8",
            "training": {
                "epochs": 40,
                "batch_size": 64,
                "lr": 0.2,
                "schedule": "one_cycle",
                "crop_padding": 1,
                "flip": False,
            },
            "head": {},
            "clean_images": 344,
        },
        "full": {
            "victim": "hyperlight",
            "training": AIRBENCH | {"epochs": 20, "flip": False, "alternate_flip": False},
            "head": {},
            "clean_images": 1_320,
            "precision": "bfloat16",
        },
        "paper": {
            "victim": "resnet18",
            "training": {"epochs": 50, "lr": 0.1, "schedule": "cosine", "crop_padding": 4, "flip": False},
            "head": {},
            "clean_images": 1_320,
            "precision": "bfloat16",
        },
    }

    def __init__(self, config: GtsrbConfig) -> None:
        self.config = config

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Training and test images, as many as there are, uint8 ``(n, 3, size, size)``."""
        root = data_folder()
        folder = root / "gtsrb"
        source = None
        if folder.exists():
            source = state_of_files(folder, [*visible(folder, "GTSRB/*/*/*.ppm"), folder / TEST_TABLE])
        tensors = FILE.load(root, _from_archive, source)
        return both_sets(tensors, CLASSES, self.config.size)


def _from_archive(root: Path) -> Tensors:
    if not (root / "gtsrb").exists():
        try:
            for split in ("train", "test"):
                Archive(root, split=split, download=True)
        except Exception as error:  # torchvision raises whatever the network or the unpacking raised
            raise DataError(
                f"GTSRB is not in {root / 'gtsrb'} and cannot be downloaded ({error}); {REMEDY}"
            ) from error
    train = _training_files(root / "gtsrb")
    test = _test_files(root / "gtsrb")
    return {
        "train_x": torch.stack([_read(path) for path, _ in train]),
        "train_y": torch.tensor([label for _, label in train], dtype=torch.uint8),
        "test_x": torch.stack([_read(path) for path, _ in test]),
        "test_y": torch.tensor([label for _, label in test], dtype=torch.uint8),
    }


def _training_files(folder: Path) -> list[tuple[Path, int]]:
    """Files and labels: ``GTSRB/Training/00000`` to ``00042``, ordered by class, track and frame."""
    found = []
    for label in range(len(CLASSES)):
        own = folder / "GTSRB" / "Training" / f"{label:05d}"
        files = visible(own, "*.ppm")
        if not files:
            raise DataError(f"{own} has no .ppm images; expected a folder for each of 43 classes; {REMEDY}")
        found += [(file, label) for file in files]
    return found


def _test_files(folder: Path) -> list[tuple[Path, int]]:
    """Files and labels as ``GT-final_test.csv`` lists them."""
    table = folder / TEST_TABLE
    try:
        lines = csv.DictReader(read_table(table).splitlines(), delimiter=";")
        rows = [(row["Filename"], int(row["ClassId"])) for row in lines]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{table} cannot be read ({error!r}); expected columns Filename and ClassId between semicolons; {REMEDY}"
        ) from error
    if not rows or not all(0 <= label < len(CLASSES) for _, label in rows):
        raise DataError(f"{table} has {len(rows)} rows; expected some, with ClassId from 0 to 42; {REMEDY}")
    return [(folder / "GTSRB" / "Final_Test" / "Images" / name, label) for name, label in rows]


def _read(path: Path) -> torch.Tensor:
    """One image, uint8 ``(3, 32, 32)``."""
    try:
        with Image.open(path) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except (OSError, ValueError, SyntaxError) as error:  # absent, truncated, no image
        raise DataError(f"{path} cannot be read ({error}); expected a whole PPM image; {REMEDY}") from error
    if pixels.shape[1:] == (SIDE, SIDE):
        return pixels.contiguous()
    resized = F.interpolate(
        pixels[None].float(), (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=False
    )
    return resized[0].round().to(torch.uint8)
