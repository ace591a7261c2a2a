"""Name -> class, filled by decorators when a method's file is imported.

A new attack, defense, dataset or victim is one new file in its folder: the folder's modules are
found with ``pkgutil``, so there is no list to keep. Another distribution brings methods by an entry point of the group
``poisonlab.methods`` that names a module: importing it registers them, after all of this package's own.
"""

import importlib
import logging
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from poisonlab.spec.citation import Reference

GROUP = "poisonlab.methods"
T = TypeVar("T", bound=type[Any])
log = logging.getLogger(__name__)
_lock = threading.RLock()  # one for all kinds: a plugin's module may register several


@dataclass(frozen=True)
class Card:
    """What a page tells about a method.

    It explains a method and reports nothing: figures that were measured stand in ``poisonlab/published/measured``.

    Attributes:
        title: full name.
        paper: its source in words, where there is no reference.
        summary: one or two sentences for a student.
        threat_model: who knows and controls what.
        deviations: each known difference from the paper.
        references: the papers it follows, its own first.
    """

    title: str
    paper: str = ""
    summary: str = ""
    threat_model: str = ""
    deviations: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()

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
    """Name -> class of one kind; imports every module of ``package``, and the plugins, at the first look-up."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._items: dict[str, T] = {}
        self._coming_and_going: Callable[[], Mapping[str, T]] = dict
        self._loaded = False

    def also(self, find: Callable[[], Mapping[str, T]]) -> None:
        """Take what ``find`` gives at each look-up, too: things that come and go while the program runs."""
        self._coming_and_going = find

    def __call__(self, name: str) -> Callable[[T], T]:
        """Class decorator: register under ``name`` and remember the name on the class."""

        def add(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            item.name = name
            self._items[name] = item
            return item

        return add

    def load_own(self) -> None:
        """Import what this package itself brings of the kind."""
        with _lock:
            if self._loaded:
                return
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._loaded = True

    def items(self) -> dict[str, T]:
        """A copy of what is registered so far, without loading anything."""
        return dict(self._items)

    def restore(self, items: dict[str, T]) -> None:
        """Forget what was registered since :meth:`items` gave ``items``."""
        self._items = dict(items)

    def _load(self) -> None:
        self.load_own()
        plugins()

    def __getitem__(self, name: str) -> T:
        self._load()
        try:
            return self._items[name] if name in self._items else self._coming_and_going()[name]
        except (KeyError, TypeError):
            raise UnknownName(f"unknown {self.kind} {name!r}; choose one of: {', '.join(self)}") from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._items or name in self._coming_and_going()

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted({*self._items, *self._coming_and_going()}))


attack: Registry[Any] = Registry("attack", "poisonlab.attacks")
defense: Registry[Any] = Registry("defense", "poisonlab.defenses")
dataset: Registry[Any] = Registry("dataset", "poisonlab.data")
victim: Registry[Any] = Registry("victim", "poisonlab.models")

KINDS: dict[str, Registry[Any]] = {r.kind: r for r in (attack, defense, dataset, victim)}


# -- methods of other distributions -----------------------------------------------------------------


@dataclass(frozen=True)
class Plugin:
    """Another distribution's entry point, and what came of it.

    Attributes:
        name: of the entry point.
        distribution: its name and version.
        methods: what it registered, such as ``"attack one_pixel"``.
        problem: one line that says why it was left out; empty where it was not.
    """

    name: str
    distribution: str
    methods: tuple[str, ...] = ()
    problem: str = ""


_plugins: list[Plugin] | None = None


def plugins() -> tuple[Plugin, ...]:
    """Every entry point of the group, loaded at the first call; a broken one is named and left out."""
    global _plugins
    with _lock:
        if _plugins is None:
            _plugins = []  # a plugin that looks methods up while it is imported finds those loaded before it
            points = entry_points(group=GROUP)
            if points:
                for registry in KINDS.values():
                    registry.load_own()
            for point in sorted(points, key=lambda point: point.name):
                plugin = _load_plugin(point)
                if plugin.problem:
                    log.warning(plugin.problem)
                _plugins.append(plugin)
        return tuple(_plugins)


def _load_plugin(point: EntryPoint) -> Plugin:
    """Import what an entry point names; all or nothing of what it registers is kept."""
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
    before = {kind: registry.items() for kind, registry in KINDS.items()}
    try:
        point.load()
        new = [
            (kind, name, method)
            for kind, registry in KINDS.items()
            for name, method in registry.items().items()
            if name not in before[kind]
        ]
        for kind, name, method in new:
            _check(kind, name, method)
    except (Exception, SystemExit) as error:  # whatever another's module does at its import
        for kind, items in before.items():
            KINDS[kind].restore(items)
        said = " ".join(str(error).split()) or "no message"
        problem = f"plugin {point.name} of {distribution} is left out: {type(error).__name__}: {said}"
        return Plugin(point.name, distribution, problem=problem)
    return Plugin(point.name, distribution, tuple(f"{kind} {name}" for kind, name, _ in new))


def _check(kind: str, name: str, method: Any) -> None:
    """Raises:
    TypeError: a method that pages, the command line or the record of a run could not describe.
    """
    if not isinstance(getattr(method, "card", None), Card):
        raise TypeError(f"{kind} {name!r} has no card")
    if not isinstance(getattr(method, "Config", None), type):
        raise TypeError(f"{kind} {name!r} has no class Config of its parameters")
    if kind == "attack":
        method.threat_kind()
