"""What the program knows of a metric, whatever it measures; the metrics themselves are in ``catalogue.py``."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from poisonlab.spec.threats import THREATS, ThreatKind

Better = Literal["higher", "lower", "none"]


class Unit(StrEnum):
    """What a value is counted in; only rates are shown in percent."""

    RATE = "rate"
    COUNT = "count"
    NUMBER = "number"


@dataclass(frozen=True)
class Family:
    """Another model that a metric is measured on, too; its name is the metric's with a suffix.

    Attributes:
        suffix: of the name, such as ``_control``.
        label, help: of the model, for people.
    """

    suffix: str
    label: str
    help: str


CONTROL = Family(
    "_control",
    "Control",
    "The same measure on a model trained without any poison: what chance alone gives. A defense cannot be expected to "
    "go below it.",
)
UNDEFENDED = Family(
    "_undefended",
    "Undefended",
    "The same measure on the model trained on the poison with no defense: what the attack can do.",
)
ORACLE = Family(
    "_oracle",
    "Oracle",
    "With the setting that the test set itself would choose: the lowest ASR that keeps nine tenths of the clean "
    "accuracy. No defender can know it; some published tables report it.",
)
FAMILIES = {family.suffix: family for family in (CONTROL, UNDEFENDED, ORACLE)}


@dataclass(frozen=True)
class Metric:
    """One measured quantity.

    Attributes:
        name: among the metrics of a record, and as a column of tables and exports.
        label: a heading.
        short: a shorter heading for the table of the leaderboard; by default ``label``.
        help: what it measures; which direction is better is added by :attr:`text`.
        unit: of its values.
        better: the direction in which a defense should move it.
        threats: the kinds of threat that it is measured under.
        families: on which other models it is measured as well; each adds a name with a suffix.
        lowest, highest: the range of its values, to which intervals are cut.
        headline: whether it tells how far an attack of its kinds of threat succeeded; one for each kind.
        control: the metric to compare a headline with, where that is not its own value on the control.
        stands_for: the suffix of the headline metric that this one stands for, so that attacks of all kinds share a
            column; ``None`` of a metric that is measured itself.
        summary: whether it is one of the numbers that sum up a run.
        column: whether the store keeps a column of it, and where that stands on the leaderboard: ``first`` in sight,
            ``more`` further right, ``hidden`` for other pages alone.
        interval: whether the leaderboard gives its 95 % interval over seeds.
        pooled_by: a metric that counts the units a rate is taken over; repeats are pooled by it where it is known.
        total: whether repeats over seeds are added up, not averaged.
    """

    name: str
    label: str
    help: str
    unit: Unit = Unit.RATE
    better: Better = "none"
    threats: frozenset[ThreatKind] = frozenset(THREATS)
    families: tuple[Family, ...] = ()
    short: str = ""
    lowest: float = 0.0
    highest: float = 1.0
    headline: bool = False
    control: str = ""
    stands_for: str | None = None
    summary: bool = False
    column: Literal["first", "more", "hidden"] | None = None
    interval: bool = False
    pooled_by: str = ""
    total: bool = False

    @property
    def text(self) -> str:
        """The explanation, ending with the direction that is better."""
        direction = "" if self.better == "none" else f" {self.better.capitalize()} is better"
        if direction and (self.headline or self.stands_for is not None):
            direction += " under a defense"
        return f"{self.help}{direction}." if direction else self.help

    @property
    def heading(self) -> str:
        """Of a column."""
        return self.short or self.label

    @property
    def on_board(self) -> bool:
        """Whether the leaderboard has a column of it."""
        return self.column in ("first", "more")

    @property
    def rate(self) -> bool:
        """Whether it is shown in percent."""
        return self.unit is Unit.RATE

    def on(self, family: Family) -> "Metric":
        """The same measure on another model, as a metric of its own."""
        return Metric(
            name=f"{self.name}{family.suffix}",
            label=f"{self.heading}, {family.label.lower()}",
            help=f"{self.text} Here: {family.help}",
            unit=self.unit,
            threats=self.threats,
            lowest=self.lowest,
            highest=self.highest,
        )
