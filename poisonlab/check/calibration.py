"""How far something stands out among its like: a rank among clean ones, never a bare threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

FALSE_ALARMS = 0.05  # of clean ones that are accused, at most
NORMAL = 1.4826  # standard deviations in a median absolute deviation of a normal distribution
LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Standing:
    """Where one stands among clean ones of its kind, by all statistics together.

    Attributes:
        distance: robust standard deviations above the median, of its most striking statistic.
        most: name of that statistic.
        beyond: how many clean ones stand out at least as far.
        clean: how many clean ones there are.
    """

    distance: float
    most: str
    beyond: int
    clean: int

    @property
    def p(self) -> float:
        """Chance that one as clean as the others stands out as far, from 1 / (clean + 1) to 1."""
        return (self.beyond + 1) / (self.clean + 1)

    @property
    def stands_out(self) -> bool:
        """Whether fewer than 1 in 20 clean ones stand out as far; with fewer than 19 of them, nothing can."""
        return self.p <= FALSE_ALARMS

    @property
    def decidable(self) -> bool:
        """Whether there are enough clean ones for a verdict."""
        return 1 / (self.clean + 1) <= FALSE_ALARMS

    @property
    def text(self) -> str:
        """The verdict in words."""
        if not self.decidable:
            return f"no verdict: {self.clean} clean ones are too few to tell 1 in 20"
        if self.stands_out:
            return f"stands out more than each of {self.clean} clean ones, by its {self.most}"
        return f"does not stand out: {self.beyond} of {self.clean} clean ones do so at least as far"


def standing(suspect: Mapping[str, float], clean: Sequence[Mapping[str, float]]) -> Standing:
    """Where a suspect stands; of several statistics the one counts by which it stands out most.

    Suspect and clean ones are measured in the same way, by median and spread of all of them together. One that is as
    clean as the others is therefore as likely as each of them to be the most striking (conformal p-value: V. Vovk,
    A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005), however many statistics there are.

    Args:
        suspect: statistic -> value, higher is more suspicious. clean: the same of each clean one.

    Raises:
        ValueError: the clean ones lack a statistic.
    """
    for one in clean:
        if one.keys() != suspect.keys():
            raise ValueError(f"the clean ones state {', '.join(one)}, not {', '.join(suspect)}")
    names = list(suspect)
    values = torch.tensor([[one[name] for name in names] for one in (suspect, *clean)], dtype=torch.float64)
    values = values.nan_to_num(nan=0.0)
    middle = values.median(0).values
    spread = NORMAL * (values - middle).abs().median(0).values
    distance = (values - middle) / spread.clamp_min(LEAST_SPREAD)
    furthest = distance.max(1).values
    beyond = int((furthest[1:] >= furthest[0]).sum())
    return Standing(float(furthest[0]), names[int(distance[0].argmax())], beyond, len(clean))
