"""Which stages of a run the cache holds, known before it runs.

The key of a stage is made of what the stages before it computed, so it is known only once these are at hand. Equal
specs give equal numbers on the same type of device: a finished run therefore writes down under which keys it found or
stored its stages, beside what decides them: the part of the spec that the stage's scope names, the code, the version of
torch, the device and the files of data. A run with the same of all these will ask for the same keys. Whatever differs
makes a stage unknown, which costs an estimate that is too high; a run that did not finish writes down nothing.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Set
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from poisonlab import registry
from poisonlab.cache.code_version import core_code, method_code
from poisonlab.cache.stage_cache import StageCache
from poisonlab.cache.stage_key import stage_id
from poisonlab.context import Context
from poisonlab.data.base import data_folder
from poisonlab.generative import weights
from poisonlab.records.record import write_atomically
from poisonlab.spec import shared, stages
from poisonlab.spec.config import ExperimentSpec, digest
from poisonlab.spec.stages import Scope, Stage
from poisonlab.types import Bundle

FOLDER = "known"  # below the cache; no stage is called so


class NotingCache:
    """A stage cache that notes which stages a run asked for.

    Attributes:
        asked: name of a stage -> ids, one for each time.
    """

    def __init__(self, cache: StageCache) -> None:
        self._cache = cache
        self.asked: dict[str, list[str]] = {}

    def get_or_compute(
        self, name: str, key: Any, ctx: Context, compute: Callable[[Context], Bundle]
    ) -> tuple[Bundle, bool]:
        """As :meth:`StageCache.get_or_compute`."""
        done = self._cache.get_or_compute(name, key, ctx, compute)
        self.asked.setdefault(name, []).append(stage_id(name, key, ctx))
        return done


def remember(spec: ExperimentSpec, asked: dict[str, list[str]], device_type: str, cache: Path) -> None:
    """Write down what a finished run asked for, beside what earlier ones did that needed more to be computed."""
    by_scope: dict[Scope, dict[str, list[str]]] = {}
    for name, ids in asked.items():
        by_scope.setdefault(shared.scope_of(name), {})[name] = ids
    with suppress(OSError):  # the next estimate is too high, that is all
        (cache / FOLDER).mkdir(parents=True, exist_ok=True)
        around = _around(device_type)
        for scope, found in by_scope.items():
            file = _file(spec, scope, around, cache)
            for left in file.parent.glob(f".{file.name}.*"):  # by a process that was killed
                left.unlink(missing_ok=True)
            write_atomically(file, json.dumps(_read(file) | found).encode())


def cached_stages(spec: ExperimentSpec, device_type: str, cache: Path) -> Set[Stage]:
    """Stages of a run that the cache holds under exactly the keys that it will ask for."""
    if not (cache / FOLDER).is_dir():
        return frozenset()
    found = set()
    around = _around(device_type)
    for scope in shared.PARTS:
        for name, ids in _read(_file(spec, scope, around, cache)).items():
            stage = stages.find(name)
            if stage and ids and all((cache / folder).is_dir() for folder in ids):
                found.add(stage)
    return found


def _around(device_type: str) -> list[str]:
    """What decides every stage, the spec and its code aside."""
    torch_version = ".".join(version("torch").split(".")[:2])
    return [torch_version, device_type, data_stamp()]


def _file(spec: ExperimentSpec, scope: Scope, around: list[str], cache: Path) -> Path:
    methods = [
        (kind, getattr(spec, kind).name)
        for kind in ("attack", "defense")
        if kind in shared.parts(spec, scope)
    ]
    code = _code(tuple(methods))
    return cache / FOLDER / f"{digest([shared.decided_by(spec, scope), code, around], 32)}.json"


def _read(file: Path) -> dict[str, list[str]]:
    """What is written down in a file; nothing where it is missing or damaged."""
    with suppress(OSError, ValueError):
        content = json.loads(file.read_bytes())
        if isinstance(content, dict):
            return content
    return {}


@functools.cache
def _code(methods: tuple[tuple[str, str], ...]) -> str:
    """Hash of the code that may decide a number, of all networks and datasets: methods may ask for others.

    Args:
        methods: kind and name of each.
    """
    named = [registry.KINDS[kind][name] for kind, name in methods]
    named += [kind[name] for kind in (registry.victim, registry.dataset) for name in kind]
    hashes = [method_code(method.__module__) for method in named]
    return hashlib.sha256(":".join([core_code(), *hashes]).encode()).hexdigest()


def data_stamp() -> str:
    """Hash of names, sizes and times of the files of data and of shipped weights: of other files nothing is known."""
    root = data_folder()
    seen = [str(root.absolute())]
    for folder in (weights.FOLDER, root, *(path for path in _entries(root) if path.is_dir())):
        for path in _entries(folder):
            with suppress(OSError):
                about = path.stat()
                seen.append(f"{path.name}:{about.st_size}:{about.st_mtime_ns}")
    return digest(seen)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder / name for name in os.listdir(folder))
    except OSError:
        return []
