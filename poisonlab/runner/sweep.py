"""A sweep, whoever asks for it: which specs it has, which of them are finished, and a run of one of them."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poisonlab.events import Event
from poisonlab.measure.recorded import records_in
from poisonlab.records.record import RunRecord
from poisonlab.registry import KINDS
from poisonlab.spec.config import ExperimentSpec, Preset, SpecError, make_spec

RUNS = "runs"
CACHE = "cache"


@dataclass(frozen=True)
class Matrix:
    """The specs of a sweep, and a line on each combination that cannot be."""

    specs: tuple[ExperimentSpec, ...]
    skipped: tuple[str, ...]


def matrix(
    datasets: Sequence[str],
    attacks: Sequence[str],
    defenses: Sequence[str],
    seeds: Sequence[int],
    clean_images: Sequence[int] = (),
    *,
    preset: Preset = "quick",
    victim: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Matrix:
    """Every combination. All defenses of one attack and seed come after each other: its victim is in the cache then.

    Args:
        clean_images: the defender's budgets; the preset's own where there are none.
        overrides: as of :func:`~poisonlab.spec.config.make_spec`.

    Raises:
        UnknownName: a method that is not registered. SpecError: no combination can be; says why the first cannot.
    """
    given = dict(overrides or {})
    budgets = [{"clean_images": count} for count in clean_images] or [{}]
    _check_names(dataset=datasets, attack=attacks, defense=defenses)
    specs = []
    skipped = []
    attacked = itertools.product(datasets, attacks, seeds)
    defended = itertools.product(defenses, budgets)
    for (dataset, attack, seed), (defense, budget) in itertools.product(attacked, defended):
        try:
            specs.append(
                make_spec(
                    dataset,
                    attack,
                    defense,
                    preset=preset,
                    seed=seed,
                    victim=victim,
                    overrides=given | budget,
                )
            )
        except SpecError as error:
            skipped.append(f"{dataset} {attack} {defense} seed {seed} skipped: {error}")
    if not specs:
        raise SpecError(skipped[0] if skipped else "a sweep needs a dataset, an attack, a defense and a seed")
    return Matrix(tuple(specs), tuple(skipped))


def _check_names(**names: Sequence[str]) -> None:
    for kind, of_kind in names.items():
        if isinstance(of_kind, str):  # whose letters would be taken for names
            raise SpecError(f"a sweep takes a list of names of each kind, such as [{of_kind!r}]")
        for name in of_kind:
            KINDS[kind][name]


def finished(runs: Path, specs: Sequence[ExperimentSpec]) -> dict[tuple[str, int], RunRecord]:
    """Records of those of some specs that are done in a folder of runs, the newest of each, by group and seed."""
    wanted = {(spec.group(), spec.seed) for spec in specs}
    found: dict[tuple[str, int], RunRecord] = {}
    for record in sorted(records_in(runs), key=lambda record: record.finished):
        key = (record.spec.group(), record.spec.seed)
        if record.state == "done" and key in wanted:
            found[key] = record
    return found


def run_spec(
    spec: ExperimentSpec, results: Path, device: str, cache: bool, send: Callable[[Event], None]
) -> RunRecord:
    """Run an experiment in this process and record it in a results folder; no database is needed.

    Args:
        cache: whether finished stages are kept and used. send: takes every event.
    """
    from poisonlab.runner.recorder import run_and_record  # noqa: PLC0415 - brings torch

    return run_and_record(
        spec,
        results / RUNS,
        device=device,
        cache_root=results / CACHE if cache else None,
        send=send,
    )
