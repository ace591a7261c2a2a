"""CIFAR-100 through torchvision's checksummed download, kept beside it as one tensor file."""

from typing import Any, ClassVar

from torchvision.datasets import CIFAR100

from poisonlab.data.base import DivisionConfig, data_folder, some_classes
from poisonlab.data.shared.cifar_archive import tensors_of
from poisonlab.data.shared.recipes import AIRBENCH
from poisonlab.data.shared.tensor_file import TensorFile
from poisonlab.registry import Card, dataset
from poisonlab.spec.config import Preset, param
from poisonlab.spec.papers import CIFAR
from poisonlab.types import ImageSet

_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
    otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
    """
CLASSES = tuple(_NAMES.split())
FILE = TensorFile("CIFAR-100", "cifar100.safetensors", megabytes=400)


class Cifar100Config(DivisionConfig):
    size: int = param(
        32, "Side of the images; below 32 they are average-pooled", quick=16, ge=8, le=32, unit="pixels"
    )
    classes: int = param(
        100,
        "How many of the 100 classes, at even steps through the alphabet",
        quick=20,
        ge=2,
        le=len(CLASSES),
    )
    train_images: int = param(45_000, "Attacked training set", quick=6_000, ge=20, le=50_000, unit="images")
    head_images: int = param(500, "Attacked fine-tuning set", ge=20, le=50_000, unit="images")
    pretrain_images: int = param(
        44_500, "Extractor's own images", quick=2_000, ge=20, le=50_000, unit="images"
    )
    reserve_images: int = param(5_000, "Pool of trusted images", quick=1_000, ge=0, le=50_000, unit="images")
    public_images: int = param(
        5_000, "Images for generative models", quick=1_000, ge=0, le=50_000, unit="images"
    )
    test_images: int = param(10_000, "Test images", quick=2_000, ge=20, le=10_000, unit="images")


@dataset("cifar100")
class Cifar100:
    """50,000 + 10,000 color photographs of a hundred classes (Krizhevsky 2009), or a subset of them."""

    Config = Cifar100Config
    card = Card(
        title="CIFAR-100",
        references=(CIFAR,),
        summary="60,000 color photographs of a hundred classes at 32x32, 500 training images each. The preset quick "
        "takes 20 of the classes and pools them to 16x16.",
        deviations=(
            "The recipes of the presets quick and full are those of CIFAR-10: no value was chosen on these images, and "
            "no run on them ships.",
            "A class holds one percent of the training set, so that an attack which alters images of one class alone "
            "(SIG, CLB) cannot alter more than that.",
        ),
    )
    class_count: ClassVar[int] = len(CLASSES)
    image_counts: ClassVar[tuple[int, int]] = (50_000, 10_000)
    presets: ClassVar[dict[Preset, dict[str, Any]]] = {
        "quick": {
            "victim": "resnet8",
            "training": {"epochs": 24, "lr": 0.2, "schedule": "one_cycle", "crop_padding": 1},
            "head": {},
            "clean_images": 500,
        },
        "full": {
            "victim": "hyperlight",
            "training": AIRBENCH | {"epochs": 12},
            "head": {},
            "clean_images": 2_500,
            "precision": "bfloat16",
        },
        "paper": {
            "victim": "preact_resnet18",
            # BackdoorBench, config/attack: a hundred epochs, cosine from .01, crops, and no mirroring on this set
            "training": {"epochs": 100, "lr": 0.01, "schedule": "cosine", "crop_padding": 4, "flip": False},
            "head": {},
            "clean_images": 2_500,
            "precision": "bfloat16",
        },
    }

    def __init__(self, config: Cifar100Config) -> None:
        self.config = config

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Training and test images of the chosen classes, uint8 ``(n, 3, size, size)``, labeled from 0 in their order.

        Raises:
            DataError: the archive is neither there nor can it be downloaded.
        """
        tensors = FILE.load(data_folder(), lambda root: tensors_of(CIFAR100, FILE.title, root, CLASSES))
        return some_classes(tensors, CLASSES, self.config.classes, self.config.size)
