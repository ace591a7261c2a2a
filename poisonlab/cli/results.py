"""``list``, ``leaderboard``, ``report``, ``export``, ``import`` and ``doctor``.

What needs a database is imported where it is used: the others also work on a bare GPU node.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import poisonlab
from poisonlab.cli.terminal import FAILED, OK, UsageError, one_line, say, table
from poisonlab.measure import catalogue, recorded
from poisonlab.records import archive
from poisonlab.records.record import RecordError, check_run_id
from poisonlab.spec import describe

_NAMES = ("dataset", "attack", "defense", "preset", "source", "n", "collapsed", "verified")


def _shown() -> list[str]:
    """Columns of the printed leaderboard: metrics in sight, and all that belongs to the attack's success."""
    names = list(_NAMES)
    for metric in catalogue.board():
        of_success = metric.stands_for is not None
        if metric.column == "first" or of_success:
            names.append(metric.name)
        if metric.interval and of_success:
            names += [f"{metric.name}_low", f"{metric.name}_high"]
    return [*names, "seconds", "settings"]


def list_(options: argparse.Namespace) -> int:
    kinds = [options.what] if options.what else list(describe.PLURALS)
    found = {kind: describe.describe_all(kind) for kind in kinds}
    if options.json:
        print(json.dumps(found[options.what] if options.what else found))
        return OK
    for kind, methods in found.items():
        print(f"{kind.upper()}\n")
        for method in methods:
            paper = f" ({method['paper']})" if method["paper"] else ""
            print(f"{method['name']}: {method['title']}{paper}\n{method['summary']}")
            if "protocols" in method:
                print(f"Runs under {', '.join(method['protocols'])}.")
            rows = [
                (
                    p["name"],
                    _plain(p["paper"]),
                    _plain(p["full"]),
                    _plain(p["quick"]),
                    describe.allowed(p),
                    p["unit"],
                    p["description"],
                )
                for p in method["parameters"]
            ]
            print(
                table(("parameter", "paper", "full", "quick", "allowed", "unit", "meaning"), rows)
                or "no parameters"
            )
            print()
    return OK


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{v} ({'else' if k == '*' else k})" for k, v in value.items())
    return str(value)


def leaderboard(options: argparse.Namespace) -> int:
    if options.rank:
        from poisonlab.cli.ranking import ranking  # noqa: PLC0415 - the core works without a database

        return ranking(options)
    for form in ("latex", "bibtex"):
        if getattr(options, form):
            raise UsageError(f"--{form} writes a ranking; add --rank")
    from poisonlab.cli.frames import say_left_out, written  # noqa: PLC0415 - the core works without a database
    from poisonlab.store import asked, plain  # noqa: PLC0415 - the same
    from poisonlab.store.leaderboard import verified_words  # noqa: PLC0415 - the same

    try:
        found = asked.leaderboard(
            options.results,
            dataset=options.dataset,
            attack=options.attack,
            defense=options.defense,
            preset=options.preset,
            source=options.source,
            sort=options.sort,
            descending=options.descending,
            run_ids=bool(options.parquet or options.csv or options.json),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    say_left_out(found)
    board = found.rows
    if not written(plain(board) if options.csv else board, options):
        shown = _shown()
        worded = board.assign(verified=verified_words(board))
        rows = worded[shown].astype(object).values.tolist()
        print(table(shown, rows) or "no finished runs yet; start with: python -m poisonlab run --help")
    return OK


def report(options: argparse.Namespace) -> int:
    from poisonlab.cli.report import report as written  # noqa: PLC0415 - the core works without a database

    return written(options)


def export(options: argparse.Namespace) -> int:
    if bool(options.runs) == options.all:
        raise UsageError("export takes either --runs id,id or --all")
    try:
        run_ids = None if options.all else [check_run_id(i) for i in options.runs.split(",") if i]
    except RecordError as error:
        raise UsageError(str(error)) from None
    if run_ids is not None and not run_ids:
        raise UsageError(f"--runs names no run: {options.runs[:80]!r}")
    own = options.results / "runs"
    with tempfile.TemporaryDirectory() as folder:
        absent = [run_id for run_id in run_ids or () if not (own / run_id).exists()]
        if absent:
            from poisonlab.store.shipped import extract  # noqa: PLC0415 - needs a database, in memory

            extract(absent, poisonlab.reference_folder(), Path(folder))
        moved = archive.export_runs(run_ids, [own, Path(folder)], options.folder)
    missing = 0
    if options.with_models or options.with_data:
        from poisonlab.cli.takeout import take_out  # noqa: PLC0415 - brings torch, which a plain copy needs not

        missing = take_out([*moved.copied, *moved.present], options)
    code = _report(moved, f"exported to {options.folder}")
    return FAILED if missing else code


def import_(options: argparse.Namespace) -> int:
    moved = archive.import_runs(options.folder, options.results / "runs", shipped(), recorded.check_ranges)
    index(options.results)
    return _report(moved, f"imported from {options.folder}")


def shipped() -> set[str]:
    """Ids of the runs that come with the program; none where there is no database to read them by."""
    try:
        from poisonlab.store.shipped import shipped_ids  # noqa: PLC0415 - may be missing
    except ImportError:
        return set()
    return shipped_ids(poisonlab.reference_folder())


def _report(moved: archive.Moved, what: str) -> int:
    for folder, reason in moved.refused.items():
        say(f"{folder} refused: {one_line(RecordError(reason))}")
    rest = f"{len(moved.present)} were there already, {len(moved.refused)} refused"
    print(f"{len(moved.copied)} runs {what}, {rest}")
    return FAILED if moved.refused else OK


def doctor(options: argparse.Namespace) -> int:
    from poisonlab.cli.doctor import examine  # noqa: PLC0415

    found = examine(options.results)
    for what, works, text in found:
        print(f"{'ok' if works else '!!':2}  {what}: {text}")
    return OK if all(works for _, works, _ in found) else FAILED


def index(results: Path) -> None:
    """Index into the database, if there is one and no other process holds it."""
    try:
        from poisonlab.store import Store, StoreError, StoreLocked  # noqa: PLC0415 - may be missing
    except ImportError as error:
        say(f"{error.name} is not installed: run folders are written, but nothing indexes them here")
        return
    try:
        Store(results).close()
    except StoreLocked as error:
        holder = f"PID {error.pid}" if error.pid else "another process"
        say(
            f"the dashboard ({holder}) holds the database: it finds new runs by itself, now or when it starts"
        )
    except StoreError as error:
        say(f"not indexed: {one_line(error)}")
