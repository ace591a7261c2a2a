"""A verdict is a comparison with clean sets of the same kind, never a threshold of its own.

The measure is made of the suspected set and of all M clean ones alike: each detector's number as robust deviations from
the median of the M + 1 sets, and of these the largest. Were the suspected set as clean as the others, each of the M + 1
would be the highest with the same chance; so "higher than all M" happens to a clean set once in M + 1 times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from poisonlab.check.evidence import Statistics
from poisonlab.defenses.shared.sample_scores import median_and_spread

ALARMS = 0.05  # share of clean sets that may be accused
LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Calibration:
    """The suspected set among clean ones.

    Attributes:
        controls: M, the clean sets.
        exceeds: how many of them it exceeds by the measure of all detectors together.
        by_detector: how many it exceeds by the number of each detector alone.
        origin: what the clean sets are, in words.
        images: images of each of them.
    """

    controls: int
    exceeds: int
    by_detector: dict[str, int]
    origin: str
    images: int

    @property
    def false_alarm_rate(self) -> float:
        """How often a clean set of this kind would exceed as many; not below 1 / (M + 1)."""
        return (1 + self.controls - self.exceeds) / (self.controls + 1)

    @property
    def stands_out(self) -> bool:
        """Whether so few clean sets would that the set is accused."""
        return self.false_alarm_rate <= ALARMS

    @property
    def can_accuse(self) -> bool:
        """Whether there are clean sets enough for any accusation."""
        return 1 / (self.controls + 1) <= ALARMS


def measures(sets: Sequence[Statistics]) -> list[float]:
    """The measure of each set among all: its largest robust deviation from their median, over the detectors that all
    of them have."""
    shared = shared_detectors(sets)
    table = torch.tensor([[found[name] for name in shared] for found in sets], dtype=torch.float64)
    deviations = torch.zeros_like(table)
    for column in range(table.shape[1]):
        median, spread = median_and_spread(table[:, column], LEAST_SPREAD)
        deviations[:, column] = (table[:, column] - median) / spread
    highest: list[float] = deviations.max(1).values.tolist()
    return highest


def shared_detectors(sets: Sequence[Statistics]) -> list[str]:
    """The detectors that say something of every set, in the order of the first."""
    return [name for name in sets[0] if all(name in found for found in sets)]


def calibrated(suspected: Statistics, clean: Sequence[Statistics], origin: str, images: int) -> Calibration:
    """The place of a set among clean ones.

    Raises:
        ValueError: no detector has judged them all.
    """
    sets = [suspected, *clean]
    shared = shared_detectors(sets)
    if not clean or not shared:
        raise ValueError("there is no clean set, or no detector that has judged them all")
    own, *others = measures(sets)
    by_detector = {name: sum(suspected[name] > found[name] for found in clean) for name in shared}
    return Calibration(len(clean), sum(own > other for other in others), by_detector, origin, images)
