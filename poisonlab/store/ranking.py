"""The board of a block: defenses (or attacks) ranked by what was measured under one dataset, threat and preset."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from poisonlab.measure.ranking import Ranks, Values, rank
from poisonlab.spec import stages
from poisonlab.store.database import Database
from poisonlab.store.rows import COUNTED, TUNED_ON

Of = Literal["defense", "attack"]
TASKS: dict[Of, Of] = {"defense": "attack", "attack": "defense"}  # what each is ranked on
NOTHING = "none"  # the attack that poisons nothing, the defense that does nothing
LOSS_ALLOWED = 0.05  # clean accuracy that a repair may cost
EVIDENCE = 0.5  # share of the defenses that an attack was measured against to count

SHOWN = ("success", "clean_accuracy", "robust_accuracy", "der")  # metrics of a pair of attack and defense

_LOOKED, _CHANGED = (
    ", ".join(f"'{name}'" for name in names) for names in (stages.looking(), stages.changing())
)
# Runs of a defense that looked and left all as it was, such as a screen: their success is that of the victim behind it.
_ONLY_LOOKED = f"""SELECT run_id FROM timings GROUP BY run_id
    HAVING bool_or(stage IN ({_LOOKED})) AND NOT bool_or(stage IN ({_CHANGED}))"""
_COMPARABLE = f"""{COUNTED}
WHERE latest AND coalesce(settings, '') = '' AND success IS NOT NULL AND attack <> '{NOTHING}'
    AND seed NOT IN ({", ".join(map(str, TUNED_ON))}) AND run_id NOT IN ({_ONLY_LOOKED})"""
_RUNS = f"""
SELECT DISTINCT ON (dataset, threat, preset, attack, defense, seed)
    dataset, threat, preset, attack, defense, seed, run_id::VARCHAR AS run_id, {", ".join(SHOWN)}, success_undefended,
    clean_accuracy_undefended - clean_accuracy AS loss, seconds, victim, source, device, torch, revision, created
FROM {_COMPARABLE}
ORDER BY dataset, threat, preset, attack, defense, seed, created DESC
"""


@dataclass(frozen=True)
class Block:
    """What can be compared: one dataset, one kind of threat, one preset."""

    dataset: str
    threat: str
    preset: str

    def __str__(self) -> str:
        return f"{self.dataset}, {self.threat}, {self.preset}"


@dataclass(frozen=True)
class Board:
    """A block, ranked.

    Attributes:
        rows: one method a row, see :meth:`Rankings.board`.
        tasks: what the others were ranked on, by name.
        ranks: of the complete rows, in their order; ``None`` where there are fewer than two.
    """

    block: Block
    rows: pd.DataFrame
    tasks: list[str]
    ranks: Ranks | None

    def seeds(self, between: str) -> list[str]:
        """How many seeds each row has on a task, such as ``1`` or, with another word or sign between, ``1 to 4``."""
        counts = zip(self.rows["seeds_least"], self.rows["seeds_most"], strict=True)
        return [str(most) if least == most else f"{least}{between}{most}" for least, most in counts]

    def methods(self, of: Of) -> dict[str, list[str]]:
        """Names by kind of all that was measured, whose papers are to be cited.

        Args:
            of: what the rows are.
        """
        return {"dataset": [self.block.dataset], of: list(self.rows["name"]), TASKS[of]: self.tasks}


class Rankings:
    """Finished runs with a preset's own values, ranked.

    Those of a defense that changes nothing, but screens or detects, are not among them: it has a page of its own.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def blocks(self) -> list[Block]:
        """All that can be compared, the one with most measured pairs of attack and defense first."""
        sql = f"""SELECT dataset, threat, preset FROM ({_RUNS}) GROUP BY ALL
            ORDER BY count(DISTINCT (attack, defense)) DESC, count(*) DESC, dataset, threat, preset"""
        return [Block(*found) for found in self.db.rows(sql)]

    def board(self, block: Block, of: Of = "defense", loss_allowed: float = LOSS_ALLOWED) -> Board:
        """Defenses of a block by their mean rank over attacks, or attacks over defenses.

        An attack counts that was measured against half of the defenses; a row is complete that was measured on every
        task. ``none`` stands first, then complete rows by rank, then the others by their mean success.

        Args:
            loss_allowed: a defense that costs more clean accuracy than this against an attack counts as none there.

        Returns:
            Rows with the columns ``name``, ``rank`` (NaN of incomplete rows), ``mean_rank``, ``rank_low``,
            ``rank_high``, ``success`` (mean over tasks), ``worst`` and ``worst_on``, ``loss``, ``too_dear`` (tasks on
            which more was lost than is allowed), ``tasks``, ``complete``, ``seeds_least``, ``seeds_most``, ``seconds``.

        Raises:
            ValueError: ``loss_allowed`` is not in [0, 1].
        """
        return ranked(self.runs(block), block, of, loss_allowed)

    def runs(self, block: Block) -> pd.DataFrame:
        """What a block's board is made of, one row a run, as :func:`ranked` takes it: the newest of each seed.

        Columns of numbers, then what a reader needs to check them: ``run_id``, ``victim``, ``source``, ``device``,
        ``torch``, ``revision``, ``created``.
        """
        sql = f"""SELECT * FROM ({_RUNS}) WHERE dataset = ? AND threat = ? AND preset = ?
            ORDER BY attack, defense, seed"""
        return self.db.frame(sql, [block.dataset, block.threat, block.preset])

    def all_runs(self) -> pd.DataFrame:
        """The same of all blocks, as :func:`~poisonlab.store.agreement.agreement` takes it."""
        return self.db.frame(f"SELECT * FROM ({_RUNS}) ORDER BY ALL")


def ranked(runs: pd.DataFrame, block: Block, of: Of, loss_allowed: float) -> Board:
    """:meth:`Rankings.board` of one row a run: attack, defense, seed, success, success_undefended, loss, seconds."""
    if not 0 <= loss_allowed <= 1:
        raise ValueError(f"loss_allowed must lie in [0, 1], got {loss_allowed:g}")
    dear = runs["loss"] > loss_allowed
    runs = runs.assign(
        counted=runs["success"].where(~dear, runs["success_undefended"].fillna(runs["success"])), dear=dear
    )
    against = runs.groupby("attack")["defense"].nunique()
    attacks = sorted(against.index[against >= EVIDENCE * runs["defense"].nunique()])
    runs = runs[runs["attack"].isin(attacks)]
    other = TASKS[of]
    if of == "attack":
        runs = runs[runs["defense"] != NOTHING]
    tasks = sorted(runs[other].unique())
    rows = pd.DataFrame([_row(name, part, other) for name, part in runs.groupby(of)])
    if rows.empty:
        return Board(block, rows, tasks, None)
    rows["complete"] = rows["tasks"] == len(tasks)
    names = list(rows.loc[rows["complete"], "name"])
    found = rank(_values(runs, names, tasks, of), largest_first=of == "attack") if len(names) > 1 else None
    ranks = _rank_columns(found, names)
    rows = rows.merge(ranks, how="left", on="name").assign(baseline=rows["name"] == NOTHING)
    better = rows["success"] if of == "defense" else -rows["success"]
    order = ["baseline", "complete", "rank", "mean_rank", "better", "name"]
    rows = rows.assign(better=better).sort_values(order, ascending=[False, False, True, True, True, True])
    return Board(block, rows.drop(columns=["baseline", "better"]).reset_index(drop=True), tasks, found)


def marks(runs: pd.DataFrame, board: Board, attack: str | None) -> pd.DataFrame:
    """What defenses prevent and cost: ``name``, ``success``, ``loss``, ``tasks``, and ``run_id`` of the last seed.

    Args:
        runs: as :func:`ranked` takes them. board: the same, with a row a defense.
        attack: one of ``runs``; ``None`` for means over the attacks that are ranked on, which have no single run.
    """
    if attack is None:
        return board.rows.assign(run_id="")[["name", "success", "loss", "tasks", "run_id"]]
    own = runs[runs["attack"] == attack].groupby("defense")
    found = own.agg(success=("success", "mean"), loss=("loss", "mean"), run_id=("run_id", "last"))
    return found.assign(tasks=1).rename_axis("name").reset_index()


def _row(name: Any, runs: pd.DataFrame, other: str) -> dict[str, Any]:
    """A method over its tasks, each the mean of its seeds."""
    each = runs.groupby(other)[["counted", "loss", "seconds", "dear"]].mean()
    seeds = runs.groupby(other)["seed"].nunique()
    worst = each["counted"].idxmax()
    return {
        "name": name,
        "success": each["counted"].mean(),
        "worst": each["counted"].max(),
        "worst_on": worst,
        "loss": each["loss"].mean(),
        "too_dear": int((each["dear"] > 0).sum()),
        "tasks": len(each),
        "seeds_least": int(seeds.min()),
        "seeds_most": int(seeds.max()),
        "seconds": each["seconds"].mean(),
    }


def _values(runs: pd.DataFrame, names: list[str], tasks: list[str], of: Of) -> Values:
    """What each method reached on each task with each seed, ``(methods, tasks, seeds)``; NaN where not measured."""
    seeds = sorted(runs["seed"].unique())
    other = TASKS[of]
    values = np.full((len(names), len(tasks), len(seeds)), np.nan)
    places = [{name: place for place, name in enumerate(known)} for known in (names, tasks, seeds)]
    for method, task, seed, counted in runs[[of, other, "seed", "counted"]].itertuples(index=False):
        if method in places[0]:
            values[places[0][method], places[1][task], places[2][seed]] = counted
    return values


def _rank_columns(found: Ranks | None, names: list[str]) -> pd.DataFrame:
    if found is None:
        return pd.DataFrame(columns=["name", "rank", "mean_rank", "rank_low", "rank_high"])
    return pd.DataFrame(
        {
            "name": names,
            "rank": found.rank,
            "mean_rank": found.mean,
            "rank_low": found.low,
            "rank_high": found.high,
        }
    )
