"""The engines by name. Each is imported when it is chosen: two of them need packages that not everybody has."""

from pathlib import Path

from poisonlab.runner.base import Runner
from poisonlab.runner.options import LocalOptions, RayOptions, SlurmOptions, parse_options
from poisonlab.runner.parts import EngineError
from poisonlab.store import Store

_NEEDS = {"ray": ("ray", "poisonlab[ray]"), "submitit": ("submitit", "poisonlab[slurm]")}


def make_runner(
    store: Store, results: Path, engine: str = "local", settings: list[str] | None = None
) -> Runner:
    """A runner that is not started yet.

    Args:
        settings: ``name=value`` each.

    Raises:
        EngineError: the engine or an option is unknown, a package is missing, or the cluster cannot be used.
    """
    options = parse_options(engine, settings or [])
    try:
        return _make(store, results, options)
    except ModuleNotFoundError as error:
        package, extra = _NEEDS.get(error.name or "", (error.name, f"poisonlab[{engine}]"))
        raise EngineError(
            f"engine {engine} needs {package}, which is not installed: pip install '{extra}'"
        ) from None


def _make(store: Store, results: Path, options: object) -> Runner:
    match options:
        case RayOptions():
            from poisonlab.runner.ray import RayRunner  # noqa: PLC0415 - may be missing

            return RayRunner(store, results, options)
        case SlurmOptions():
            from poisonlab.runner.slurm import SlurmRunner  # noqa: PLC0415 - may be missing

            return SlurmRunner(store, results, options)
        case LocalOptions(workers=0):
            from poisonlab.runner.local import LocalRunner  # noqa: PLC0415 - brings torch

            return LocalRunner(store, results)
        case LocalOptions(workers=workers):
            from poisonlab.runner.pool import ProcessRunner  # noqa: PLC0415 - brings torch

            return ProcessRunner(store, results, workers)
    raise EngineError(f"no engine takes {options!r}")
