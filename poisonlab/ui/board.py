"""The leaderboard's table: sorting, selection, what differs between two rows, downloads."""

import io
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from poisonlab.figures.style import CLEAN, POISONED
from poisonlab.measure import catalogue
from poisonlab.measure.metric import Metric, Unit
from poisonlab.records.differences import differing_metrics, differing_settings
from poisonlab.runner import runtime
from poisonlab.spec.threats import THREATS
from poisonlab.store import plain
from poisonlab.store.leaderboard import interval_columns, verified_words
from poisonlab.ui import exports, glossary, link, navigation, page, results, tables
from poisonlab.ui.tables import dicts
from poisonlab.ui.wording import NONE, escape, number, percent

SHOWN = 1000  # rows in the browser's table at most; downloads hold all
AT_FIRST = 100  # rows that a browser is sent before its reader asks for more
_NAMES = ["dataset", "attack", "defense", "settings", "n"]


def sorts() -> dict[str, str]:
    """Columns that the page sorts by, and their labels."""
    metrics = {metric.name: metric.heading.removesuffix(" ↓") for metric in catalogue.comparable()}
    first = {catalogue.SUCCESS: metrics.pop(catalogue.SUCCESS)}
    return first | metrics | {"n": "Seeds", "dataset": "Dataset", "attack": "Attack", "defense": "Defense"}


def first_columns(*, collapsed: bool = False, tuned: bool = False, verified: bool = False) -> list[str]:
    """Columns of the table that a browser is sent before its reader asks for all: what tells rows apart, and the rates.

    Args:
        collapsed, tuned, verified: see :func:`column_order`.
    """
    first = [metric.name for metric in catalogue.board() if metric.column == "first"]
    marks = [*["tuned_on"] * tuned, *["collapsed"] * collapsed, *["verified"] * verified]
    return [*_NAMES, *marks, *first, "source"]


def column_order(*, collapsed: bool = False, tuned: bool = False, verified: bool = False) -> list[str]:
    """All columns of the table: the first ones, then the rest.

    Args:
        collapsed: some rows have runs with a collapsed model; their number then stands beside that of the runs.
        tuned: some rows have runs of seeds on which values were chosen; their number then stands there, too.
        verified: some rows have runs that were measured again from their weights here; it then says how many.
    """
    metrics = catalogue.board()
    intervals = [name for metric in metrics if metric.interval for name in interval_columns(metric)]
    more = [metric.name for metric in metrics if metric.column == "more"]
    last = ["diverged"] if collapsed else ["diverged", "collapsed"]
    first = first_columns(collapsed=collapsed, tuned=tuned, verified=verified)
    return [*first, *intervals, *more, "seconds", "victim", "preset", *last]


def _read_from_the_better_end() -> None:
    """Another column to sort by: the larger values first where they are good."""
    st.session_state["descending"] = catalogue.largest_first(st.session_state["sort"])


def order() -> tuple[str, str, bool]:
    """Kind of threat, sort column and direction, all in the URL."""
    left, middle, right = st.columns([3, 2, 1], vertical_alignment="bottom")
    threat = link.segments(
        left,
        "Threat",
        ["all", *THREATS],
        default="all",
        key="threat",
        help="Backdoors are measured by ASR, targeted poisons by poison success, corruptions by lost accuracy: compare "
        "within one kind.",
    )
    labels = sorts()
    sort = middle.selectbox(
        "Sort by",
        list(labels),
        format_func=labels.__getitem__,
        key="sort",
        bind="query-params",
        on_change=_read_from_the_better_end,
    )
    descending = right.toggle("Largest first", key="descending", bind="query-params")
    return str(threat), str(sort), bool(descending)


def _columns(rows: pd.DataFrame, sort: str, everything: bool) -> list[str]:
    """The columns that are sent for some rows; that by which they are sorted is one of them."""
    marks = {
        "collapsed": bool(rows["collapsed"].any()),
        "tuned": bool(rows["tuned_on"].any()),
        "verified": bool(rows["verified"].any()),
    }
    if everything:
        return column_order(**marks)
    first = first_columns(**marks)
    return first if sort in first else [*first, sort]


def _how_much(count: int, last: int) -> tuple[int, bool]:
    """How many rows the browser is sent, and whether all columns; both can be asked for, and stand in the URL.

    Args:
        count: of the rows that there are. last: position of the last one that a link selects, -1 for none.
    """
    with st.container(horizontal=True):
        everything = st.toggle(
            "All columns",
            key="all_columns",
            bind="query-params",
            help="Intervals, the undefended model, seconds, victim and preset, too.",
        )
        if count <= AT_FIRST:
            return count, everything
        most = min(count, SHOWN)
        all_rows = st.toggle(f"All {most} rows", key="all_rows", bind="query-params")
    return most if all_rows or last >= AT_FIRST else AT_FIRST, everything


def table(rows: pd.DataFrame, sort: str) -> pd.DataFrame | None:
    """The rows, and those the reader selected, which the URL names by group and source.

    Args:
        sort: the column that they are sorted by.
    """
    asked, link_number = link.read("rows")
    names = list(rows["group"] + "-" + rows["source"])
    last = max((place for place, name in enumerate(names[:SHOWN]) if name in asked), default=-1)
    most, everything = _how_much(len(rows), last)
    shown = rows.head(most)
    names = names[:most]
    known = [names.index(name) for name in dict.fromkeys(asked) if name in names]
    missing = len(set(asked) - set(names))
    if missing:
        st.warning(_not_shown(missing))
    columns = _columns(shown, sort, everything)
    worded = shown.assign(verified=verified_words(shown))
    event = st.dataframe(
        worded[columns],
        column_order=columns,
        column_config={name: look for name, look in _column_config().items() if name in columns},
        hide_index=True,
        placeholder=NONE,
        height=tables.height(len(shown)),
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={"selection": {"rows": known}},
        # positions mean nothing once the rows change, so a changed table starts anew from the URL
        key=f"board-{hash(tuple(names))}-{link_number}",
        alt="Leaderboard, one row for each experiment; select one row to open it, two to compare them",
    )
    if len(rows) > most:
        st.caption(f"The first {most} of {len(rows)} rows. Filter to see others; the downloads hold all.")
    picked = [i for i in event["selection"]["rows"] if i < len(shown)]
    link.write("rows", [names[i] for i in picked])
    if not picked:
        st.caption("Select a row to open its runs, two or more to see what differs between them.")
        return None
    return shown.iloc[picked]


def _column_config() -> dict[str, Any]:
    """How the columns look, each defined on hover."""
    column = st.column_config
    look: dict[str, Any] = {
        "defense": column.TextColumn("defense", width=130),  # the first rows need not hold the longest name
        "settings": column.TextColumn("Changed", help=glossary.help_for("settings"), width="small"),
        "n": column.NumberColumn("n", help=glossary.help_for("n"), format="%d", width="small"),
        "seconds": column.NumberColumn("Seconds", help=glossary.help_for("seconds"), format="%.0f"),
        "tuned_on": column.NumberColumn(
            "Tuned on", help=glossary.help_for("tuned_on"), format="%d", width="small"
        ),
        "diverged": column.NumberColumn("Diverged", help=glossary.help_for("diverged"), format="%d"),
        "collapsed": column.NumberColumn(
            "Collapsed", help=glossary.help_for("collapsed"), format="%d", width="small"
        ),
        "verified": column.TextColumn("Verified", help=glossary.help_for("verified"), width="small"),
        "source": column.TextColumn("Source", help=glossary.help_for("source")),
    }
    for metric in catalogue.board():
        look[metric.name] = _metric_column(metric)
        low, high = interval_columns(metric)
        interval = glossary.help_for("interval")
        look[low] = column.NumberColumn(f"{metric.label} from", help=interval, format="percent")
        look[high] = column.NumberColumn(f"{metric.label} to", help=interval, format="percent")
    return look


def _metric_column(metric: Metric) -> Any:
    """A bar where the metric has an interval, a percentage of other rates, else a number."""
    if metric.interval:
        return tables.share(metric.name, metric.heading, POISONED if metric.better == "lower" else CLEAN)
    if metric.rate:
        return tables.percentage(metric.name, metric.heading)
    digits = "%d" if metric.unit is Unit.COUNT else "%.3g"
    return st.column_config.NumberColumn(metric.heading, help=metric.text, format=digits)


def _not_shown(count: int) -> str:
    rows = "One row" if count == 1 else f"{count} rows"
    return (
        f"{rows} of this link cannot be selected: hidden by the filters, or not among the results here. "
        "Clear the filters and select rows in the table."
    )


def as_parquet(rows: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    _plain(rows).to_parquet(buffer, index=False)
    return buffer.getvalue()


def as_csv(rows: pd.DataFrame) -> bytes:
    return str(_plain(rows).to_csv(index=False)).encode()


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    return plain(runtime.get().store.leaderboard.with_run_ids(rows))


def downloads(rows: pd.DataFrame) -> None:
    """All rows that fit the filters; the files are made when somebody clicks."""
    with st.container(horizontal=True):
        for label, make, mime in (
            ("CSV", as_csv, "text/csv"),
            ("Parquet", as_parquet, "application/octet-stream"),
        ):
            st.download_button(
                label,
                partial(make, rows),
                f"poisonlab-leaderboard.{label.lower()}",
                mime,
                on_click="ignore",
                icon=":material/download:",
            )


def selection(rows: pd.DataFrame) -> None:
    """One row: its runs and where to look at them. Several: what differs."""
    store = runtime.get().store
    with st.container(border=True):
        opened = [row for row in dicts(store.leaderboard.with_run_ids(rows)) if row["run_ids"]]
        records = [(row, results.record(row["run_ids"][0])) for row in opened]
        for row, record in records:
            if record is None:
                continue
            name = f"**{escape(row['dataset'])} · {escape(row['attack'])} · {escape(row['defense'])}**"
            low = percent(row["success_low"])
            high = percent(row["success_high"])
            spread = f", 95 % interval {low} to {high}" if NONE not in (low, high) else ""
            seeds = "one seed" if row["n"] == 1 else f"{row['n']} seeds"
            st.markdown(f"{name}: attack success {percent(row['success'])} over {seeds}{spread}")
            if len(records) == 1:
                st.caption("Runs of this row, by seed:")
                _runs(row)
            page.other_views(record)
        usable = [record for _, record in records if record is not None]
        if len(usable) > 1:
            st.markdown("**What differs**")
            st.dataframe(
                differences(usable), hide_index=True, placeholder=NONE, alt="What differs between the rows"
            )
            from poisonlab.ui import pictures  # noqa: PLC0415 - brings torch, which a page of tables does not need

            pictures.beside(usable)
            if len(usable) <= exports.COMPARED:
                exports.report_button(
                    partial(exports.comparison_report, usable),
                    "poisonlab-comparison",
                    key="comparison_report",
                )


def _runs(row: dict[str, Any]) -> None:
    """A link for each repeat."""
    kind = "triggers" if row["threat"] == "backdoor" else "poisons"
    with st.container(horizontal=True):
        for run_id in row["run_ids"][:12]:
            record = results.record(run_id)
            if record is not None:
                navigation.link(kind, f"seed {record.spec.seed}", run=run_id)


def differences(records: list[Any]) -> pd.DataFrame:
    """Metrics and parameters that are not the same in all records, one row each."""
    columns = [f"{n + 1}: {r.spec.attack.name}, {r.spec.defense.name}" for n, r in enumerate(records)]
    table = []
    for name, values in differing_metrics(records).items():
        shown = percent if glossary.define(name).rate else number
        table.append([glossary.label(name), *map(shown, values)])
    for name, values in differing_settings(records).items():
        table.append([name, *(NONE if value is None else str(value) for value in values)])
    return pd.DataFrame(table, columns=["what", *columns])
