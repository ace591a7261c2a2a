"""Who is compared with whom: in measured runs and in published tables."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from poisonlab.published.tables import PublishedTable

OPPOSITE = {"attack": "defense", "defense": "attack"}


@dataclass(frozen=True)
class InTable:
    """A published table that names a method.

    Attributes:
        opponents: registered names of what it stands against there; of an attack the defenses.
        rivals: registered names of the other methods of its own kind there.
    """

    id: str
    title: str
    opponents: tuple[str, ...]
    rivals: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What a method was measured with.

    Attributes:
        runs: how many finished runs have it.
        measured: kind -> name -> number of those runs, most frequent first; its own kind is not among them.
        tables: published tables that name it.
    """

    runs: int = 0
    measured: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tables: tuple[InTable, ...] = ()


def compared(
    kind: str, name: str, rows: Iterable[Mapping[str, object]], tables: Iterable[PublishedTable]
) -> Comparison:
    """What a method was measured with.

    Args:
        kind: attack, defense, dataset or victim.
        rows: of the leaderboard: names of attack, defense, dataset and victim, and ``n``, the runs of each.
    """
    own = [row for row in rows if row[kind] == name]
    measured: dict[str, Mapping[str, int]] = {}
    for other in ("attack", "defense", "dataset", "victim"):
        if other != kind:
            measured[other] = _counted(own, other)
    runs = sum(int(str(row["n"])) for row in own)
    return Comparison(runs, measured, tuple(_in_tables(kind, name, tables)))


def _counted(rows: list[Mapping[str, object]], kind: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts[str(row[kind])] += int(str(row["n"]))
    return dict(counts.most_common())


def _in_tables(kind: str, name: str, tables: Iterable[PublishedTable]) -> Iterable[InTable]:
    if kind not in OPPOSITE:
        return
    for table in tables:
        pairs = {
            (table.attacks[attack].name, table.defenses[defense].name)
            for attack, defense, _ in table.numbers()
        }
        if kind == "defense":
            pairs = {(defense, attack) for attack, defense in pairs}
        opponents = {other for own, other in pairs if own == name}
        if not opponents:
            continue
        rivals = {own for own, other in pairs if own != name and other in opponents}
        yield InTable(table.id, table.title, _names(opponents), _names(rivals))


def _names(found: set[str | None]) -> tuple[str, ...]:
    """Registered names in order; ``none`` is the baseline of every table and no rival."""
    return tuple(sorted(name for name in found if name not in (None, "none")))
