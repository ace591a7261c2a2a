"""What somebody takes away from a check: a table of all files, the set without what was flagged, the set purified."""

import csv
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from poisonlab.check.data import DataCheck
from poisonlab.check.evidence import ENERGY, SHIPPED
from poisonlab.check.recipe import Recipe
from poisonlab.context import Context
from poisonlab.data.base import DataError
from poisonlab.pipeline.experiment import load
from poisonlab.pipeline.takeout import as_png
from poisonlab.spec.config import make_spec
from poisonlab.types import ImageSet

TABLE = "labels.csv"
UNSAFE = '/\\:*?"<>|'  # in names of files on some system


def rows(check: DataCheck) -> Iterator[dict[str, str]]:
    """A row for each image, the most suspicious first: rank, file, class, votes, flagged, each detector's score."""
    data = check.suspects.data
    labels = data.y.tolist()
    votes = check.ranking.votes.tolist()
    flagged = check.ranking.flagged.tolist()
    scores = {found.detector: found.scores.tolist() for found in check.evidence}
    for rank, row in enumerate(check.ranking.order.tolist(), 1):
        yield {
            "rank": str(rank),
            "file": check.suspects.names[row],
            "class": data.classes[labels[row]],
            "flagged_by": str(votes[row]),
            "flagged": "yes" if flagged[row] else "no",
            **{name: f"{values[row]:.6g}" for name, values in scores.items()},
        }


def write_csv(check: DataCheck, path: Path) -> None:
    """The table of all images as a file.

    Raises:
        OSError: it cannot be written.
    """
    found = list(rows(check))
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


def write_filtered(check: DataCheck, folder: Path) -> int:
    """The set without the flagged images: the files as they are, or the images of a dataset as PNG.

    Returns:
        How many images there are in it.

    Raises:
        DataError: the folder is there and not empty. OSError: it cannot be written.
    """
    kept = (~check.ranking.flagged).nonzero().squeeze(1).tolist()
    suspects = check.suspects
    with new_folder(folder) as target:
        if not suspects.files:
            _write_images(target, suspects.data.x, suspects.data, kept)
            return len(kept)
        for row in kept:
            path = target / suspects.names[row]
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(suspects.files[row], path)
        if suspects.by_table:
            _write_table(target, check, kept)
    return len(kept)


def write_purified(
    check: DataCheck, folder: Path, recipe: Recipe, trusted: ImageSet | None, ctx: Context
) -> None:
    """All images as PureGen-EBM leaves them, as PNG at the size of the check, in a folder for each class.

    The energy model is the shipped one of this kind of image; else it is trained on the trusted images.

    Raises:
        DataError: there is neither; or the folder is there and not empty. OSError: it cannot be written.
        Cancelled: ``ctx`` was asked to stop.
    """
    data = check.suspects.data.to(ctx.device)
    refuse_filled(folder)
    refuse_no_energy(recipe, trusted)
    known = recipe.kind in SHIPPED
    spec = make_spec(recipe.kind if known else "cifar10", "none", ENERGY, preset="quick")
    public = load(spec, ctx.device).public if known else trusted
    assert public is not None
    if public.shape != data.shape:
        raise DataError(f"images of {public.shape} cannot tell how images of {data.shape} should look")
    method = spec.defense.build()
    method.prepare(public, ctx)
    purified = method.purify(data, ctx)
    with new_folder(folder) as target:
        _write_images(target, purified.x, data, range(len(data)))


def refuse_no_energy(recipe: Recipe, trusted: ImageSet | None) -> None:
    """Raises:
    DataError: no energy model comes with the program for such images, and none can be trained.
    """
    if recipe.kind not in SHIPPED and trusted is None:
        raise DataError(
            "purifying needs an energy model: none comes with the program for this kind of image, so give trusted "
            "clean images that one can be trained on"
        )


# -- folders ------------------------------------------------------------------------------------------------


def refuse_filled(folder: Path) -> None:
    """Raises:
    DataError: the folder is there and not empty, or it is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already and not empty: name a new folder")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which stands under its name once it is whole.

    Raises:
        DataError: it is there already and not empty.
    """
    refuse_filled(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    made.chmod(0o755)  # a temporary folder is its owner's alone
    try:
        yield made
        if folder.exists():
            folder.rmdir()
        os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def safe(name: str, number: int) -> str:
    """A class's name as that of a folder; one that cannot be is replaced by its number."""
    kept = "".join("_" if c in UNSAFE or not c.isprintable() else c for c in name).strip(" .")[:100]
    return kept or f"class {number}"


def pictures(x: Tensor, data: ImageSet, chosen: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    """Images as PNG by their names below a folder for each class; a number keeps classes apart whose folders would be
    the same.

    Args:
        x: uint8 ``(n, c, h, w)``, in the place of the images of ``data``. chosen: rows.
    """
    folders = [safe(name, number) for number, name in enumerate(data.classes)]
    if len({folder.lower() for folder in folders}) < len(folders):
        folders = [f"{number} {folder}" for number, folder in enumerate(folders)]
    labels = data.y.tolist()
    for row in chosen:
        yield f"{folders[labels[row]]}/{row:06}.png", as_png(x[row].cpu().numpy())


def _write_images(target: Path, x: Tensor, data: ImageSet, chosen: Iterable[int]) -> None:
    for name, raw in pictures(x, data, chosen):
        path = target / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw)


def _write_table(target: Path, check: DataCheck, kept: Iterable[int]) -> None:
    data = check.suspects.data
    with (target / TABLE).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows([check.suspects.names[row], data.classes[int(data.y[row])]] for row in kept)
