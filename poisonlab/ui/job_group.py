"""Jobs that were queued together, such as a matrix: what they are and how far they are, as one."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from poisonlab.runner import runtime
from poisonlab.ui import shared
from poisonlab.ui.wording import duration, escape

# words for the states, in the order in which a line names them
_WORDS = {
    "done": "done",
    "running": "running",
    "queued": "waiting",
    "failed": "failed",
    "cancelled": "cancelled",
    "interrupted": "interrupted",
}


@dataclass(frozen=True)
class Ahead:
    """What jobs will take yet.

    Attributes:
        seconds: of all that is known.
        whole: whether something alike was measured of everything.
    """

    seconds: float
    whole: bool


def split(jobs: pd.DataFrame) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """Those that were queued together, a table for each, and those that were queued alone."""
    together = [group for _, group in jobs.groupby("submission", sort=False)]
    return together, jobs[jobs["submission"].isna()]


def title(jobs: pd.DataFrame) -> str:
    """``digits · 2 attacks · awm · 3 seeds``: what is the same by its name, what differs by how many there are."""
    parts = []
    for kind in ("dataset", "attack", "defense"):
        names = jobs[kind].unique()
        parts.append(escape(names[0]) if len(names) == 1 else f"{len(names)} {kind}s")
    seeds = jobs["seed"].nunique()
    parts.append(f"{seeds} seeds" if seeds > 1 else f"seed {jobs['seed'].iloc[0]}")
    return " · ".join(parts)


def line(jobs: pd.DataFrame, ahead: Ahead) -> str:
    """``12 runs, 5 done, 1 running, 6 waiting, about 20 min left``."""
    counts = jobs["state"].value_counts()
    parts = [f"{len(jobs)} runs"]
    parts += [f"{counts[state]} {word}" for state, word in _WORDS.items() if state in counts]
    if ahead.seconds:
        about = "about" if ahead.whole else "at least"
        rest = "left" if "running" in counts else "once they begin"
        parts.append(f"{about} {duration(ahead.seconds)} {rest}")
    return ", ".join(parts)


def share(jobs: pd.DataFrame) -> float:
    """How much of them is done, from 0 to 1: what ended counts whole, what runs by its own share."""
    ended = (~jobs["state"].isin(["queued", "running"])).sum()
    runner = runtime.get().runner
    lefts = [runner.time_left(run_id) for run_id in _ids(jobs, "running")]
    return float(ended + sum(left.share for left in lefts if left)) / len(jobs)


def ahead(jobs: pd.DataFrame) -> Ahead:
    """What they will take yet, shared out among the workers that may take them."""
    runner = runtime.get().runner
    running = _ids(jobs, "running")
    waiting = _ids(jobs, "queued")
    lefts = [runner.time_left(run_id) for run_id in running]
    seconds = [left.seconds for left in lefts if left]
    more = _of_waiting(tuple(running), tuple(waiting), runner.device_type)
    asked = set(jobs.loc[jobs["state"] == "queued", "device"])
    workers = runner.workers if "auto" in asked else max(1, len(asked))
    longest = max(seconds, default=0.0)
    evenly = (sum(seconds) + more.seconds) / min(workers, len(running) + len(waiting))
    return Ahead(max(longest, evenly), more.whole and len(seconds) == len(running))


@shared.of_results  # a finished run fills the cache of stages, and what lies there costs nothing
def _of_waiting(running: Sequence[str], waiting: Sequence[str], device_type: str) -> Ahead:
    """What the waiting jobs will compute that the running ones do not."""
    from poisonlab.runner import cost  # noqa: PLC0415 - brings torch, which Home does without

    store = runtime.get().store
    started = store.jobs.specs(running)
    whole = cost.of(store, [*started, *store.jobs.specs(waiting)], device_type)
    seconds = whole.seconds - cost.of(store, started, device_type).seconds
    return Ahead(max(0.0, seconds), not whole.unknown)


def _ids(jobs: pd.DataFrame, state: str) -> list[str]:
    return list(jobs.loc[jobs["state"] == state, "run_id"])
