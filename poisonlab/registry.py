"""Name -> class, filled by decorators when a method's file is imported.

A new attack, defense, dataset or victim is one new file in its folder: the folder's modules are
found with ``pkgutil``, so there is no list to keep.
"""

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from poisonlab.spec.citation import Reference

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Card:
    """What a page tells about a method.

    It explains a method and reports nothing: figures that were measured stand in ``poisonlab/published/measured``.

    Attributes:
        title: full name.
        summary: one or two sentences for a student.
        references: the papers it follows, its own first.
        paper: its source in words, where there is no reference.
        threat_model: who knows and controls what.
        deviations: each known difference from the paper.
    """

    title: str
    summary: str
    references: tuple[Reference, ...] = ()
    paper: str = ""
    threat_model: str = ""
    deviations: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """What it follows, for people: authors, title, year and identifier of each reference."""
        return "; ".join(reference.text for reference in self.references) or self.paper

    @property
    def url(self) -> str:
        """Where the first of its papers can be read; empty where no identifier is known."""
        return next((reference.url for reference in self.references if reference.url), "")

    @property
    def bibtex(self) -> str:
        """Entries for a ``.bib`` file, one for each reference."""
        return "\n\n".join(reference.bibtex for reference in self.references)


class UnknownName(KeyError):
    """Asked for a name that nobody registered; the message lists what there is."""

    def __str__(self) -> str:  # KeyError would print the repr, quotes and all
        return str(self.args[0])


class Registry(Generic[T]):
    """Name -> class of one kind; imports every module of ``package`` at the first look-up."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._items: dict[str, T] = {}
        self._loaded = False
        self._lock = threading.RLock()

    def __call__(self, name: str) -> Callable[[T], T]:
        """Class decorator: register under ``name`` and remember the name on the class."""

        def add(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            item.name = name
            self._items[name] = item
            return item

        return add

    def _load(self) -> None:
        with self._lock:
            if self._loaded:
                return
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._loaded = True

    def __getitem__(self, name: str) -> T:
        self._load()
        try:
            return self._items[name]
        except (KeyError, TypeError):
            raise UnknownName(f"unknown {self.kind} {name!r}; choose one of: {', '.join(self)}") from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._items))


attack: Registry[Any] = Registry("attack", "poisonlab.attacks")
defense: Registry[Any] = Registry("defense", "poisonlab.defenses")
dataset: Registry[Any] = Registry("dataset", "poisonlab.data")
victim: Registry[Any] = Registry("victim", "poisonlab.models")

KINDS: dict[str, Registry[Any]] = {r.kind: r for r in (attack, defense, dataset, victim)}
