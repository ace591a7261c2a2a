"""``run`` and ``sweep``."""

import argparse
import functools
import json
from pathlib import Path
from typing import Any

from poisonlab import machine
from poisonlab.cli.estimate import say_estimate
from poisonlab.cli.results import index
from poisonlab.cli.terminal import FAILED, OK, ProgressLine, UsageError, chosen_engine, say, table
from poisonlab.measure import catalogue
from poisonlab.records.record import RunRecord
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.registry import KINDS
from poisonlab.runner.sweep import RUNS, finished, matrix, run_spec
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.spec.overrides import parse_settings


def run(options: argparse.Namespace) -> int:
    spec = make_spec(
        options.dataset,
        options.attack,
        options.defense,
        preset=options.preset,
        seed=options.seed,
        victim=options.victim,
        overrides=_settings(options),
    )
    machine.resolve_device(options.device)
    say_estimate([spec], options.results, options.device, cache=not options.no_cache)
    record = _run(spec, options)
    index(options.results)
    if record.state != "done":
        say(f"poisonlab: run {record.run_id} {record.state}: {record.message}")
        return FAILED
    if options.json:
        print(json.dumps(_summary(record, options.results)))
    else:
        print(table(("metric", "value"), list(record.metrics.items())))
        print(f"run {record.run_id}, {record.seconds:.1f} s, in {options.results / 'runs' / record.run_id}")
    return OK


def sweep(options: argparse.Namespace) -> int:
    specs = _matrix(options)
    machine.resolve_device(options.device)
    engine, settings = chosen_engine(options)
    found = {} if options.again else finished(options.results / RUNS, specs)
    if found:
        say(f"{len(found)} of {len(specs)} are finished already; --again runs them once more")
    left = [spec for spec in specs if (spec.group(), spec.seed) not in found]
    if left and engine == "local":
        say_estimate(left, options.results, options.device, cache=not options.no_cache)
    if engine == "local" and not settings:
        measured = _one_by_one(left, options)
    else:
        measured = _by_engine(left, engine, settings, options)
    records = [*found.values(), *measured]
    index(options.results)
    if not options.json:
        print()
        columns = ("dataset", "attack", "defense", "clean images", "seed", "state", *_HEADLINE)
        print(table(columns, [_row(r) for r in records]))
    whole = len(records) == len(specs) and all(record.state == "done" for record in records)
    return OK if whole else FAILED


def _one_by_one(specs: list[ExperimentSpec], options: argparse.Namespace) -> list[RunRecord]:
    """Run experiments in this process; no database is needed."""
    records = []
    for number, spec in enumerate(specs, 1):
        say(f"[{number}/{len(specs)}] {_named(spec, options)}")
        records.append(_run(spec, options))
        _tell(records[-1], options)
    return records


def _by_engine(
    specs: list[ExperimentSpec], engine: str, settings: list[str], options: argparse.Namespace
) -> list[RunRecord]:
    """Queue experiments, let an engine run them, and tell of each as it ends."""
    from poisonlab.cli.engine import run_all  # noqa: PLC0415 - the core works without a database

    if options.device != "auto" or options.no_cache:
        raise UsageError(
            "an engine chooses devices, and its workers share the cache: no --device, no --no-cache"
        )
    records = []
    for state, message, record in run_all(specs, options.results, engine, settings):
        if record is None:
            say(f"a run {state}: {message}")
        else:
            records.append(record)
            _tell(record, options)
    return records


def _named(spec: ExperimentSpec | RecordedSpec, options: argparse.Namespace) -> str:
    name = f"{spec.dataset.name} {spec.attack.name} {spec.defense.name} seed {spec.seed}"
    return f"{name}, {spec.clean_images} clean images" if options.clean_images else name


def _tell(record: RunRecord, options: argparse.Namespace) -> None:
    """What a run of a sweep came to."""
    if options.json:
        print(json.dumps(_summary(record, options.results)), flush=True)
        return
    text = record.message if record.state != "done" else f"clean accuracy, success: {_headline(record)}"
    print(f"{_named(record.spec, options)}: {record.state} in {record.seconds:.1f} s; {text}", flush=True)


_HEADLINE = ("clean_accuracy", "success", "success_undefended", "control")


def _headline(record: RunRecord) -> str:
    name = catalogue.headline(record.threat).name
    shown = (record.metrics.get("clean_accuracy"), record.metrics.get(name))
    return ", ".join("diverged" if v is None else f"{v:.4g}" for v in shown)


def _row(record: RunRecord) -> list[Any]:
    spec = record.spec
    columns = catalogue.values(record.metrics, record.threat)
    return [
        spec.dataset.name,
        spec.attack.name,
        spec.defense.name,
        spec.clean_images,
        spec.seed,
        record.state,
        *(columns[name] for name in _HEADLINE),
    ]


def _run(spec: ExperimentSpec, options: argparse.Namespace) -> RunRecord:
    return run_spec(spec, options.results, options.device, not options.no_cache, ProgressLine())


def _summary(record: RunRecord, results: Path) -> dict[str, Any]:
    """What ``--json`` prints; ``null`` among the metrics stands for one that diverged."""
    whole = record.model_dump(mode="json")
    names = ("run_id", "state", "metrics", "timings", "cached", "spec", "device", "peak_memory_mb", "message")
    return {name: whole[name] for name in names} | {"folder": str(results / "runs" / record.run_id)}


def _matrix(options: argparse.Namespace) -> list[ExperimentSpec]:
    """The specs of a sweep; combinations that cannot be are reported, none at all is an error."""
    given = _settings(options)
    budgets = []
    if options.clean_images:
        if "clean_images" in given:
            raise UsageError("give either --clean-images or --set clean_images, not both")
        budgets = _whole_numbers("--clean-images", options.clean_images)
    found = matrix(
        _names("dataset", options.dataset),
        _names("attack", options.attack),
        _names("defense", options.defense),
        _whole_numbers("--seed", options.seed),
        budgets,
        preset=options.preset,
        victim=options.victim,
        overrides=given,
    )
    for problem in found.skipped:
        say(problem)
    return list(found.specs)


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"{option} takes whole numbers separated by commas, got {text!r}") from None


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What ``--set`` replaces; a value that has an option of its own would silently win over it."""
    given = parse_settings(options.set)
    for name in ("seed", "preset"):
        if name in given:
            raise UsageError(f"give --{name}, not --set {name}")
    if options.weights:
        given["weights"] = _kept(options.weights)
    return given


@functools.cache
def _kept(path: Path) -> str:
    """The hash under which a file of weights is kept from now on."""
    from poisonlab.models.shared.kept_weights import keep  # noqa: PLC0415 - slow, and most runs bring none
    from poisonlab.models.shared.weights_file import WeightsError  # noqa: PLC0415 - the same

    try:
        return keep(path.expanduser())
    except WeightsError as error:
        raise UsageError(f"--weights: {error}") from None


def _names(kind: str, text: str) -> list[str]:
    names = list(dict.fromkeys(n for n in text.split(",") if n))
    for name in names:
        KINDS[kind][name]
    if not names:
        raise UsageError(f"--{kind} needs at least one of: {', '.join(KINDS[kind])}")
    return names
