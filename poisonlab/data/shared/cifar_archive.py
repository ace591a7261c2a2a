"""The archives of CIFAR-10 and CIFAR-100, downloaded and checked by torchvision."""

from pathlib import Path

import torch
from torchvision.datasets import CIFAR10

from poisonlab.data.base import DataError
from poisonlab.data.shared.tensor_file import Tensors


def tensors_of(
    archive: type[CIFAR10], title: str, root: Path, classes: tuple[str, ...] | None = None
) -> Tensors:
    """Pixels and labels of both parts, uint8, from the official folder under ``root`` or a download.

    Args:
        archive: torchvision's reader, which checks each file by its MD5 before it unpickles it.
        title: the dataset, for messages.
        classes: what the archive must name its classes, where that is known.

    Raises:
        DataError: the folder is incomplete and cannot be downloaded, or its classes have other names.
    """
    folder = archive.base_folder
    try:
        train, test = (archive(root, train=part, download=True) for part in (True, False))
    except Exception as error:  # torchvision raises whatever the network or the unpacking raised
        raise DataError(
            f"{title} is neither complete in {root / folder} nor can it be downloaded ({error}); "
            f"put the official {folder} folder there, or set POISONLAB_DATA to the folder that holds it"
        ) from error
    if classes is not None and tuple(train.classes) != classes:
        raise DataError(f"{root / folder} names other classes than {title}; put the official folder there")
    return {
        "train_x": torch.from_numpy(train.data).permute(0, 3, 1, 2).contiguous(),
        "train_y": torch.tensor(train.targets, dtype=torch.uint8),
        "test_x": torch.from_numpy(test.data).permute(0, 3, 1, 2).contiguous(),
        "test_y": torch.tensor(test.targets, dtype=torch.uint8),
    }
