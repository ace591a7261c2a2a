"""``submit`` and ``verify``: a run as one file that proves itself, and the same numbers out of such a file."""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from poisonlab.cli.results import index, shipped
from poisonlab.cli.terminal import FAILED, OK, ProgressLine, UsageError, check_target, one_line, say, table
from poisonlab.data.base import DataError
from poisonlab.measure.recorded import check_ranges
from poisonlab.pipeline.reopen import NotKept
from poisonlab.pipeline.submission import Submitted, members_of, submitted
from poisonlab.pipeline.takeout import open_run
from poisonlab.pipeline.verify import Verdict, verify
from poisonlab.records import archive, verified
from poisonlab.records.record import (
    RECORD,
    RecordError,
    check_run_id,
    parse_record,
    read_values,
    write_atomically,
)
from poisonlab.records.submission import SubmissionError, pack, unpack
from poisonlab.runner.recorder import cache_at


def submit(options: argparse.Namespace) -> int:
    """Write a run of this results folder with its networks into one file."""
    if options.to:
        check_target("--to", options.to)
    try:
        run_id = check_run_id(options.run)
    except RecordError as error:
        raise UsageError(str(error)) from None
    folder = options.results / "runs" / run_id
    values, _ = read_values(folder)
    record = parse_record(values, f"{run_id}/{RECORD}")
    if record.state != "done":
        raise SubmissionError(f"run {run_id} {record.state}; only finished runs are submitted")
    try:
        opened = open_run(record, options.results / "cache")
    except (NotKept, DataError) as error:
        say(f"poisonlab: {one_line(error)}")
        return FAILED
    raw, name = pack(members_of(values, opened))
    target: Path = options.to or Path(f"poisonlab-{run_id}.zip")
    write_atomically(target, raw)
    print(f"{target}: {len(raw):,} bytes, submission {name}")
    return OK


def verify_(options: argparse.Namespace) -> int:
    """Measure a submission again; a run whose numbers are as claimed is marked in this results folder."""
    try:
        members, name = unpack(options.file)
        claim = submitted(members)
        verdict = verify(claim, cache_at(options.results / "cache"), options.device, ProgressLine())
    except (
        ValueError,
        LookupError,
        RuntimeError,
    ) as error:  # whatever a stranger's spec makes a method raise
        say(f"poisonlab: refused: {one_line(error)}")
        return FAILED
    if verdict.verified:
        verified.mark(options.results, claim.record, name, verdict.device)
        if options.take_in:
            _take_in(members[RECORD], options.results)
        index(options.results)
    _tell(claim, name, verdict, options)
    return OK if verdict.verified else FAILED


def _take_in(raw: bytes, results: Path) -> None:
    """The record of a submission among the runs, as an imported one; one that is there already stays."""
    with tempfile.TemporaryDirectory() as folder:
        write_atomically(Path(folder) / RECORD, raw)
        moved = archive.import_runs(Path(folder), results / "runs", shipped(), check_ranges)
    for reason in moved.refused.values():
        raise RecordError(f"the run is not taken in: {reason}")


def _tell(claim: Submitted, name: str, verdict: Verdict, options: argparse.Namespace) -> None:
    run_id = claim.record.run_id
    if options.json:
        said = asdict(verdict) | {"run_id": run_id, "submission": name, "verified": verdict.verified}
        print(json.dumps(said))
        return
    compared = [n for n in verdict.numbers if n.state != "not verified"]
    print(
        table(
            ("metric", "claimed", "measured", ""),
            [(n.name, n.claimed, n.measured, n.state) for n in compared],
        )
    )
    left = [n.name for n in verdict.numbers if n.state == "not verified"]
    if left:
        print(f"not verified, as weights do not give them: {', '.join(left)}, seconds")
    if verdict.reason:
        print(f"the attack's success is not verified: {verdict.reason}")
    if not verdict.collapsed:
        print("other models than claimed give nearly one answer to every image")
    allowed = f"may differ by {verdict.tolerance:.4g}" if verdict.tolerance else "must be equal"
    print(f"submission {name}, run {run_id}, measured on {verdict.device}: numbers {allowed}")
    print(f"run {run_id} is {'verified' if verdict.verified else 'NOT verified'}")
