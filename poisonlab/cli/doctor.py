"""What works on this machine, line by line."""

import os
import platform
import sys
from importlib import import_module, metadata
from pathlib import Path

import torch

from poisonlab import __version__, machine
from poisonlab.data.base import data_folder
from poisonlab.records.revision import revision
from poisonlab.registry import KINDS, plugins
from poisonlab.runner.recorder import cache_at

NEEDED = ("torch", "torchvision", "numpy", "pillow", "pydantic", "safetensors", "scikit-learn")
FOR_THE_APP = ("streamlit", "duckdb", "pandas", "pyarrow", "plotly", "jinja2")


def examine(results: Path) -> list[tuple[str, bool, str]]:
    """``(what, whether it works, what was found)`` of everything a run and the dashboard need."""
    found = [
        ("poisonlab", True, f"{__version__} {revision()}".strip()),
        ("python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.platform()}"),
        _packages("packages of the core", NEEDED),
        _packages("packages of the app", FOR_THE_APP),
        ("device", True, _device()),
        (
            "threads",
            True,
            f"{machine.set_threads()} of {os.cpu_count()} (OMP_NUM_THREADS sets another number)",
        ),
        ("results", *_results(results)),
        ("database", *_database(results)),
        ("stage cache", *_cache(results)),
        ("plugins", *_plugins()),
    ]
    return found + [(f"data: {name}", *_dataset(name)) for name in KINDS["dataset"]]


def _packages(what: str, names: tuple[str, ...]) -> tuple[str, bool, str]:
    versions = []
    missing = []
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    text = ", ".join(versions)
    if missing:
        text += f"; missing: {', '.join(missing)} (pip install {' '.join(missing)})"
    return what, not missing, text


def _plugins() -> tuple[bool, str]:
    """Methods of other packages; what cannot be loaded is named."""
    found = plugins()
    problems = [plugin.problem for plugin in found if plugin.problem]
    loaded = [f"{p.distribution}: {', '.join(p.methods) or 'nothing'}" for p in found if not p.problem]
    return not problems, "; ".join([*problems, *loaded]) or "no methods of other packages"


def _device() -> str:
    device = machine.resolve_device("auto")
    if device.type == "cpu":
        return "cpu (torch finds no usable GPU)"
    free, total = torch.cuda.mem_get_info(device)
    count = torch.cuda.device_count()
    memory = f"{free / 2**30:.0f} of {total / 2**30:.0f} GiB free on the first"
    return f"{count} x {machine.device_name(device)}, {memory}"


def _results(results: Path) -> tuple[bool, str]:
    existing = results.absolute()
    while not existing.exists():
        existing = existing.parent
    free = machine.free_disk_gb(results)
    writable = os.access(existing, os.W_OK)
    runs = sum(1 for _ in (results / "runs").glob("*/run.json"))
    if not existing.is_dir():
        return False, f"{existing} is a file: choose a folder with --results"
    problem = "" if writable else "; not writable: choose another folder with --results"
    problem += "; little space: a sweep needs several GB" if free < 1 else ""
    return writable and free >= 1, f"{results}, {runs} recorded runs, {free:.1f} GiB of disk free{problem}"


def _database(results: Path) -> tuple[bool, str]:
    try:
        from poisonlab.store import Store, StoreError, StoreLocked  # noqa: PLC0415 - may be missing
        from poisonlab.store.store import DATABASE  # noqa: PLC0415
    except ImportError as error:
        return False, f"{error.name} is not installed: runs write their folders, but there is no index"
    path = results / DATABASE
    if not path.exists():
        return True, "none yet; the first run makes it"
    try:
        store = Store(results)
    except StoreLocked as error:  # as while the dashboard runs: nothing is wrong
        return True, str(error)
    except StoreError as error:
        return False, str(error)
    try:
        counted = store.db.rows(
            "SELECT count(*) FILTER (home = 'runs'), count(*) FILTER (home = 'reference') FROM runs"
        )
        skipped = (
            f"; {len(store.skipped)} folders skipped: {next(iter(store.skipped.values()))}"
            if store.skipped
            else ""
        )
        own, reference = counted[0]
        return not store.skipped, f"{path}, {own} runs and {reference} reference runs{skipped}"
    finally:
        store.close()


def _cache(results: Path) -> tuple[bool, str]:
    try:
        cache = cache_at(results / "cache")
    except ValueError as error:
        return False, str(error)
    entries = cache.entries()
    held = sum(size for _, size, _ in entries) / 2**30
    limit = cache.limit_bytes / 2**30
    return True, f"{len(entries)} finished stages, {held:.2f} of at most {limit:g} GiB (POISONLAB_CACHE_GB)"


def _dataset(name: str) -> tuple[bool, str]:
    """Whether a dataset lies ready; nothing is downloaded to find out."""
    dataset = KINDS["dataset"][name]
    if getattr(dataset, "by_path", False):
        return True, "reads the folder that dataset.path names"
    own_file = getattr(dataset, "file", None)
    if own_file is not None:
        return True, f"{own_file}"
    file = getattr(import_module(dataset.__module__), "FILE", None)
    if file is None:
        return True, "comes with the installed packages"
    if (data_folder() / file.name).exists():
        return True, f"{data_folder() / file.name}"
    remedy = "the first use reads its folders or downloads it; POISONLAB_DATA names the folder"
    return True, f"not in {data_folder()} yet: {remedy}"
