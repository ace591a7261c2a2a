"""Records of runs that never were, in a store."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from poisonlab.measure import catalogue
from poisonlab.records.record import RunRecord, new_run_id, write_record
from poisonlab.spec.threats import THREATS
from poisonlab.store import Store
from poisonlab.store.pack import pack

# of a targeted attack before any defense
POISONED = {
    "clean_accuracy_undefended": 0.9,
    "poison_success_undefended": 0.75,
    "poison_success_control": 0.0,
}
START = datetime(2026, 1, 1, tzinfo=UTC)


def record_of(spec, *, day: int = 0, state: str = "done", source: str = "local", **measured) -> RunRecord:
    """A record as if ``spec`` had been run."""
    values = measured or {"clean_accuracy": 0.9, "asr": 0.5, "asr_undefended": 1.0, "asr_control": 0.0}
    threat = next((t for t in THREATS if catalogue.headline(t).name in values), None)
    time = START + timedelta(days=day)
    return RunRecord(
        run_id=new_run_id(),
        spec=spec,
        state=state,
        source=source,
        device="cpu",
        created=time,
        started=time,
        finished=time + timedelta(seconds=10),
        threat=threat,
        metrics=values,
        timings={"victim": 7.0, "repair": 2.0},
        points=[("victim", "loss", 1, 2.0)],
    )


def add(store: Store, record: RunRecord) -> RunRecord:
    write_record(record, store.index.runs / record.run_id)
    store.index.add(record)
    return record


def ship(records: Iterable[RunRecord], folder: Path) -> None:
    """Pack records into ``folder``, as the results that come with the program."""
    written = folder.with_name(f"{folder.name} unpacked")
    for record in records:
        write_record(record, written / record.run_id)
    pack(written, folder)
