"""``report``: a board, a run or a comparison as one HTML file that needs no network."""

import argparse

from poisonlab.cli.frames import say_left_out
from poisonlab.cli.ranking import block_asked_for
from poisonlab.cli.terminal import OK, UsageError, check_target, say
from poisonlab.records.record import RecordError, RunRecord, write_atomically
from poisonlab.report.board import board_report
from poisonlab.store import Store
from poisonlab.store.ranking import LOSS_ALLOWED


def report(options: argparse.Namespace) -> int:
    check_target("--to", options.to)
    makers = {"board": _board, "run": _run, "compare": _comparison}
    store = Store(options.results)
    try:
        text = makers[options.what](store, options)
    finally:
        store.close()
    say_left_out(store)
    data = text.encode()
    try:
        write_atomically(options.to, data)
    except OSError as error:
        raise UsageError(f"--to {options.to} cannot be written: {error.strerror or error}") from None
    say(f"{len(data) / 2**20:.1f} MB in {options.to}")
    return OK


def _board(store: Store, options: argparse.Namespace) -> str:
    allowed = LOSS_ALLOWED if options.loss_allowed is None else options.loss_allowed
    block = block_asked_for(store.rankings.blocks(), options)
    try:
        return board_report(store, block, options.rank, allowed)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _run(store: Store, options: argparse.Namespace) -> str:
    from poisonlab.report.run import run_report  # noqa: PLC0415 - brings torch, which a board does not need

    return run_report(store.runs, _record(store, options.run_id))


def _comparison(store: Store, options: argparse.Namespace) -> str:
    from poisonlab.report.compare import MOST, compare_report  # noqa: PLC0415 - the same

    run_ids = list(dict.fromkeys(options.run_ids))
    if not 2 <= len(run_ids) <= MOST:
        raise UsageError(f"compare takes 2 to {MOST} different runs, not {len(run_ids)}")
    return compare_report(store.runs, [_record(store, run_id) for run_id in run_ids])


def _record(store: Store, run_id: str) -> RunRecord:
    """The record of an id.

    Raises:
        UsageError: it is no id, or that of no run. RecordError: its folder is damaged.
    """
    try:
        known = bool(store.runs.home(run_id))
    except RecordError as error:
        raise UsageError(str(error)) from None
    record = store.runs.record(run_id) if known else None
    if record is None:
        raise UsageError(f"no run {run_id} here; `leaderboard --json` lists ids")
    return record
