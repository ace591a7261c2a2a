"""A verdict is a comparison with clean sets of the same kind, never a threshold of its own.

The measure is made of the suspected set and of all M clean ones alike: each detector's number as robust deviations from
the median of the M + 1 sets, and of these the largest. Were the suspected set as clean as the others, each of the M + 1
would be the highest with the same chance; so "higher than all M" happens to a clean set once in M + 1 times.

Clean sets that are drawn from one pool share images, and so differ less from each other than from a set of others. Of a
mean over m images, drawn from a pool of N, f = m / N: the variance between draws is s^2 / m (1 - f), that of the
difference to m images from elsewhere s^2 / m (1 + f). The deviation of the suspected set is therefore divided by
sqrt((1 + f) / (1 - f)) before it is set beside those of the clean sets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.defenses.shared.sample_scores import median_and_spread

ALARMS = 0.05  # share of clean sets that may be accused

Statistics = Mapping[str, float]  # detector -> its number for a set, or for a network

# what clean ones are taken to differ by at least, in the number of each detector: one that is silent about most of them
# would otherwise cry out over a trifle
LEAST_SPREADS = {
    "spectral_signatures": 0.1,
    "activation_clustering": 0.01,
    "confident_learning": 0.005,
    "strip": 0.01,
    "ewc_influence": 0.1,
    "puregen_ebm": 0.05,
    "neural_cleanse": 0.1,
    "rnp": 0.05,
}
LEAST_SPREAD = 1e-6  # of any other detector


@dataclass(frozen=True)
class Calibration:
    """The suspected set, or network, among clean ones.

    Attributes:
        own: the numbers of the suspected one, by detector. clean: those of each clean one.
        exceeds: how many of these it exceeds by the measure of all detectors together.
        by_detector: how many it exceeds by the number of each detector alone.
        origin: what the clean ones are, in words.
        images: images of each clean set, or that each clean network was trained on.
        most: the detector by which the suspected one stands out most.
        overlap: f, the share of their pool that each clean set is; 0 where they share no images.
    """

    own: Statistics
    clean: tuple[Statistics, ...]
    exceeds: int
    by_detector: dict[str, int]
    origin: str
    images: int
    most: str
    overlap: float = 0.0

    @property
    def controls(self) -> int:
        """M, the clean ones."""
        return len(self.clean)

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


def deviations(sets: Sequence[Statistics], overlap: float = 0.0) -> tuple[list[str], Tensor]:
    """The detectors that say something of every set, and how many robust deviations each set's number lies above the
    median of all, float64 ``(sets, detectors)``; those of the first set made smaller for the overlap of the others."""
    names = [name for name in sets[0] if all(name in found for found in sets)]
    table = torch.tensor([[found[name] for name in names] for found in sets], dtype=torch.float64)
    for column, name in enumerate(names):
        median, spread = median_and_spread(table[:, column], LEAST_SPREADS.get(name, LEAST_SPREAD))
        table[:, column] = (table[:, column] - median) / spread
    table[0] /= ((1 + overlap) / (1 - overlap)) ** 0.5
    return names, table


def calibrated(
    suspected: Statistics, clean: Sequence[Statistics], origin: str, images: int, overlap: float = 0.0
) -> Calibration:
    """The place of a set among clean ones.

    Args:
        images: of each clean set. overlap: the share of their pool that each of them is, below 1.

    Raises:
        ValueError: there is no clean set, or no detector has judged them all.
    """
    names, table = deviations([suspected, *clean], overlap)
    if not clean or not names:
        raise ValueError("there is no clean set, or no detector that has judged them all")
    own, *others = table.max(1).values.tolist()
    most = names[int(table[0].argmax())]
    by_detector = {name: sum(suspected[name] > found[name] for found in clean) for name in names}
    exceeds = sum(own > x for x in others)
    return Calibration(suspected, tuple(clean), exceeds, by_detector, origin, images, most, overlap)
