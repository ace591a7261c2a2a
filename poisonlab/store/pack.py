"""Packing run folders into the few files that :mod:`poisonlab.store.shipped` reads: equal runs give equal bytes."""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from poisonlab.measure import recorded
from poisonlab.records.record import (
    RECORD,
    RecordError,
    RunRecord,
    check_artifacts,
    parse_record,
    read_values,
    write_atomically,
)
from poisonlab.store.database import Database
from poisonlab.store.index import insert
from poisonlab.store.shipped import MANIFEST, RECORDS, TABLES, Manifest, Shipped, Shown, open_shipped
from poisonlab.store.showcase import Candidate, choose
from poisonlab.words.pages import HOME, SHOWS

OPENED = SHOWS | HOME
_ORDER = {"runs": "run_id"}  # rows of the other tables keep the order in which a run recorded them
_COPY = "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 15, ROW_GROUP_SIZE 40000)"


@dataclass(frozen=True)
class Packed:
    """What was packed: how many runs, the showcase, and the run folders that were left out, with the reason.

    ``absent`` are runs that were to be left out and that no source holds.
    """

    runs: int
    showcase: Sequence[Shown]
    refused: dict[str, str]
    absent: Sequence[str]


@dataclass(frozen=True)
class Found:
    """A run that is to be packed.

    Attributes:
        values: its record as it was written.
        sha256: of the file of its record.
        folder: holds its artifacts; ``None`` where they are not at hand.
    """

    record: RunRecord
    values: dict[str, Any]
    sha256: str
    folder: Path | None


def pack(
    source: Path,
    target: Path,
    more: Sequence[Path] = (),
    without: Collection[str] = (),
    openers: Mapping[str, str] | None = None,
) -> Packed:
    """Pack every run of ``source``, a results folder, a folder of run folders or an earlier pack, into ``target``.

    Args:
        more: other sources; of a run that several hold, the first counts.
        without: runs that are left out, such as those of code that has changed since.
        openers: by the name of a page the run on which it opens. Those of earlier packs stay where none is named.

    Raises:
        RecordError: a source holds no run, none is left, a page of ``openers`` is none or cannot show its run, or
            ``target`` holds something else than a pack. OSError: the disk refuses.
    """
    if target.exists() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise RecordError(f"{target} holds other files: name a new folder, or that of an earlier pack")
    refused: dict[str, str] = {}
    runs: dict[str, Found] = {}
    for place in (source, *more):
        held = list(_collect(place, refused))
        if not held:
            raise RecordError(f"{place} holds no run: expected {RECORD} in its subfolders, or {MANIFEST}")
        for one in held:
            known = runs.get(one.record.run_id)
            if known is None:
                runs[one.record.run_id] = one
            elif known.folder is None and known.sha256 == one.sha256:  # an earlier pack left its pictures out
                runs[one.record.run_id] = replace(known, folder=one.folder)
    found = [run for run_id, run in sorted(runs.items()) if run_id not in without]
    if not found:
        raise RecordError(f"all {len(runs)} runs are to be left out: nothing remains to be packed")
    opening = _openers([source, *more], openers or {}, found)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        showcase = _copy_showcase(found, set(opening.values()), temporary)
        hashes = _write_tables(found, {shown.run_id for shown in showcase}, temporary)
        manifest = Manifest(runs=len(found), files=hashes, showcase=showcase, openers=opening)
        write_atomically(temporary / MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Packed(len(found), showcase, refused, [run_id for run_id in without if run_id not in runs])


# -- collecting -----------------------------------------------------------------------------------


def _collect(source: Path, refused: dict[str, str]) -> Iterable[Found]:
    root = source / "runs" if (source / "runs").is_dir() else source
    if (root / MANIFEST).is_file():
        yield from _of_pack(open_shipped(root))
        return
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.is_symlink() or not (folder / RECORD).is_file():
            continue
        try:
            values, sha256 = read_values(folder)
            record = parse_record(values, folder.name)
            recorded.check_ranges(record)
        except ValueError as error:  # a RecordError is one
            refused[folder.name] = str(error)
            continue
        yield Found(record, values, sha256, folder)


def _of_pack(shipped: Shipped) -> Iterable[Found]:
    if shipped.problem:
        raise RecordError(shipped.problem)
    db = Database(None, list(shipped.tables.values()))
    try:
        shipped.create_views(db)
        for run_id, sha256 in db.rows("SELECT run_id::VARCHAR, record_hash FROM runs"):
            folder = shipped.folder / run_id if run_id in shipped.showcase else None
            values = shipped.values(db, run_id)
            yield Found(parse_record(values, run_id), values, sha256, folder)
    finally:
        db.close()


# -- writing --------------------------------------------------------------------------------------


def _openers(sources: Sequence[Path], named: Mapping[str, str], found: Sequence[Found]) -> dict[str, str]:
    """The run on which each page opens: as named, else as in the first earlier pack that says so."""
    at_hand = {one.record.run_id for one in found if one.folder is not None}
    absent = sorted(set(named.values()) - at_hand)
    if absent:
        raise RecordError(f"a page cannot open on {', '.join(absent)}: no source holds its pictures")
    kinds = {one.record.run_id: {item.kind for item in one.record.artifacts} for one in found}
    for page, run_id in named.items():
        if page not in OPENED:
            raise RecordError(
                f"there is no page {page[:60]!r} that opens on a run; choose one of: {', '.join(OPENED)}"
            )
        if not kinds[run_id] & set(OPENED[page]):
            raise RecordError(
                f"the page {page} cannot open on {run_id}: it recorded none of {', '.join(OPENED[page])}"
            )
    earlier: dict[str, str] = {}
    for source in reversed(sources):
        earlier |= open_shipped(source).openers
    kept = {page: run_id for page, run_id in earlier.items() if run_id in at_hand}
    return dict(sorted({**kept, **named}.items()))


def _copy_showcase(found: Sequence[Found], first: Collection[str], target: Path) -> list[Shown]:
    """Choose the runs whose artifacts are shipped, and copy these, each checked against its hash."""
    at_hand = {one.record.run_id: one for one in found if one.folder is not None}
    showcase = choose(
        (_candidate(one.record, one.folder) for one in at_hand.values() if one.folder), first=first
    )
    for shown in showcase:
        one = at_hand[shown.run_id]
        (target / shown.run_id).mkdir()
        for item, raw in check_artifacts(one.record, one.folder or target):
            (target / shown.run_id / item.file).write_bytes(raw)
    return showcase


def _candidate(record: RunRecord, folder: Path) -> Candidate:
    files = [folder / item.file for item in record.artifacts]
    whole = all(file.is_file() for file in files)
    return Candidate(
        run_id=record.run_id,
        dataset=record.spec.dataset.name,
        attack=record.spec.attack.name,
        defense=record.spec.defense.name,
        kinds=frozenset(item.kind for item in record.artifacts),
        seed=record.spec.seed,
        size=sum(file.stat().st_size for file in files) if whole else 0,
        done=whole and record.state == "done",
    )


def _write_tables(found: Sequence[Found], showcase: set[str], target: Path) -> dict[str, str]:
    """Write the Parquet files; their names with their SHA-256."""
    db = Database(None, folder=target)
    try:
        with db.transaction() as cursor:
            insert(cursor, [(one.record, one.sha256) for one in found], "reference")
            _insert_records(cursor, found)
        with db.cursor() as cursor:
            cursor.execute("SET threads = 1")  # rows keep their order, whatever the machine
            for table in (*TABLES, RECORDS):
                cursor.execute(
                    f"COPY ({_query(table, showcase)}) TO '{_literal(target / table)}.parquet' {_COPY}"
                )
    finally:
        db.close()
    names = [f"{table}.parquet" for table in (*TABLES, RECORDS)]
    return {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in names}


def _query(table: str, showcase: set[str]) -> str:
    if table == RECORDS:
        return "SELECT * FROM records ORDER BY run_id"
    order = _ORDER.get(table, "run_id, rowid")
    if table != "artifacts":
        return f"SELECT * FROM own_{table} ORDER BY {order}"
    ids = ", ".join(f"'{run_id}'" for run_id in sorted(showcase))
    present = f"run_id::VARCHAR IN ({ids})" if ids else "false"
    return f"SELECT *, {present} AS present FROM own_artifacts ORDER BY {order}"


def _insert_records(cursor: duckdb.DuckDBPyConnection, found: Sequence[Found]) -> None:
    """A table of records as they were written; curves and log have tables of their own."""
    cursor.execute("CREATE TABLE records (run_id UUID, record VARCHAR)")
    texts = [json.dumps(one.values | {"points": [], "logs": []}) for one in found]
    ids = [one.record.run_id for one in found]
    cursor.execute("INSERT INTO records SELECT unnest(?::UUID[]), unnest(?::VARCHAR[])", [ids, texts])


def _literal(path: Path) -> str:
    return str(path.absolute()).replace("'", "''")
