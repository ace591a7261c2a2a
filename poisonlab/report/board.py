"""A ranked block as a document: the ranking, its figures, and every run that it is made of."""

import shlex
from dataclasses import dataclass
from typing import Any

import pandas as pd

from poisonlab.figures.board import heatmap, trade_off
from poisonlab.figures.ranking import mean_ranks
from poisonlab.measure import catalogue
from poisonlab.report.document import document
from poisonlab.report.parts import Drawing, drawing
from poisonlab.spec.bibliography import bibtex
from poisonlab.spec.command import PROGRAM
from poisonlab.store import Store
from poisonlab.store.ranking import NOTHING, TASKS, Block, Board, Of, marks
from poisonlab.words import glossary

WORDS = (
    "rank",
    "mean_rank",
    "success",
    "success_undefended",
    "worst",
    "clean_accuracy",
    "loss",
    "too_dear",
    "covered",
    "seconds",
    "source",
)
_MADE_WITH = ["revision", "torch", "device", "victim", "source"]


@dataclass(frozen=True)
class Group:
    """The runs of one row of the ranking."""

    name: str
    runs: list[dict[str, Any]]


def board_report(store: Store, block: Block, of: Of, loss_allowed: float) -> str:
    """The document of a block of a store.

    Raises:
        ValueError: ``loss_allowed`` is not in [0, 1].
    """
    board = store.rankings.board(block, of, loss_allowed)
    return board_document(board, of, loss_allowed, store.rankings.runs(block))


def board_document(board: Board, of: Of, loss_allowed: float, runs: pd.DataFrame) -> str:
    """The same of tables.

    Args:
        runs: as of :meth:`~poisonlab.store.ranking.Rankings.runs`; those of tasks that do not count are shown, too.
    """
    made_with, runs = _lettered(runs)
    rows = board.rows.assign(seeds=board.seeds(" to ")).to_dict("records")
    named = {row["name"] for row in rows}
    groups = [Group(row["name"], _records(runs[runs[of] == row["name"]])) for row in rows]
    rest = runs[~runs[of].isin(named)]
    if len(rest):
        groups.append(Group("not ranked", _records(rest)))
    return document(
        "board.html",
        f"{of.capitalize()}s ranked: {board.block}",
        board=board,
        of=of,
        task=TASKS[of],
        rows=rows,
        ranked_on=f"{len(board.tasks)} {TASKS[of]}{'' if len(board.tasks) == 1 else 's'}",
        loss_allowed=loss_allowed,
        groups=groups,
        uncounted=sorted(set(runs[TASKS[of]]) - set(board.tasks)),
        made_with=made_with,
        drawings=_drawings(board, of, runs),
        words=WORDS,
        bibtex=bibtex(board.methods(of)),
        commands=commands(board.block, of, loss_allowed),
    )


def commands(block: Block, of: Of, loss_allowed: float) -> list[str]:
    """What prints the same ranking, and what writes the same document."""
    chosen = [f"--{name} {shlex.quote(getattr(block, name))}" for name in ("dataset", "threat", "preset")]
    chosen += [f"--loss-allowed {loss_allowed:g}"]
    options = " ".join(chosen)
    return [
        f"{PROGRAM} leaderboard --rank {of} {options}",
        f"{PROGRAM} report board --rank {of} {options} --to board.html",
    ]


def _drawings(board: Board, of: Of, runs: pd.DataFrame) -> list[Drawing]:
    found = []
    if board.ranks is not None:
        text = "Mean rank of each method with its 95 % interval, the best on top."
        found.append(drawing(mean_ranks(board.rows, NOTHING), text))
    if len(runs):
        label = glossary.label(catalogue.SUCCESS)
        text = f"{label} by attack and defense, the mean over seeds. Empty cells were not measured."
        order = list(board.rows["name"]) if of == "defense" else []
        found.append(drawing(heatmap(runs, catalogue.SUCCESS, label, order), text))
    if of == "defense" and len(board.rows):
        text = "Clean accuracy lost against attack success, a mark for each defense. Lower left is best."
        found.append(drawing(trade_off(marks(runs, board, None), NOTHING), text))
    return found


def _lettered(runs: pd.DataFrame) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """What runs were made with, each combination under a letter, and the runs with their letters as ``made_with``."""
    combinations = runs.groupby(_MADE_WITH, dropna=False, sort=False).size().reset_index(name="runs")
    combinations["letter"] = [_letter(place) for place in range(len(combinations))]
    lettered = runs.merge(combinations, how="left", on=_MADE_WITH, suffixes=("", "_count"))
    return _records(combinations), lettered.rename(columns={"letter": "made_with"})


def _letter(place: int) -> str:
    """A, B ... Z, A1, B1 ..."""
    return f"{chr(ord('A') + place % 26)}{place // 26 or ''}"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
