"""``reproduce``: measure the cells of a published table, in slices of a few minutes."""

import argparse
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poisonlab import machine
from poisonlab.cli.results import index
from poisonlab.cli.terminal import FAILED, OK, ProgressLine, UsageError, say, table
from poisonlab.cli.wording import compared, measured
from poisonlab.measure import recorded
from poisonlab.published.specs import NotRunnable, cells, specs_of
from poisonlab.published.tables import Method, PublishedTable, Settings, published_tables
from poisonlab.records.record import RunRecord, new_run_id
from poisonlab.spec.config import ExperimentSpec

if TYPE_CHECKING:
    from poisonlab.runner.timeslice import TimeSlice


@dataclass(frozen=True)
class Job:
    """One run of a cell of the table.

    Attributes:
        part: which run of its cell, such as ``target_class 3``; empty for the only one.
    """

    attack: str
    defense: str
    spec: ExperimentSpec
    part: str = ""

    @property
    def key(self) -> tuple[str, int]:
        return self.spec.group(), self.spec.seed

    @property
    def cell(self) -> tuple[str, str]:
        return self.attack, self.defense


def reproduce(options: argparse.Namespace) -> int:
    tables = published_tables()
    if options.table is None:
        if not options.list:
            raise UsageError(f"reproduce takes --list or one of: {', '.join(tables)}")
        print(_overview(tables))
        return OK
    if options.table not in tables:
        raise UsageError(f"unknown table {options.table!r}; choose one of: {', '.join(tables)}")
    published = tables[options.table]
    jobs, quoted = _jobs(published, options)
    past = _past(options.results / "runs", {job.key for job in jobs})
    if options.list:
        print(_cells(published, jobs, quoted, past))
        return OK
    if not 0 < options.minutes < float("inf"):
        raise UsageError(f"--minutes must be more than 0, got {options.minutes:g}")
    if not jobs:
        raise UsageError(
            f"nothing of {published.id} can be run: {quoted[0][2] if quoted else 'no cell fits'}"
        )
    machine.resolve_device(options.device)
    code = _work(published, jobs, past, options)
    index(options.results)
    return code


# -- which cells --------------------------------------------------------------------------------------


def _jobs(
    published: PublishedTable, options: argparse.Namespace
) -> tuple[list[Job], list[tuple[str, str, str]]]:
    """What can be measured, attack by attack, and what cannot: (attack, defense, why)."""
    attacks = _chosen("--only", options.only, published.attacks)
    defenses = _chosen("--defenses", options.defenses, published.defenses)
    jobs = []
    quoted = []
    for attack, defense in cells(published):
        if (attacks is None or attack in attacks) and (defenses is None or defense in defenses):
            try:
                specs = specs_of(published, attack, defense, options.recipe, options.seed)
            except NotRunnable as reason:
                quoted.append((attack, defense, str(reason)))
                continue
            choices = published.attacks[attack].choices()
            jobs += [Job(attack, defense, s, _part(choice)) for s, choice in zip(specs, choices, strict=True)]
    return jobs, quoted


def _part(choice: Settings) -> str:
    """``{"attack.target_class": 3}`` -> ``target_class 3``."""
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in choice.items())


def _chosen(option: str, text: str | None, known: Mapping[str, Method]) -> list[str] | None:
    """Keys of the table, by key or else by registered name, which several may share; ``None`` for all."""
    if text is None:
        return None
    found: list[str] = []
    for name in filter(None, text.split(",")):
        keys = [name] if name in known else [key for key, method in known.items() if name == method.name]
        if not keys:
            raise UsageError(f"{option} {name!r} is not in this table; choose among: {', '.join(known)}")
        found += keys
    if not found:
        raise UsageError(f"{option} names nothing; choose among: {', '.join(known)}")
    return found


def _past(runs: Path, keys: set[tuple[str, int]]) -> list[RunRecord]:
    """Records of these specs in a results folder, finished and failed ones."""
    return [r for r in recorded.records_in(runs) if r.spec.preset != "quick" and _key(r) in keys]


def _key(record: RunRecord) -> tuple[str, int]:
    return record.spec.group(), record.spec.seed


def in_order(jobs: list[Job]) -> list[Job]:
    """All defenses of one attacked model after each other: its poison and its victim are in the cache then."""
    attacks = list(dict.fromkeys(job.attack for job in jobs))
    parts = list(dict.fromkeys(job.part for job in jobs))
    return sorted(jobs, key=lambda job: (attacks.index(job.attack), parts.index(job.part), job.spec.seed))


# -- work ---------------------------------------------------------------------------------------------


def _work(
    published: PublishedTable, jobs: list[Job], past: list[RunRecord], options: argparse.Namespace
) -> int:
    from poisonlab.runner.timeslice import SliceOver, TimeSlice  # noqa: PLC0415 - slow, and --list needs none

    done = {_key(record): record for record in past if record.state == "done"}
    failed_before = {_key(record) for record in past if record.state == "failed"}
    open_jobs = in_order([job for job in jobs if job.key not in done])
    open_jobs.sort(key=lambda job: job.key in failed_before)  # what failed before is tried again last
    time_slice = TimeSlice(60 * options.minutes, ProgressLine())
    kind = machine.resolve_device(options.device).type
    time_slice.learn(record for record in past if record.state == "done" and record.device.startswith(kind))
    failures = 0
    stopped = None
    for job in open_jobs:
        say(f"[{len(done) + 1}/{len(jobs)}] {published.id}: {_name(published, job)}, seed {job.spec.seed}")
        try:
            record = _run(job, time_slice, options)
        except SliceOver as over:
            stopped = over
            break
        if record.state == "done":
            done[job.key] = record
            _tell(published, job, record, [done.get(other.key) for other in jobs if other.cell == job.cell])
        else:
            failures += 1
            print(f"{_name(published, job)}: {record.state}; {record.message}", flush=True)
        if time_slice.left <= 0:
            break
    finished = sum(job.key in done for job in jobs)
    if finished == len(jobs):
        print(f"{finished} of {len(jobs)} done")
        return OK
    if stopped and not time_slice.computed and not failures:
        minutes = stopped.seconds / 60
        print(
            f"{finished} of {len(jobs)} done; the stage {stopped.stage} of the next run takes about {minutes:.1f} "
            f"minutes and does not fit into --minutes {options.minutes:g}: allow more"
        )
        return FAILED
    if finished + failures == len(jobs):
        print(f"{finished} of {len(jobs)} done, {failures} failed")
        return FAILED
    rest = f", {failures} failed" if failures else ""
    print(f"{finished} of {len(jobs)} done{rest}, run the same command again")
    return OK


def _run(job: Job, time_slice: "TimeSlice", options: argparse.Namespace) -> RunRecord:
    """One run; what an interrupted one leaves is its whole stages in the cache."""
    from poisonlab.runner.recorder import Interrupted, run_and_record  # noqa: PLC0415

    runs = options.results / "runs"
    run_id = new_run_id()
    time_slice.begin(job.spec)
    try:
        return run_and_record(
            job.spec,
            runs,
            run_id=run_id,
            device=options.device,
            cache_root=options.results / "cache",
            send=time_slice,
        )
    except Interrupted:
        shutil.rmtree(runs / run_id, ignore_errors=True)
        raise


# -- words --------------------------------------------------------------------------------------------


def _tell(
    published: PublishedTable, job: Job, record: RunRecord, of_cell: Sequence[RunRecord | None]
) -> None:
    """What a run measured, and its cell once that is whole."""
    if job.part:
        print(f"{_name(published, job)}: {measured(record)}, {record.seconds:.0f} s", flush=True)
    whole = [r for r in of_cell if r]
    if whole and len(whole) == len(of_cell):
        number = published.values.get(job.attack, {}).get(job.defense)
        took = f"{len(whole)} runs" if job.part else f"{record.seconds:.0f} s"
        print(f"{_cell_name(published, job)}: {compared(number, whole)}, {took}", flush=True)


def _cell_name(published: PublishedTable, job: Job) -> str:
    return f"{published.attacks[job.attack].label} × {published.defenses[job.defense].label}"


def _name(published: PublishedTable, job: Job) -> str:
    return f"{_cell_name(published, job)}{', ' if job.part else ''}{job.part}"


def _overview(tables: dict[str, PublishedTable]) -> str:
    rows = []
    for published in tables.values():
        numbers = [(attack, defense) for attack, defense, _ in published.numbers()]
        runnable = sum(_state(published, *cell) is None for cell in numbers)
        rows.append((published.id, len(numbers), runnable, published.provenance, published.title))
    return table(("table", "cells", "can be run", "numbers", "title"), rows)


def _state(published: PublishedTable, attack: str, defense: str) -> str | None:
    """Why a cell cannot be run, or ``None``."""
    try:
        specs_of(published, attack, defense)
    except NotRunnable as reason:
        return str(reason)
    return None


def _cells(
    published: PublishedTable, jobs: list[Job], quoted: list[tuple[str, str, str]], past: list[RunRecord]
) -> str:
    states = {
        _key(record): record.state for record in sorted(past, key=lambda r: (r.state == "done", r.finished))
    }
    of_cell: dict[tuple[str, str], list[str]] = defaultdict(list)
    for job in jobs:
        of_cell[job.cell].append(states.get(job.key, "to do"))
    rows: list[tuple[Any, ...]] = []
    for cell, found in of_cell.items():
        done = found.count("done")
        state = found[0] if len(set(found)) == 1 else f"{done} of {len(found)} done"
        rows.append((*cell, *_reported(published, *cell), state))
    rows += [(a, d, *_reported(published, a, d), f"published only: {reason}") for a, d, reason in quoted]
    return table(("attack", "defense", "accuracy", "success", "here"), rows)


def _reported(published: PublishedTable, attack: str, defense: str) -> tuple[float | None, float | None]:
    number = published.values.get(attack, {}).get(defense)
    return (None, None) if number is None else (number.accuracy, number.success)
