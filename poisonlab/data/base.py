"""What datasets share: where files lie, how a set is divided, errors that say what to do."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab import machine
from poisonlab.context import derive
from poisonlab.spec.config import Config, Protocol, param
from poisonlab.types import ImageSet, Splits

GATHERED = 4096  # images that are handled together


class DataError(RuntimeError):
    """A dataset that cannot be read: which file, what was expected, what to do."""


def data_folder() -> Path:
    """Where datasets lie: ``POISONLAB_DATA``, or ``~/.cache/poisonlab``."""
    return Path(os.environ.get("POISONLAB_DATA") or Path.home() / ".cache" / "poisonlab").expanduser()


def data_fingerprint(pool: ImageSet, test: ImageSet) -> str:
    """Hash of a dataset as it was loaded: images, labels and class names of both sets, 24 hexadecimal digits.

    Two folders of different pictures have different ones, whatever the dataset is called.
    """
    hasher = hashlib.sha256()
    for data in (pool, test):
        hasher.update(repr((tuple(data.x.shape), data.classes)).encode())
        for tensor in (data.x, data.y):
            hasher.update(tensor.cpu().contiguous().numpy().data)
    return hasher.hexdigest()[:24]


class DivisionConfig(Config):
    """How many images each party gets. The division itself never depends on the run's seed."""

    train_images: int = param(45_000, "Attacked training set, trained from scratch", ge=20, unit="images")
    head_images: int = param(500, "Attacked fine-tuning set of transfer learning", ge=20, unit="images")
    pretrain_images: int = param(44_500, "Extractor's own images in transfer learning", ge=20, unit="images")
    reserve_images: int = param(5_000, "Pool of the defender's trusted images", ge=0, unit="images")
    public_images: int = param(
        5_000, "Clean images for generative models, none of them in the attacked set", ge=0, unit="images"
    )
    test_images: int = param(10_000, "Test images", ge=20, unit="images")

    def attacked(self, protocol: Protocol) -> int:
        """How many images the attacker may touch: those that the victim is trained or fine-tuned on."""
        return self.train_images if protocol == "from_scratch" else self.head_images

    def extractors(self, protocol: Protocol) -> int:
        """How many images a feature extractor is trained on beforehand; 0 where there is none."""
        return 0 if protocol == "from_scratch" else self.pretrain_images

    def check_images(self, pool: int, test: int, protocol: Protocol) -> None:
        """Compare the images that the parts ask for with those that there are.

        Args:
            pool: images for training. test: test images.

        Raises:
            ValueError: there are too few; names what to lower.
        """
        beyond = max(self.reserve_images + self.extractors(protocol), self.public_images)
        requested = self.attacked(protocol) + beyond
        if requested > pool or self.test_images > test:
            raise ValueError(
                f"the parts ask for {requested} training and {self.test_images} test images, but the dataset "
                f"has {pool} and {test}; lower train_images, head_images, pretrain_images, reserve_images, "
                "public_images or test_images"
            )


def balanced_order(y: Tensor, generator: torch.Generator) -> Tensor:
    """A permutation of ``range(n)`` of which every prefix is balanced over the classes as far as they last."""
    shuffled, rank = _ranked(y, generator)
    return shuffled[torch.argsort(rank, stable=True)]


def proportional_order(y: Tensor, generator: torch.Generator) -> Tensor:
    """A permutation of ``range(n)`` of which every stretch has the classes in the shares of the whole.

    Equal to :func:`balanced_order` where all classes have the same number of images.
    """
    shuffled, rank = _ranked(y, generator)
    place = (rank + 0.5) / torch.bincount(y)[y[shuffled]].double()
    return shuffled[torch.argsort(place, stable=True)]


def _ranked(y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random order, and the position of each of its images among those of the same class."""
    shuffled = torch.randperm(len(y), generator=generator)
    labels = y[shuffled]
    rank = torch.empty_like(labels)
    for label in labels.unique():
        mine = labels == label
        rank[mine] = torch.arange(int(mine.sum()))
    return shuffled, rank


def divide(pool: ImageSet, test: ImageSet, config: DivisionConfig, protocol: Protocol) -> Splits:
    """Cut a dataset into the parts of an experiment, the same for every seed; each has all classes.

    The attacked set comes first, then the reserve; the extractor's images follow. Public images are
    taken from the far end, so they may be among the extractor's and the trusted, but never among the
    attacked ones.

    Raises:
        DataError: the parts ask for more images than there are.
    """
    try:
        config.check_images(len(pool), len(test), protocol)
    except ValueError as error:
        raise DataError(str(error)) from None
    attacked = config.attacked(protocol)
    pretrain = config.extractors(protocol)
    order = proportional_order(pool.y, derive(0, "division", "train"))
    chosen = balanced_order(test.y, derive(0, "division", "test"))[: config.test_images]
    start = attacked + config.reserve_images
    return Splits(
        train=taken(pool, order[:attacked], "train"),
        test=taken(test, chosen, "test"),
        reserve=taken(pool, order[attacked:start], "reserve"),
        public=taken(pool, order[len(order) - config.public_images :], "public"),
        pretrain=taken(pool, order[start : start + pretrain], "pretrain"),
    )


def taken(data: ImageSet, rows: Tensor, split: str) -> ImageSet:
    """Some images of a set as a set of its own; many are gathered in a file and mapped.

    Raises:
        DataError: there is no room for the file.
    """
    shape = (len(rows), *data.shape)
    if not machine.is_large(math.prod(shape)):
        return data[rows].named(split)
    x = room_for(shape)
    for part, some in zip(x.split(GATHERED), rows.split(GATHERED), strict=True):
        torch.index_select(data.x, 0, some, out=part)
    return ImageSet(machine.filled(x), data.y[rows], data.classes, split)


def room_for(shape: Sequence[int]) -> Tensor:
    """A uint8 tensor of images to be filled; a large one lies in a file of the data folder.

    Raises:
        DataError: there is no room for it.
    """
    try:
        return machine.new_bytes(shape, data_folder())
    except OSError as error:
        raise DataError(
            f"the pictures take {math.prod(shape) / 2**30:.1f} GiB, for which {data_folder()} has no room "
            f"({error.strerror or error}): free some there, set POISONLAB_DATA to another folder, or choose a smaller "
            "dataset.size"
        ) from error


def clean_subset(reserve: ImageSet, count: int, generator: torch.Generator) -> ImageSet:
    """The defender's ``count`` trusted images, balanced over the classes, drawn from the reserve."""
    if count > len(reserve):
        raise DataError(
            f"clean_images={count} asks for more than the {len(reserve)} images in reserve; "
            "lower clean_images or raise dataset.reserve_images"
        )
    cpu = torch.Generator().manual_seed(generator.initial_seed())
    return reserve[balanced_order(reserve.y.cpu(), cpu)[:count].to(reserve.x.device)].named("clean")


def both_sets(
    tensors: Mapping[str, Tensor], classes: tuple[str, ...], size: int
) -> tuple[ImageSet, ImageSet]:
    """Training and test set of a tensor file, images pooled to ``size``."""
    train = ImageSet(pool_to(tensors["train_x"], size), tensors["train_y"].long(), classes)
    test = ImageSet(pool_to(tensors["test_x"], size), tensors["test_y"].long(), classes, "test")
    return train, test


def some_classes(
    tensors: Mapping[str, Tensor], names: Sequence[str], count: int, size: int
) -> tuple[ImageSet, ImageSet]:
    """The same of ``count`` of all classes, at even steps through their order and labeled anew from 0."""
    chosen = torch.arange(count) * len(names) // count
    classes = tuple(names[label] for label in chosen)
    label_of = torch.full((len(names),), -1).index_put((chosen,), torch.arange(count))

    def images(part: str) -> ImageSet:
        y = label_of[tensors[f"{part}_y"].long()]
        mine = y >= 0
        return ImageSet(pool_to(tensors[f"{part}_x"][mine], size), y[mine], classes, part)

    return images("train"), images("test")


def pool_to(x: Tensor, size: int) -> Tensor:
    """Average-pool uint8 images ``(n, c, h, h)`` to ``(n, c, size, size)`` and round to 8 bits."""
    side = x.shape[-1]
    if size == side:
        return x
    if side % size:
        raise DataError(f"images of side {side} cannot be pooled to {size}; choose a divisor of {side}")
    pooled = room_for((*x.shape[:2], size, size))
    for small, part in zip(pooled.split(GATHERED), x.split(GATHERED), strict=True):
        small.copy_(F.avg_pool2d(part.float(), side // size).round())
    return machine.filled(pooled)
