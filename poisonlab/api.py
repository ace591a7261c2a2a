"""PoisonLab for programs: run experiments and read what they measured, as the command line does and by the same code.

The names of :data:`__all__` are stable, and can be taken from the package itself::

    import poisonlab

    spec = poisonlab.make_spec("digits", "badnets", "awm", seed=1)
    run = poisonlab.run(spec, results="results")
    print(run.metrics["asr"], run.metrics["clean_accuracy"])

Results lie in ``POISONLAB_RESULTS``, or in ``results``, unless a call names another folder.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import poisonlab
from poisonlab import machine
from poisonlab.events import Event
from poisonlab.measure.recorded import read_record
from poisonlab.records.record import RECORD, RecordError, RunRecord, check_run_id, load_artifact
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.runner.sweep import CACHE, RUNS, finished, matrix, run_spec
from poisonlab.spec.config import ExperimentSpec, Preset, SpecError, make_spec

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from poisonlab.check.data import DataCheck
    from poisonlab.check.model import ModelCheck
    from poisonlab.context import Context
    from poisonlab.models.base import Classifier
    from poisonlab.pipeline.reopen import Opened

__all__ = [
    "Run",
    "RunFailed",
    "SpecError",
    "check_data",
    "check_model",
    "leaderboard",
    "load_run",
    "make_spec",
    "run",
    "sweep",
]

Folder = str | Path | None
Listener = Callable[[Event], None]


class RunFailed(RuntimeError):
    """A run that did not end well; the message says what to do.

    Attributes:
        record: what was recorded of it.
    """

    def __init__(self, record: RunRecord) -> None:
        super().__init__(record.message or f"run {record.run_id} {record.state}")
        self.record = record


@dataclass(frozen=True)
class Run:
    """A recorded run.

    Attributes:
        record: all that it said and measured, see :class:`~poisonlab.records.record.RunRecord`.
        folder: holds its record and its artifacts.
        results: the results folder, whose cache may still hold its networks.
    """

    record: RunRecord
    folder: Path
    results: Path
    _kept: Any = field(default=None, repr=False, compare=False)  # a temporary folder lives as long as its run

    @property
    def run_id(self) -> str:
        """Its UUID."""
        return self.record.run_id

    @property
    def state(self) -> str:
        """``done``, ``failed`` or ``cancelled``."""
        return self.record.state

    @property
    def spec(self) -> RecordedSpec:
        """What was run, as it was written down; ``spec.experiment()`` can be run again."""
        return self.record.spec

    @property
    def metrics(self) -> dict[str, float | None]:
        """Every number by its name; rates are in [0, 1], ``None`` is undefined."""
        return self.record.metrics

    def artifact(self, name: str, trial: int = 0) -> Any:
        """A recorded artifact, such as ``poison``, checked against its hash.

        Raises:
            RecordError: there is none of this name and trial, or its file is missing or damaged.
        """
        for item in self.record.artifacts:
            if (item.name, item.trial) == (name, trial):
                return load_artifact(self.folder / item.file, item.sha256)
        names = sorted({item.name for item in self.record.artifacts})
        raise RecordError(f"run {self.run_id} has no artifact {name!r} of trial {trial}; it has {names}")

    def networks(self) -> dict[str, "Classifier"]:
        """The first trial's ``control``, ``undefended`` and ``defended`` victim, out of the cache; nothing is trained.

        Each takes float images ``(n, c, h, w)`` in [0, 1] and gives logits ``(n, classes)``.

        Raises:
            NotKept: the cache no longer has them; run it again. DataError: the dataset cannot be loaded.
        """
        return {model: victims.member(0) for model, victims in self._open().victims.items()}

    def poison(self) -> dict[str, "np.ndarray"]:
        """What the attack changed, see :func:`~poisonlab.pipeline.takeout.poison_arrays`.

        Raises:
            NotKept, DataError: as :meth:`networks`.
        """
        from poisonlab.pipeline.takeout import poison_arrays  # noqa: PLC0415 - brings torch

        return poison_arrays(self._open())

    def _open(self) -> "Opened":
        from poisonlab.pipeline.takeout import open_run  # noqa: PLC0415 - brings torch

        return open_run(self.record, self.results / CACHE)


def run(
    spec: ExperimentSpec,
    *,
    results: Folder = None,
    device: str = "auto",
    cache: bool = True,
    listen: Listener | None = None,
) -> Run:
    """Run an experiment in this process and record it, as ``poisonlab run`` does.

    A dashboard and the leaderboard find the run by themselves.

    Args:
        spec: from :func:`make_spec`.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cache: whether finished stages are kept in the results folder, and used.
        listen: called with every event, such as :class:`~poisonlab.events.Progress`.

    Raises:
        RunFailed: it was recorded as failed. DeviceError: there is no such device.

    Example::

        spec = make_spec("digits", "badnets", "awm", overrides={"attack.poison_rate": 0.05})
        print(run(spec).metrics["asr"])
    """
    folder = _results(results)
    machine.resolve_device(device)
    record = run_spec(spec, folder, device, cache, listen or _hear_nothing)
    if record.state != "done":
        raise RunFailed(record)
    return _run_of(record, folder)


def sweep(
    datasets: Sequence[str],
    attacks: Sequence[str],
    defenses: Sequence[str],
    *,
    seeds: Sequence[int] = (0,),
    clean_images: Sequence[int] = (),
    preset: Preset = "quick",
    victim: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    again: bool = False,
    results: Folder = None,
    device: str = "auto",
    cache: bool = True,
    listen: Listener | None = None,
) -> list[Run]:
    """Run every combination, one after the other, as ``poisonlab sweep`` does; those that cannot be are left out.

    Args:
        clean_images: the defender's budgets; the preset's own where there are none.
        overrides: dotted name -> value, as of :func:`make_spec`.
        again: run what is finished in the results folder once more; else its newest run is returned.
        results, device, cache, listen: as of :func:`run`.

    Returns:
        A run for each combination, in their order; look at ``state``, as one that failed stops no other.

    Raises:
        UnknownName: a method that is not registered. SpecError: no combination can be. DeviceError: no such device.

    Example::

        runs = sweep(["digits"], ["badnets", "blend"], ["none", "awm"], seeds=[0, 1, 2])
        print([(r.spec.defense.name, r.metrics["asr"]) for r in runs])
    """
    folder = _results(results)
    machine.resolve_device(device)
    found = matrix(
        datasets,
        attacks,
        defenses,
        seeds,
        clean_images,
        preset=preset,
        victim=victim,
        overrides=overrides,
    )
    done = {} if again else finished(folder / RUNS, found.specs)
    runs = []
    for spec in found.specs:
        record = done.get((spec.group(), spec.seed))
        if record is None:
            record = run_spec(spec, folder, device, cache, listen or _hear_nothing)
        runs.append(_run_of(record, folder))
    return runs


def leaderboard(
    *,
    dataset: str | None = None,
    attack: str | None = None,
    defense: str | None = None,
    preset: str | None = None,
    source: str | None = None,
    sort: str = "success",
    descending: bool | None = None,
    results: Folder = None,
) -> "pd.DataFrame":
    """Finished runs, one row an experiment with its seeds together, as ``poisonlab leaderboard --json`` prints them.

    Args:
        source: ``local``, ``imported`` or ``reference`` (the runs that come with the program).
        sort: a column. descending: largest first; by default where large values are good.

    Returns:
        A data frame; ``run_ids`` names the runs behind each row, for :func:`load_run`.

    Raises:
        UnknownName: a method that is not registered. ValueError: ``sort`` is no column.
        StoreLocked: a dashboard holds the database of this results folder. ModuleNotFoundError: without duckdb.

    Example::

        board = leaderboard(dataset="digits", preset="quick")
        print(board[["attack", "defense", "success", "n"]])
    """
    from poisonlab.store import asked  # noqa: PLC0415 - the core works without a database

    found = asked.leaderboard(
        _results(results),
        dataset=dataset,
        attack=attack,
        defense=defense,
        preset=preset,
        source=source,
        sort=sort,
        descending=descending,
    )
    return found.rows


def load_run(run_id: str, *, results: Folder = None) -> Run:
    """A run of a results folder, or one that comes with the program, by its id.

    Raises:
        RecordError: no id, no such run, or a damaged record.

    Example::

        board = leaderboard(dataset="digits")
        best = load_run(board["run_ids"][0][0])
        print(best.metrics, list(best.networks()))
    """
    folder = _results(results)
    own = folder / RUNS / check_run_id(run_id)
    if (own / RECORD).is_file():
        return Run(read_record(own)[0], own, folder)
    kept = tempfile.TemporaryDirectory(prefix="poisonlab-")
    shipped = Path(kept.name) / run_id
    _extract(run_id, Path(kept.name))
    if not shipped.is_dir():
        raise RecordError(f"there is no finished run {run_id} in {folder / RUNS}, nor among the shipped ones")
    return Run(read_record(shipped)[0], shipped, folder, kept)


def check_model(
    weights: str | Path,
    victim: str,
    *,
    images: Folder = None,
    dataset: str | None = None,
    size: int = 32,
    preset: Preset = "quick",
    overrides: Mapping[str, Any] | None = None,
    normalization: str = "best",
    clean_networks: int = 19,
    results: Folder = None,
    device: str = "auto",
    listen: Listener | None = None,
) -> "ModelCheck":
    """What the detectors say of a network that somebody brings, beside clean ones, as ``poisonlab check-model`` does.

    Args:
        weights: a file, see ``docs/own.md``. victim: its architecture; ``timm:NAME`` and ``torchvision:NAME`` as well.
        images: a folder of clean images with a folder for each class; dataset: a registered one instead.
        size: side in pixels of the pictures of a folder. overrides: dotted name -> value, as of :func:`make_spec`.
        clean_networks: trained for the comparison; with fewer than 19 there is no verdict.
        results, device, listen: as of :func:`run`; finished trainings are kept.

    Returns:
        ``verdict`` in words, ``accuracy``, ``findings`` of each detector, ``calibration``.

    Raises:
        WeightsError: the file cannot be read or does not fit. SpecError, UnknownName: as :func:`make_spec`.

    Example::

        print(check_model("net.pt", "preact_resnet18", dataset="cifar10").verdict)
    """
    from poisonlab.check import model  # noqa: PLC0415 - brings torch

    folder = None if images is None else Path(images).expanduser()
    spec = model.spec_of(
        victim, images=folder, dataset=dataset, size=size, preset=preset, overrides=overrides
    )
    ctx = _context(results, device, listen)
    checked, _ = model.check_file(spec, Path(weights).expanduser(), ctx, normalization, clean_networks)
    return checked


def check_data(
    images: Folder = None,
    *,
    dataset: str | None = None,
    clean: Folder = None,
    like: str = "",
    size: int = 32,
    controls: int = 19,
    preset: Preset = "quick",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    results: Folder = None,
    device: str = "auto",
    listen: Listener | None = None,
) -> "DataCheck":
    """Which images of a training set stand out, and whether the set does, as ``poisonlab check-data`` does.

    Args:
        images: a folder with a folder for each class; dataset: a registered one instead.
        clean: a folder of trusted images of the same classes, from which the clean sets are drawn.
        like: the dataset whose shipped clean sets are compared with, where there are no trusted images.
        size: side in pixels of the pictures of a folder. controls: how many clean sets are drawn.
        settings: of the training, such as ``{"epochs": 15}``.
        results, device, listen: as of :func:`run`; finished trainings are kept.

    Returns:
        ``verdict`` in words, ``ranking`` of the images, ``evidence`` of each detector, ``calibration``.

    Raises:
        SpecError: neither or both of ``images`` and ``dataset``. DataError: images that cannot be used.

    Example::

        found = check_data("pictures", clean="trusted")
        print(found.verdict, found.ranking.order[:10])
    """
    from poisonlab.check import data, suspects  # noqa: PLC0415 - brings torch
    from poisonlab.check.recipe import usual  # noqa: PLC0415 - the same

    if (images is None) == (dataset is None):
        raise SpecError("give images: either a folder or a dataset")
    if images is not None:
        brought = suspects.of_folder(Path(images).expanduser(), size)
    else:
        brought = suspects.of_dataset(str(dataset), preset)
    trusted = None if clean is None else suspects.trusted_folder(Path(clean).expanduser(), brought.data)
    recipe = usual(brought.data, preset, dataset or like, dict(settings or {}))
    ctx = _context(results, device, listen, seed)
    return data.check_data(brought, recipe, ctx, trusted, like=like or dataset or "", controls=controls)


def _context(results: Folder, device: str, listen: Listener | None, seed: int = 0) -> "Context":
    """Where a check computes, keeps what it has computed, and tells of it."""
    from poisonlab.runner.recorder import context_at  # noqa: PLC0415 - brings torch

    return context_at(_results(results), device, seed, listen or _hear_nothing)


def _extract(run_id: str, target: Path) -> None:
    try:
        from poisonlab.store.shipped import extract  # noqa: PLC0415 - the core works without a database
    except ImportError:
        return
    extract([run_id], poisonlab.reference_folder(), target)


def _run_of(record: RunRecord, results: Path) -> Run:
    return Run(record, results / RUNS / record.run_id, results)


def _results(folder: Folder) -> Path:
    return poisonlab.results_folder() if folder is None else Path(folder).expanduser()


def _hear_nothing(event: Event) -> None:
    """Events of a run that nobody listens to."""
