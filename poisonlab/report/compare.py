"""Several runs side by side as a document: what differs, what came out, what each recorded."""

from collections.abc import Sequence
from typing import Any

from poisonlab.records.differences import differing_settings
from poisonlab.records.record import RunRecord
from poisonlab.records.recorded_spec import PARTS
from poisonlab.report.document import document
from poisonlab.report.run import Recorded, again, headline_first, recorded, remarks, title_of, words_of
from poisonlab.spec.bibliography import bibtex
from poisonlab.spec.command import PROGRAM
from poisonlab.store.runs import Runs

MOST = 8  # runs whose columns fit beside each other


def compare_report(runs: Runs, records: Sequence[RunRecord]) -> str:
    """The document of runs of a store.

    Raises:
        ValueError: fewer than two runs, or more than :data:`MOST`.
    """
    if not 2 <= len(records) <= MOST:
        raise ValueError(f"a comparison takes 2 to {MOST} runs, not {len(records)}")
    return compare_document(records, [recorded(runs, record, trials=1) for record in records])


def compare_document(records: Sequence[RunRecord], found: Sequence[Recorded]) -> str:
    """The same of their records, and their pictures in the same order."""
    names = headline_first(records)
    methods = {kind: [getattr(record.spec, kind).name for record in records] for kind in PARTS}
    ids = " ".join(record.run_id for record in records)
    return document(
        "compare.html",
        f"{len(records)} runs compared",
        records=list(records),
        titles=[title_of(record) for record in records],
        remarks=[remarks(record) for record in records],
        settings=differing_settings(records),
        metrics={name: [record.metrics.get(name) for record in records] for name in names},
        shown=side_by_side(found),
        missing=[one.missing for one in found],
        words=words_of(names),
        bibtex=bibtex(methods),
        commands=[line for record in records for line in again(record)]
        + [f"{PROGRAM} report compare {ids} --to comparison.html"],
    )


def side_by_side(found: Sequence[Recorded]) -> dict[str, list[tuple[int, Any]]]:
    """Sections by their title, each with the place of the run that it belongs to."""
    titles = dict.fromkeys(section.title for one in found for section in one.sections)
    return {
        title: [
            (place, section)
            for place, one in enumerate(found)
            for section in one.sections
            if section.title == title
        ]
        for title in titles
    }
