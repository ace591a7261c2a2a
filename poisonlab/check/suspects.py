"""The pictures under suspicion and, where somebody has them, trusted ones; rows keep the names of their files."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from poisonlab import registry
from poisonlab.data.base import DataError, divide
from poisonlab.data.folder import decoded
from poisonlab.data.own import PREFIX
from poisonlab.data.shared.own_folder import FEWEST, Found, look
from poisonlab.data.shared.pixels import Fit
from poisonlab.spec.config import Preset, make_spec
from poisonlab.types import ImageSet, joined

MOST_NAMED = 5  # classes in a message


@dataclass(frozen=True)
class Suspects:
    """A training set that somebody brings.

    Attributes:
        data: the images as the networks see them, uint8 ``(n, c, h, w)``, and their labels.
        names: of each row: its file below the folder, or its position in a dataset that keeps no files' names.
        files: of each row, the file itself; empty of a dataset, which has none.
        by_table: the labels come from a table, not from folders.
    """

    data: ImageSet
    names: tuple[str, ...]
    files: tuple[Path, ...] = ()
    by_table: bool = False

    def __len__(self) -> int:
        return len(self.data)


def of_folder(folder: Path, side: int, *, table: str = "", fit: Fit = "crop", color: bool = True) -> Suspects:
    """All pictures of a folder, of its training and its test part alike.

    Args:
        side: pixels. table: the ``.csv`` to go by, as in :func:`~poisonlab.data.shared.own_folder.look`.

    Raises:
        DataError: the folder or a picture cannot be used.
    """
    found = look(folder.expanduser(), table)
    pictures = (*found.train, *found.test)
    if len(pictures) < FEWEST:
        raise DataError(f"{found.root} holds {len(pictures)} pictures; at least {FEWEST} are needed")
    files = tuple(path for path, _ in pictures)
    names = tuple(path.relative_to(found.root).as_posix() for path in files)
    by_table = found.layout.startswith("the table")
    return Suspects(_all_images(found, side, fit, color), names, files, by_table)


def of_dataset(name: str, preset: Preset) -> Suspects:
    """The training set of a registered dataset; of pictures of one's own, all that are for training.

    Raises:
        DataError: the dataset cannot be loaded. UnknownName: there is none of this name.
    """
    spec = make_spec(name, "none", "none", preset=preset)
    chosen = spec.dataset.build()
    data, test = chosen.load()
    files: tuple[str, ...] = ()
    if name.startswith(PREFIX):  # nobody vouches for the part that a run would trust
        files = chosen.picture_names()
    else:
        data = divide(data, test, spec.dataset.params, "from_scratch").train  # type: ignore[arg-type]
    return Suspects(data, files or tuple(f"{name}/{row}" for row in range(len(data))))


def trusted_folder(folder: Path, suspects: ImageSet, fit: Fit = "crop") -> ImageSet:
    """Pictures that somebody vouches for, in the form and with the labels of the suspects.

    Raises:
        DataError: the folder cannot be used, or its classes are not those of the suspects.
    """
    channels, side, _ = suspects.shape
    found = look(folder.expanduser())
    return relabeled(_all_images(found, side, fit, channels == 3), suspects)


def trusted_dataset(name: str, suspects: ImageSet) -> ImageSet:
    """The same of a dataset.

    Raises:
        DataError: it cannot be loaded, or its images or classes are not like those of the suspects.
    """
    method = registry.dataset[name]
    data = method(method.Config.for_preset("quick", name)).load()[0]
    if data.shape != suspects.shape:
        raise DataError(
            f"the trusted images are {_form(data)}, those under suspicion {_form(suspects)}: add both alike"
        )
    return relabeled(data, suspects)


def relabeled(trusted: ImageSet, suspects: ImageSet) -> ImageSet:
    """Trusted images with the labels that the suspects give to classes of the same names.

    Raises:
        DataError: the classes are not the same, or all pictures are.
    """
    foreign = sorted({*trusted.classes} ^ {*suspects.classes})
    if foreign:
        named = ", ".join(name[:40] for name in foreign[:MOST_NAMED])
        raise DataError(
            f"the trusted pictures have other classes than those under suspicion ({named}): give both the same folders"
        )
    _refuse_the_same(trusted, suspects)
    labels = torch.tensor([suspects.classes.index(name) for name in trusted.classes])
    return dataclasses.replace(trusted, y=labels[trusted.y], classes=suspects.classes, split="clean")


def _refuse_the_same(trusted: ImageSet, suspects: ImageSet) -> None:
    """Nobody can vouch for the suspects themselves: a set among its own pictures never stands out.

    Raises:
        DataError: every trusted picture is one under suspicion.
    """
    known = {hash(image.tobytes()) for image in suspects.x.cpu().numpy()}
    if all(hash(image.tobytes()) in known for image in trusted.x.cpu().numpy()):
        raise DataError(
            "every trusted picture is among those under suspicion: give pictures from elsewhere, or none"
        )


def _all_images(found: Found, side: int, fit: Fit, color: bool) -> ImageSet:
    tensors = decoded(found, side, fit, color)
    parts = [
        ImageSet(tensors[f"{part}_x"], tensors[f"{part}_y"].long(), found.classes)
        for part in ("train", "test")
    ]
    return joined(*parts)


def _form(data: ImageSet) -> str:
    channels, height, width = data.shape
    return f"{width}x{height} with {channels} channels"
