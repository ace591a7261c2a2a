"""``leaderboard --rank``: defenses or attacks of one block, by mean rank."""

import argparse
import math
from typing import Any

from poisonlab.cli.frames import say_left_out, written
from poisonlab.cli.terminal import OK, UsageError, table
from poisonlab.spec.bibliography import bibtex
from poisonlab.store import Store
from poisonlab.store.latex import as_latex
from poisonlab.store.ranking import LOSS_ALLOWED, TASKS, Block, Board, Of


def ranking(options: argparse.Namespace) -> int:
    for name in ("attack", "defense", "source"):
        if getattr(options, name) is not None:
            raise UsageError(f"--rank compares all of a block; leave out --{name}")
    allowed = LOSS_ALLOWED if options.loss_allowed is None else options.loss_allowed
    store = Store(options.results)
    try:
        block = block_asked_for(store.rankings.blocks(), options)
        board = store.rankings.board(block, options.rank, allowed)
    except ValueError as error:
        raise UsageError(str(error)) from None
    finally:
        store.close()
    say_left_out(store)
    if options.latex:
        print(as_latex(board, options.rank.capitalize()))
    elif options.bibtex:
        print(bibtex(board.methods(options.rank)))
    elif not written(board.rows, options):
        _print(board, options.rank, allowed)
    return OK


def block_asked_for(blocks: list[Block], options: argparse.Namespace) -> Block:
    """The block with most evidence that fits what was asked for.

    Raises:
        UsageError: there is none; names those that are.
    """
    for block in blocks:
        asked = {"dataset": options.dataset, "threat": options.threat, "preset": options.preset}
        if all(value in (None, getattr(block, name)) for name, value in asked.items()):
            return block
    known = "; ".join(str(block) for block in blocks) or "none yet"
    raise UsageError(f"no finished runs of such a block; there are: {known}")


def _print(board: Board, of: Of, loss_allowed: float) -> None:
    tasks = len(board.tasks)
    print(f"{board.block}: {of}s over {tasks} {TASKS[of]}{'s' if tasks > 1 else ''}")
    print(f"more than {loss_allowed:.0%} of accuracy lost counts as not repaired\n")
    heads = [
        "rank",
        of,
        "mean rank",
        "95 %",
        "success",
        "worst",
        "on",
        "lost",
        "too dear",
        "of",
        "seeds",
        "seconds",
    ]
    rows = board.rows.assign(seeds=board.seeds("-")).to_dict("records")
    print(table(heads, [_line(row, tasks) for row in rows]))
    if board.ranks and board.ranks.friedman is not None:
        print(
            f"\nFriedman: p = {board.ranks.friedman:.2g} that all are equal. "
            f"Nemenyi: mean ranks {board.ranks.critical:.1f} apart differ at 5 %."
        )


def _line(row: dict[Any, Any], tasks: int) -> list[str]:
    ranked = not math.isnan(row["rank"])
    return [
        f"{row['rank']:.0f}" if ranked else "",
        row["name"],
        f"{row['mean_rank']:.2f}" if ranked else "",
        f"{row['rank_low']:.1f} to {row['rank_high']:.1f}" if ranked else "incomplete",
        f"{row['success']:.3f}",
        f"{row['worst']:.3f}",
        row["worst_on"],
        f"{row['loss']:.3f}",
        str(row["too_dear"]),
        f"{row['tasks']}/{tasks}",
        row["seeds"],
        f"{row['seconds']:.0f}",
    ]
