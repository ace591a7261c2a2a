"""One run as a document: what was done, what came out, what it recorded, how to repeat it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from poisonlab.figures.curves import metric_curve
from poisonlab.measure import catalogue
from poisonlab.measure.metric import CONTROL, FAMILIES, UNDEFENDED
from poisonlab.records.differences import settings
from poisonlab.records.record import RecordError, RunRecord
from poisonlab.records.recorded_spec import PARTS
from poisonlab.registry import KINDS
from poisonlab.report.document import document
from poisonlab.report.parts import Drawing, Section, drawing
from poisonlab.report.recorded import sections
from poisonlab.spec.bibliography import bibtex
from poisonlab.spec.command import PROGRAM, run_command
from poisonlab.spec.describe import parameters
from poisonlab.store.runs import Runs
from poisonlab.store.shipped import NOT_SHIPPED
from poisonlab.words import glossary
from poisonlab.words.numbers import run_title

TRIALS = 4  # whose pictures a document shows: each adds up to a megabyte
_MODELS = {"control": "the control", "undefended": "the undefended model", "defended": "the defended model"}


@dataclass(frozen=True)
class Recorded:
    """What of a run's pictures is here.

    Attributes:
        sections: of the artifacts, those of several trials one trial after the other.
        missing: one sentence for each that is not here or cannot be read, and one for trials that are left out.
    """

    sections: tuple[Section, ...]
    missing: tuple[str, ...]


def run_report(runs: Runs, record: RunRecord) -> str:
    """The document of a run of a store."""
    return run_document(record, runs.points(record.run_id), recorded(runs, record))


def run_document(record: RunRecord, points: pd.DataFrame, found: Recorded) -> str:
    """The same of its curves (``stage``, ``name``, ``step``, ``value``) and its pictures."""
    return document(
        "run.html",
        f"Run {title_of(record)}",
        record=record,
        remarks=remarks(record),
        parts=[part_of(record, kind) for kind in PARTS],
        settings=settings_table(record),
        headline=headline(record),
        curves=curves(points),
        recorded=found,
        words=words_of(headline_first([record])),
        bibtex=bibtex({kind: [getattr(record.spec, kind).name] for kind in PARTS}),
        commands=[*again(record), f"{PROGRAM} report run {record.run_id} --to run.html"],
    )


def headline_first(records: Sequence[RunRecord]) -> list[str]:
    """Names of all metrics that any of the runs measured, those that sum them up first."""
    measured = dict.fromkeys(name for record in records for name in record.metrics)
    first = dict.fromkeys(name for record in records for name in catalogue.summary(record.threat))
    return [*(name for name in first if name in measured), *(name for name in measured if name not in first)]


def words_of(metrics: Iterable[str]) -> list[str]:
    """What has to be explained to read these metrics: each measure once, then the models that it is measured on."""
    found: dict[str, None] = {}
    families: dict[str, None] = {}
    for name in metrics:
        suffix = next((suffix for suffix in FAMILIES if name.endswith(suffix)), "")
        found[name.removesuffix(suffix)] = None
        if suffix:
            families[suffix.removeprefix("_")] = None
    return [*found, *families]


def title_of(record: RunRecord) -> str:
    """``digits · badnets · awm``."""
    spec = record.spec
    names = {kind: getattr(spec, kind).name for kind in PARTS}
    return f"{run_title(names)}, {spec.preset}, seed {spec.seed}"


def again(record: RunRecord) -> list[str]:
    """The command that measures the same numbers; a comment where this installation cannot."""
    if record.spec.obstacle():
        return [f"# cannot be run again here: {record.spec.obstacle()}"]
    return [run_command(record.spec.experiment())]


def part_of(record: RunRecord, kind: str) -> dict[str, str]:
    """A method of a run: the part it plays, its name, and what it does."""
    part = getattr(record.spec, kind)
    summary = f"This {kind} is not installed here."
    if part.installed:
        summary = str(KINDS[kind][part.name].card.summary)
    return {"kind": kind, "name": part.name, "title": part.title, "summary": summary}


def settings_table(record: RunRecord) -> list[dict[str, str]]:
    """All values that decided the result, with what each means where that is known."""
    meanings = {
        f"{kind}.{parameter['name']}": parameter["description"]
        for kind in PARTS
        if getattr(record.spec, kind).installed
        for parameter in parameters(KINDS[kind][getattr(record.spec, kind).name].Config)
    }
    return [
        {"name": name, "value": str(value), "meaning": meanings.get(name, "")}
        for name, value in settings(record).items()
    ]


def headline(record: RunRecord) -> list[dict[str, Any]]:
    """The numbers that sum up a run, each beside that of the undefended model and of the control."""
    controls = {metric.control for metric in catalogue.METRICS.values()}
    skipped = controls | {
        name for name in record.metrics if name.endswith((CONTROL.suffix, UNDEFENDED.suffix))
    }
    names = [
        name for name in catalogue.summary(record.threat) if name in record.metrics and name not in skipped
    ]
    return [
        {
            "name": name,
            "value": record.metrics[name],
            "undefended": record.metrics.get(f"{name}{UNDEFENDED.suffix}"),
            "control": record.metrics.get(f"{name}{CONTROL.suffix}"),
        }
        for name in names
    ]


def remarks(record: RunRecord) -> list[str]:
    """What a reader must know before the numbers: how the run ended, and what they are not worth."""
    found = []
    if record.state != "done":
        found.append(f"This run is {record.state}: {record.message or 'it left no message'}.")
    if record.collapsed:
        names = " and ".join(_MODELS[name] for name in record.collapsed)
        found.append(
            f"Collapsed: {names} gave nearly the same answer to every test image. A rate of success means nothing "
            "then, and this run does not count in means."
        )
    if record.diverged:
        found.append("Diverged: some number of this run is not finite.")
    return found


def curves(points: pd.DataFrame) -> list[Drawing]:
    """A figure of each quantity that some stage reported more than once."""
    counts = points.groupby(["name", "stage"], sort=False).size().groupby("name", sort=False).max()
    names = [str(name) for name, count in counts.items() if count > 1]
    return [
        drawing(
            metric_curve(points, name, glossary.label(name)),
            f"{glossary.label(name)}. {glossary.help_for(name)}",
        )
        for name in names
    ]


def recorded(runs: Runs, record: RunRecord, trials: int = TRIALS) -> Recorded:
    """The pictures of a run: those of all trials together, then of each of the first ones.

    One that is damaged is named, not fatal.

    Args:
        trials: shown at most; how many are left out is said.
    """
    items = record.artifacts
    if items and not runs.has_pictures(record.run_id):
        return Recorded((), (f"{NOT_SHIPPED[0].upper()}{NOT_SHIPPED[1:]}.",))
    of_each = {item.name for item in items if item.trial > 0}
    numbers = sorted({item.trial for item in items if item.name in of_each})
    found, missing = _read(runs, record.run_id, [item for item in items if item.name not in of_each])
    shown = sections(found)
    for trial in numbers[:trials]:
        own = [item for item in items if item.name in of_each and item.trial == trial]
        found, unreadable = _read(runs, record.run_id, own)
        missing += unreadable
        named = f", trial {trial + 1}" if trials > 1 else ""
        shown += [replace(section, title=f"{section.title}{named}") for section in sections(found)]
    if len(numbers) > trials:
        first = "trial 1 is" if trials == 1 else f"the first {trials} are"
        missing.append(f"Of {len(numbers)} trials {first} shown; {len(numbers) - trials} are left out.")
    return Recorded(tuple(shown), tuple(missing))


def _read(runs: Runs, run_id: str, items: Iterable[Any]) -> tuple[list[Any], list[str]]:
    found = []
    missing = []
    for item in items:
        try:
            found.append(runs.load_artifact(run_id, item.name, item.sha256, item.trial))
        except (RecordError, OSError) as error:
            trial = f" (trial {item.trial + 1})" if item.trial else ""
            missing.append(f"{item.name}{trial} of this run cannot be read: {error}")
    return found, missing
