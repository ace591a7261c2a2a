"""What pages ask of the store, asked once for all viewers; a new run or a change of the index asks anew."""

from typing import Any

import pandas as pd

from poisonlab.figures import board as board_figures
from poisonlab.figures import ranking as ranking_figures
from poisonlab.figures.prepared import Prepared, prepared
from poisonlab.records.record import RunRecord
from poisonlab.runner import runtime
from poisonlab.store.agreement import agreement as agreement_of
from poisonlab.store.agreement import published_runs
from poisonlab.store.ranking import NOTHING, Block, Board, Of, marks, ranked
from poisonlab.ui import navigation, shared
from poisonlab.ui.tables import dicts
from poisonlab.ui.wording import run_label

# -- runs -----------------------------------------------------------------------------------------


@shared.of_results
def names() -> dict[str, list[str]]:
    """The values present among finished runs, see :meth:`~poisonlab.store.runs.Runs.names`."""
    return runtime.get().store.runs.names()


@shared.of_results
def find(**asked: Any) -> pd.DataFrame:
    """Finished runs, see :meth:`~poisonlab.store.runs.Runs.find`."""
    return runtime.get().store.runs.find(**asked)


@shared.of_results
def measured_here() -> frozenset[str]:
    """Ids of the runs that do not come with the program, see :meth:`~poisonlab.store.runs.Runs.own_ids`."""
    return runtime.get().store.runs.own_ids()


@shared.of_results
def showing(page: str, dataset: str | None, attack: str | None, defense: str | None) -> pd.DataFrame:
    """Finished runs that recorded something a page shows, newest first; ``shows`` counts how many kinds.

    Of the lens all runs are listed: ``shows`` is 1 for those that were measured here, and may have left their networks.
    """
    if page == navigation.LENS:
        every = find(dataset=dataset, attack=attack, defense=defense)
        every = every.assign(shows=every["run_id"].isin(measured_here()).astype(int))
        return every.sort_values(["shows", "created"], ascending=False, ignore_index=True)
    found = [
        find(dataset=dataset, attack=attack, defense=defense, kind=kind) for kind in navigation.SHOWS[page]
    ]
    found = [frame for frame in found if not frame.empty]
    if not found:
        return pd.DataFrame()
    every = pd.concat(found, ignore_index=True)
    shows = every["run_id"].value_counts()
    every = every.drop_duplicates("run_id").assign(shows=lambda frame: frame["run_id"].map(shows))
    return every.sort_values("created", ascending=False, ignore_index=True)


@shared.of_results
def labels(page: str, dataset: str | None, attack: str | None, defense: str | None) -> dict[str, str]:
    """What each of these runs is called in a list, by its id."""
    return {run["run_id"]: run_label(run) for run in dicts(showing(page, dataset, attack, defense))}


@shared.of_results
def record(run_id: str) -> RunRecord | None:
    """A record, see :meth:`~poisonlab.store.runs.Runs.record`.

    Raises:
        RecordError: its folder is gone or damaged.
    """
    return runtime.get().store.runs.record(run_id)


@shared.of_results
def verified(run_id: str) -> bool:
    """Whether a run was measured again from its weights here, see :class:`~poisonlab.store.verified.Verified`."""
    return runtime.get().store.verified.has(run_id)


@shared.of_results
def has_pictures(run_id: str) -> bool:
    """Whether the artifacts of a run are here."""
    return runtime.get().store.runs.has_pictures(run_id)


@shared.of_results
def artifact(run_id: str, name: str, trial: int, sha256: str) -> Any:
    """An artifact, see :meth:`~poisonlab.store.runs.Runs.load_artifact`."""
    return runtime.get().store.runs.load_artifact(run_id, name, sha256, trial)


# -- what stands beside a run ----------------------------------------------------------------------


@shared.of_results
def beside(run_id: str, kind: str) -> pd.DataFrame:
    """Runs of other defenses against the same poisons, see :class:`~poisonlab.store.purification.Purification`."""
    return runtime.get().store.purification.beside(run_id, kind)


@shared.of_results
def strengths(run_id: str, knob: str) -> pd.DataFrame:
    """Runs that differ in the strength of a purification alone, see the same."""
    return runtime.get().store.purification.strengths(run_id, knob)


@shared.of_results
def flags(run_id: str) -> pd.DataFrame:
    """Runs that differ in how many images a repair flags, see :class:`~poisonlab.store.flags.Flags`."""
    return runtime.get().store.flags.rows(run_id)


@shared.of_results
def screens(run_id: str) -> pd.DataFrame:
    """Screens against all attacks of a run's setting, see :class:`~poisonlab.store.screens.Screens`."""
    return runtime.get().store.screens.rows(run_id)


@shared.of_results
def budget_settings() -> pd.DataFrame:
    """What budgets were measured in, see :class:`~poisonlab.store.budget.Budgets`."""
    return runtime.get().store.budgets.settings()


# -- what is compared -----------------------------------------------------------------------------


@shared.of_results
def leaderboard(**asked: Any) -> pd.DataFrame:
    """Rows of the leaderboard, see :meth:`~poisonlab.store.leaderboard.Leaderboard.rows`."""
    return runtime.get().store.leaderboard.rows(**asked)


@shared.of_results
def blocks() -> list[Block]:
    """What can be ranked, the block with most evidence first."""
    return runtime.get().store.rankings.blocks()


@shared.of_results
def block_runs(block: Block) -> pd.DataFrame:
    """The runs of a block, one row each."""
    return runtime.get().store.rankings.runs(block)


@shared.of_results
def board(block: Block, of: Of, loss_allowed: float) -> Board:
    """A block, ranked; the bootstrap takes most of a second."""
    return ranked(block_runs(block), block, of, loss_allowed)


@shared.of_results
def agreement() -> pd.DataFrame:
    """Pairs of settings and how far they agree on the order of defenses."""
    measured = runtime.get().store.rankings.all_runs()
    return agreement_of(pd.concat([measured, published_runs(measured)]))


# -- figures of a block ---------------------------------------------------------------------------


@shared.of_results
def heatmap(block: Block, metric: str, label: str, loss_allowed: float) -> Prepared:
    """Attack x defense, the defenses in the order of their ranks."""
    order = list(board(block, "defense", loss_allowed).rows["name"])
    return prepared(board_figures.heatmap(block_runs(block), metric, label, order))


@shared.of_results
def trade_off(block: Block, attack: str | None, loss_allowed: float) -> Prepared:
    """What each defense prevents and costs, under an attack or over all."""
    shown = marks(block_runs(block), board(block, "defense", loss_allowed), attack)
    return prepared(board_figures.trade_off(shown, NOTHING))


@shared.of_results
def mean_ranks(block: Block, of: Of, loss_allowed: float) -> Prepared:
    """Mean ranks with their intervals."""
    return prepared(ranking_figures.mean_ranks(board(block, of, loss_allowed).rows, NOTHING))


# -- jobs -----------------------------------------------------------------------------------------


@shared.of_jobs
def jobs(states: tuple[str, ...] | None = None, limit: int = 200) -> pd.DataFrame:
    """The queue and what became of it, see :meth:`~poisonlab.store.jobs.Jobs.find`."""
    return runtime.get().store.jobs.find(states, limit)


@shared.of_jobs
def active_jobs() -> pd.DataFrame:
    """Jobs at work and what was queued with them, see :meth:`~poisonlab.store.jobs.Jobs.active`."""
    return runtime.get().store.jobs.active()


@shared.of_jobs
def counts() -> dict[str, int]:
    """How many finished runs and how many jobs there are."""
    return runtime.get().store.counts()
