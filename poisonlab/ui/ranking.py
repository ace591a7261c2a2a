"""The ranking of a block on the page: what is compared, a row a method, mean ranks with their intervals."""

from functools import partial
from typing import Any

import streamlit as st

from poisonlab.store.latex import as_latex
from poisonlab.store.ranking import LOSS_ALLOWED, NOTHING, TASKS, Board, Of
from poisonlab.store.rows import TUNED_ON
from poisonlab.ui import block, charts, exports, glossary, link, results, tables
from poisonlab.ui.wording import NONE

OF: dict[str, Of] = {"defenses": "defense", "attacks": "attack"}
ORDER = [
    "rank",
    "name",
    "success",
    "worst",
    "worst_on",
    "loss",
    "too_dear",
    "mean_rank",
    "covered",
    "seeds",
    "seconds",
]


def show() -> None:
    """The block that the reader chooses, the one with most evidence at first: ranked, and in pictures."""
    blocks = {str(block): block for block in results.blocks()}
    if not blocks:
        return
    left, middle, right = st.columns([3, 2, 2], vertical_alignment="bottom")
    chosen = blocks[
        link.choice(
            left, "Compared under", list(blocks), str, key="block", help=glossary.help_for("ranked_block")
        )
    ]
    of = OF[link.segments(middle, "Ranked", list(OF), key="ranked", default="defenses")]
    points = link.number(
        right,
        "Accuracy a repair may cost, in points",
        0,
        100,
        key="may_cost",
        usual=round(100 * LOSS_ALLOWED),
        help=glossary.help_for("may_cost"),
    )
    board = results.board(chosen, of, points / 100)
    _table(board, of)
    st.caption(_summary(board, of))
    _downloads(board, of, points / 100)
    if board.ranks is not None:
        with st.expander("Mean ranks and their intervals"):
            charts.show(
                results.mean_ranks(chosen, of, points / 100),
                key="mean_ranks",
                alt="Mean rank of each method with its interval, the best on top",
            )
    block.pictures(chosen, points / 100)


def small(rows: int = 5) -> None:
    """The best of the block with most evidence, on a page that is about something else."""
    blocks = results.blocks()
    if not blocks:
        st.caption("Nothing was measured yet that could be ranked.")
        return
    block = blocks[0]
    board = results.board(block, "defense", LOSS_ALLOWED)
    first = board.rows[board.rows["name"] != NOTHING].head(rows)
    columns = ["rank", "name", "success", "loss"]
    st.dataframe(
        first[columns],
        column_config={name: look for name, look in _columns(board, "defense").items() if name in columns},
        hide_index=True,
        placeholder=NONE,
        height=tables.HEADER + tables.ROW * len(first),
        alt=f"The first {len(first)} defenses on {block}",
    )
    st.caption(f"{block}: means over {len(board.tasks)} attacks. Equal ranks cannot be told apart.")


def _summary(board: Board, of: Of) -> str:
    task = TASKS[of]
    over = f"{len(board.tasks)} {task}{'s' if len(board.tasks) > 1 else ''}"
    better = "lets through least" if of == "defense" else "gets through most"
    text = f"Over {over}; first is what {better}. Rows that cannot be told apart share a rank. "
    if not board.rows["complete"].all():
        text += f"Rows that were not measured on all {task}s stand below, without a rank. "
    text += (
        f"The presets' values were chosen on seeds {TUNED_ON[0]} to {TUNED_ON[-1]}, which do not count here: all rows "
        "are held out from them. "
    )
    if board.ranks is not None and board.ranks.friedman is not None:
        text += (
            f"Friedman's test: were all equal, differences as large as these would come up with probability "
            f"{board.ranks.friedman:.2g}. Nemenyi's: mean ranks {board.ranks.critical:.1f} apart differ at 5 %."
        )
    return text


def _table(board: Board, of: Of) -> None:
    shown = board.rows.assign(
        covered=[f"{count} of {len(board.tasks)}" for count in board.rows["tasks"]],
        seeds=board.seeds(" to "),
    )
    st.dataframe(
        shown[ORDER],
        column_config=_columns(board, of),
        hide_index=True,
        placeholder=NONE,
        height=tables.HEADER + tables.ROW * len(shown),
        alt="One row a method: its rank, mean attack success, the worst case and what it costs",
    )


def _columns(board: Board, of: Of) -> dict[str, Any]:
    """How the columns look, each defined on hover."""
    column = st.column_config
    return {
        "rank": column.NumberColumn("Rank", help=glossary.help_for("rank"), format="%d", width=50),
        "name": column.TextColumn(of.capitalize(), width=130),
        "success": tables.share("success", "Attack success ↓"),
        "worst": column.NumberColumn("Worst", help=glossary.help_for("worst"), format="percent", width=70),
        "worst_on": column.TextColumn("against" if of == "defense" else "under", width=100),
        "loss": column.NumberColumn(
            "Accuracy lost", help=glossary.help_for("loss"), format="percent", width=100
        ),
        "too_dear": column.NumberColumn(
            "Too dear", help=glossary.help_for("too_dear"), format="%d", width=70
        ),
        "mean_rank": column.NumberColumn(
            "Mean rank", help=glossary.help_for("mean_rank"), format="%.1f", width=80
        ),
        "covered": column.TextColumn("Measured on", help=glossary.help_for("covered"), width=90),
        "seeds": column.TextColumn("Seeds", width=60),
        "seconds": column.NumberColumn("Seconds", help=glossary.help_for("seconds"), format="%.0f", width=70),
    }


def _csv(board: Board) -> str:
    return str(board.rows.to_csv(index=False))


def _downloads(board: Board, of: Of, loss_allowed: float) -> None:
    """The ranking as files; each is made when somebody clicks."""
    with st.container(horizontal=True):
        for label, ending, make, mime in (
            ("CSV", "csv", partial(_csv, board), "text/csv"),
            ("LaTeX", "tex", partial(as_latex, board, of.capitalize()), "text/x-tex"),
        ):
            st.download_button(
                label,
                make,
                f"poisonlab-ranking.{ending}",
                mime,
                on_click="ignore",
                icon=":material/download:",
                key=f"ranking_{label}",
            )
        exports.bibtex_button(board.methods(of), key="ranking_bibtex")
        report = partial(exports.board_report, board.block, of, loss_allowed)
        exports.report_button(report, "poisonlab-ranking", key="ranking_report")


def agreement() -> None:
    """How far the settings agree on which defense is better, where two of them measured enough in common."""
    pairs = results.agreement()
    if pairs.empty:
        return
    with st.expander("How far settings agree on the order of defenses"):
        st.caption(glossary.help_for("spearman"))
        column = st.column_config
        st.dataframe(
            pairs,
            column_config={
                "first": column.TextColumn("One setting"),
                "second": column.TextColumn("Another"),
                "attacks": column.NumberColumn("Attacks in common"),
                "defenses": column.NumberColumn("Defenses in common"),
                "spearman": column.NumberColumn("Rank correlation", format="%.2f"),
                "p": column.NumberColumn("p", format="%.2g", help=glossary.help_for("p")),
            },
            hide_index=True,
            alt="Pairs of settings and the rank correlation between their orders of defenses",
        )
