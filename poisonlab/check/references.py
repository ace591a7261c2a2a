"""Clean sets to compare with: drawn from trusted images, or measured beforehand and shipped as a small table."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from poisonlab.check.calibration import Statistics
from poisonlab.check.recipe import Recipe
from poisonlab.context import derive
from poisonlab.data.base import proportional_order
from poisonlab.types import ImageSet

SHIPPED = Path(__file__).parent / "controls"
GRANTED = 0.2  # of the trusted images: what the detectors are given; clean sets are drawn from the others
MOST_GRANTED = 500
DRAWN = 0.8  # of those others, a clean set takes so many at most: no two are the same
FIRST_SEED = 1000  # of the clean sets; far from those that people choose


@dataclass(frozen=True)
class Trusted:
    """Trusted images in two parts that share none.

    Attributes:
        granted: what detectors are given. pool: what clean sets are drawn from.
    """

    granted: ImageSet
    pool: ImageSet

    @classmethod
    def of(cls, images: ImageSet) -> "Trusted":
        order = proportional_order(images.y.cpu(), derive(0, "check", "trusted"))
        count = min(MOST_GRANTED, max(1, int(GRANTED * len(images))))
        return cls(images[order[:count]].named("clean"), images[order[count:]].named("train"))

    @property
    def set_size(self) -> int:
        """Images of a clean set at most."""
        return int(DRAWN * len(self.pool))


def drawn(data: ImageSet, count: int, *names: str) -> ImageSet:
    """``count`` images, the classes in their shares, by a draw of its own name; all where there are no more."""
    if count >= len(data):
        return data
    rows: Tensor = proportional_order(data.y.cpu(), derive(0, "check", *names))[:count]
    return data[rows.sort().values]


def clean_sets(pool: ImageSet, images: int, count: int) -> Iterator[tuple[int, ImageSet]]:
    """Seeds and sets of ``images`` each, drawn anew from the pool."""
    for number in range(count):
        yield FIRST_SEED + number, drawn(pool, images, "clean set", str(number))


# -- shipped --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Controls:
    """Clean sets that were measured beforehand.

    Attributes:
        images: of each set. pool: images that they were drawn from. sets: the numbers of each.
        recipe: what their networks were trained by, as :func:`described`.
        made: how, in a sentence.
    """

    images: int
    pool: int
    sets: tuple[Statistics, ...]
    recipe: dict[str, object]
    made: str


def described(recipe: Recipe) -> dict[str, object]:
    """A recipe as JSON-able values, to compare with."""
    return {
        "preset": recipe.preset,
        "kind": recipe.kind,
        "victim": recipe.victim,
        "training": dict(recipe.training),
    }


def shipped(kind: str, folder: Path = SHIPPED) -> Controls | None:
    """The table of a kind of images; ``None`` where there is none."""
    path = folder / f"{kind}.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return Controls(found["images"], found["pool"], tuple(found["sets"]), found["recipe"], found["made"])
