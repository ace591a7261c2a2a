"""CIFAR-10 through torchvision's checksummed download, kept beside it as one tensor file."""

from typing import Any, ClassVar

from torchvision.datasets import CIFAR10

from poisonlab.data.base import DivisionConfig, both_sets, data_folder
from poisonlab.data.shared.cifar_archive import tensors_of
from poisonlab.data.shared.recipes import AIRBENCH
from poisonlab.data.shared.tensor_file import TensorFile
from poisonlab.registry import Card, dataset
from poisonlab.spec.config import Preset, param
from poisonlab.spec.papers import CIFAR
from poisonlab.types import ImageSet

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# The tensors' bytes in the order of the official archive, which torchvision checks by MD5.
FILE = TensorFile(
    "CIFAR-10",
    "cifar10.safetensors",
    megabytes=400,
    sha256="32e5966899bde482c0ef7d076bf69809b4b1488c806f657a814cfca4646ec493",
)
# Published victims are trained for tens of thousands of steps, in which weight decay drives a backdoor into a few
# channels; repairs that look for such channels presuppose it. The recipe "backdoor" gets there in 2,300 steps.
_QUICK = {"lr": 0.2, "schedule": "one_cycle", "crop_padding": 1}


class Cifar10Config(DivisionConfig):
    size: int = param(
        32, "Side of the images; below 32 they are average-pooled", quick=16, ge=8, le=32, unit="pixels"
    )
    train_images: int = param(45_000, "Attacked training set", quick=12_000, ge=20, le=50_000, unit="images")
    head_images: int = param(500, "Attacked fine-tuning set", ge=20, le=50_000, unit="images")
    pretrain_images: int = param(
        44_500, "Extractor's own images", quick=15_000, ge=20, le=50_000, unit="images"
    )
    reserve_images: int = param(5_000, "Pool of trusted images", quick=1_250, ge=0, le=50_000, unit="images")
    public_images: int = param(
        5_000, "Images for generative models", quick=20_000, ge=0, le=50_000, unit="images"
    )
    test_images: int = param(10_000, "Test images", quick=4_000, ge=20, le=10_000, unit="images")


@dataset("cifar10")
class Cifar10:
    """50,000 + 10,000 color photographs of ten classes (Krizhevsky 2009)."""

    Config = Cifar10Config
    card = Card(
        title="CIFAR-10",
        references=(CIFAR,),
        summary="60,000 color photographs of ten classes at 32x32. The preset quick pools them to 16x16 and takes "
        "a subset, so that a laptop finishes in minutes. There, a victim that is to hold a backdoor learns three times "
        "as long as others, until the backdoor lies in a few channels, as it does in published networks.",
    )
    class_count: ClassVar[int] = len(CLASSES)
    image_counts: ClassVar[tuple[int, int]] = (50_000, 10_000)
    class_names: ClassVar[tuple[str, ...]] = CLASSES
    presets: ClassVar[dict[Preset, dict[str, Any]]] = {
        "quick": {
            "victim": "resnet8",
            "training": _QUICK | {"epochs": 8},
            "backdoor": _QUICK | {"epochs": 24, "weight_decay": 2e-3},
            "head": {},
            "clean_images": 500,
        },
        "full": {
            "victim": "hyperlight",
            # published: ten, which end at .921 in place of .927 where a tenth of the images is poisoned (seed 10)
            "training": AIRBENCH | {"epochs": 12},
            "head": {},
            "clean_images": 500,
            "precision": "bfloat16",
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
        tensors = FILE.load(data_folder(), lambda root: tensors_of(CIFAR10, FILE.title, root))
        return both_sets(tensors, CLASSES, self.config.size)
