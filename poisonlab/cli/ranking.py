"""``leaderboard --rank``: defenses or attacks of one block, by mean rank."""

import argparse
import math
import sys
from typing import Any

from poisonlab.cli.terminal import OK, UsageError, say, table
from poisonlab.store import Store
from poisonlab.store.latex import as_latex
from poisonlab.store.ranking import Block, Board


def ranking(options: argparse.Namespace) -> int:
    for name in ("attack", "defense", "source"):
        if getattr(options, name) is not None:
            raise UsageError(f"--rank compares all of a block; leave out --{name}")
    store = Store(options.results)
    try:
        block = _block(store.rankings.blocks(), options)
        board = store.rankings.board(block, options.rank, options.loss_allowed)
    except ValueError as error:
        raise UsageError(str(error)) from None
    finally:
        store.close()
    for reason in store.skipped.values():  # a board with a run less must not pass for the whole
        say(f"left out: {reason}")
    if options.parquet:
        board.rows.to_parquet(options.parquet, index=False)
        say(f"{len(board.rows)} rows in {options.parquet}")
    elif options.csv:
        board.rows.to_csv(sys.stdout, index=False)
    elif options.latex:
        print(as_latex(board, options.rank.capitalize()))
    elif options.json:
        print(board.rows.to_json(orient="records"))
    else:
        _print(board, options)
    return OK


def _block(blocks: list[Block], options: argparse.Namespace) -> Block:
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


def _print(board: Board, options: argparse.Namespace) -> None:
    other = "attack" if options.rank == "defense" else "defense"
    print(
        f"{board.block}: {options.rank}s over {len(board.tasks)} {other}{'s' if len(board.tasks) > 1 else ''}"
    )
    print(f"more than {options.loss_allowed:.0%} of accuracy lost counts as not repaired\n")
    heads = [
        "rank",
        options.rank,
        "mean rank",
        "95 %",
        "success",
        "worst",
        "on",
        "lost",
        "too dear",
        "of",
        "seeds",
    ]
    print(table([*heads, "seconds"], [_line(row, len(board.tasks)) for row in board.rows.to_dict("records")]))
    if board.ranks and board.ranks.friedman is not None:
        print(
            f"\nFriedman: p = {board.ranks.friedman:.2g} that all are equal. "
            f"Nemenyi: mean ranks {board.ranks.critical:.1f} apart differ at 5 %."
        )


def _line(row: dict[Any, Any], tasks: int) -> list[str]:
    ranked = not math.isnan(row["rank"])
    seeds = f"{row['seeds_least']}-{row['seeds_most']}"
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
        seeds if row["seeds_least"] != row["seeds_most"] else str(row["seeds_most"]),
        f"{row['seconds']:.0f}",
    ]
