"""Which runs are shipped with their artifacts: few, and together they show everything that there is to see."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from poisonlab.store.shipped import Shown

MAX_RUNS = 40
MAX_BYTES = 16 * 2**20  # of artifacts; the tables come on top, and all of it stays below 25 MB


@dataclass(frozen=True)
class Candidate:
    """A run that could be shown.

    Attributes:
        kinds: of its artifacts.
        size: of its artifacts, in bytes.
        done: whether it finished.
    """

    run_id: str
    dataset: str
    attack: str
    defense: str
    kinds: frozenset[str]
    seed: int
    size: int
    done: bool = True

    def shows(self) -> set[str]:
        """What a reader sees here: first of all each method, dataset and kind of artifact once."""
        named = {f"dataset {self.dataset}", f"attack {self.attack}", f"defense {self.defense}"}
        return named | {f"kind {kind}" for kind in self.kinds}

    def pairs(self) -> set[str]:
        """What a reader sees beside that: the kinds of artifact of each method and dataset."""
        names = (self.attack, self.defense, self.dataset)
        return {f"{kind} of {name}" for kind in self.kinds for name in names}


def choose(
    candidates: Iterable[Candidate],
    max_runs: int = MAX_RUNS,
    max_bytes: int = MAX_BYTES,
    first: Collection[str] = (),
) -> list[Shown]:
    """Take, again and again, the run that shows most of what the ones before it do not.

    Of equal ones the lowest seed is taken, as the one that a reader is likeliest to repeat, then the smallest.

    Args:
        first: ids of runs that are taken before all others.

    Returns:
        The runs in the order in which they were taken, each with what it added.
    """
    left = [one for one in candidates if one.done and one.kinds]
    chosen: list[Shown] = []
    seen: set[str] = set()
    seen_pairs: set[str] = set()
    free = max_bytes
    while len(chosen) < max_runs:
        left = [one for one in left if one.size <= free]
        if not left:
            break
        best = min(
            left,
            key=lambda one: (
                one.run_id not in first,
                -len(one.shows() - seen),
                -len(one.pairs() - seen_pairs),
                one.seed,
                one.size,
                one.run_id,
            ),
        )
        adds = best.shows() - seen or best.pairs() - seen_pairs
        if not adds and best.run_id not in first:
            break
        chosen.append(Shown(run_id=best.run_id, shows=sorted(best.shows() - seen)))
        seen |= best.shows()
        seen_pairs |= best.pairs()
        free -= best.size
        left.remove(best)
    return chosen
