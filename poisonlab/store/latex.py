"""A ranking as a LaTeX table, for a paper: needs the package booktabs."""

from typing import Any

import pandas as pd

from poisonlab.store.ranking import NOTHING, Board

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_HEADS = r"Rank & {what} & Mean rank & Success & Worst case & Accuracy lost & Measured on & Seeds \\"


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def as_latex(board: Board, what: str) -> str:
    """The rows of a board; those of rank 1 in bold, rates in percent, the interval of a mean rank behind it.

    Args:
        what: heading of the column of names.
    """
    rows = board.rows.assign(seeds=board.seeds("--"))
    lines = [_line(row, len(board.tasks)) for row in rows.to_dict("records")]
    body = [*lines[:1], r"\midrule", *lines[1:]] if lines and board.rows["name"].iloc[0] == NOTHING else lines
    return "\n".join(
        [
            f"% {board.block}, over {', '.join(board.tasks)}",
            r"\begin{tabular}{rlrrrrrr}",
            r"\toprule",
            _HEADS.replace("{what}", escaped(what)),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _line(row: dict[Any, Any], tasks: int) -> str:
    ranked = not pd.isna(row["rank"])
    best = ranked and row["rank"] == 1
    name = escaped(row["name"])
    cells = (
        f"{row['rank']:.0f}" if ranked else "--",
        rf"\textbf{{{name}}}" if best else name,
        f"{row['mean_rank']:.1f} [{row['rank_low']:.1f}, {row['rank_high']:.1f}]" if ranked else "--",
        f"{100 * row['success']:.1f}",
        f"{100 * row['worst']:.1f} ({escaped(row['worst_on'])})",
        f"{100 * row['loss']:.1f}",
        f"{row['tasks']}/{tasks}",
        row["seeds"],
    )
    return " & ".join(cells) + r" \\"
