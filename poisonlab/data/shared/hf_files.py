"""Data sets of Hugging Face's library ``datasets``: from a folder, or fetched by name; nothing of them is ever run.

Only Arrow, Parquet and image files are read. What a set says about where its files lie is not believed: a file outside
of its own folder is refused.
"""

import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from poisonlab.data.base import DataError, data_folder
from poisonlab.data.shared.image_folder import state_of_files, visible
from poisonlab.data.shared.pixels import SUFFIXES

MISSING = "datasets is not installed; pip install 'poisonlab[hf]' or pip install datasets"
READERS = ("arrow", "parquet", "imagefolder")  # of the library
# what is fetched of a set: its files, what lists them, and the card that says which belong to which split
FETCHED = (
    "*.parquet",
    "*.arrow",
    "*.zip",
    *(f"*{suffix}" for suffix in SUFFIXES),
    "*metadata.*",
    "README.md",
)
ARROW = "folders/hf"  # below the data folder: Arrow files that the library makes of others
STATE_NAMED = 24  # characters of a set's state that its folder there is called by
PATTERNS = ("[", "::", "\n")  # in the path of a folder
MOST_SAID = 300  # characters of the library's own message


@dataclass(frozen=True)
class Opened:
    """A data set as the library gives it.

    Attributes:
        splits: by name, each a ``datasets.Dataset``.
        folder: where it lies.
        within: folders that its pictures may lie in.
        state: changes whenever one of its files does.
    """

    splits: dict[str, Any]
    folder: Path
    within: tuple[Path, ...]
    state: str


def from_folder(folder: Path, subset: str = "") -> Opened:
    """What ``save_to_disk`` wrote, or a folder of Arrow, Parquet or image files.

    Args:
        subset: which configuration, where there are several.

    Raises:
        DataError: no such folder, or one that cannot be read; or the library is not installed.
    """
    library = _library("datasets")
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise DataError(
            f"{folder} is no folder; give one that save_to_disk wrote, or of Parquet or image files"
        )
    if any(part in str(folder) for part in PATTERNS):
        raise DataError(
            f"{str(folder)!r} cannot be read: the library datasets takes {', '.join(map(repr, PATTERNS))} in a path "
            "for a pattern; rename the folder"
        )
    found = [path for path in visible(folder, "**/*") if path.is_file()]
    state = state_of_files(folder, found)
    # a place for each state: the library tells files apart by their date alone, which a copy may keep
    cache = data_folder() / ARROW / state[:STATE_NAMED]
    within = (_home(folder), cache.resolve())
    try:
        if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
            _refuse_empty(found)
            read = library.load_from_disk(str(folder))
        else:
            builder = library.load_dataset_builder(str(folder), name=subset or None, cache_dir=str(cache))
            _check(builder, within)
            builder.download_and_prepare()
            read = builder.as_dataset()
    except DataError:
        raise
    except Exception as error:  # of the library, Arrow, YAML, the system
        raise DataError(f"{folder} cannot be read as a data set of Hugging Face: {_said(error)}") from error
    splits = dict(read) if isinstance(read, dict) else {"train": read}
    files = [str(file["filename"]) for split in splits.values() for file in split.cache_files]
    _refuse_outside(files, within)
    return Opened(splits, folder, within, state)


def fetched(repo: str, revision: str) -> Path:
    """The folder of a data set of the hub at one commit, downloaded unless it is in the library's cache.

    Args:
        revision: branch, tag or commit; the folder is called as the commit.

    Raises:
        DataError: it cannot be had; says what to do.
    """
    _library("datasets")
    hub = _library("huggingface_hub")
    try:
        folder = hub.snapshot_download(
            repo, repo_type="dataset", revision=revision, allow_patterns=list(FETCHED)
        )
    except hub.errors.LocalEntryNotFoundError as error:
        raise DataError(
            f"the hub cannot be reached or does not answer, and {repo} at {revision} is not whole in the cache of this "
            f"machine; fetch it where there is a network (hf download {repo} --repo-type dataset), or name a folder: "
            "--set dataset.path=FOLDER"
        ) from error
    except Exception as error:  # of the library, of its network client
        raise DataError(
            f"{repo} at {revision} cannot be fetched from the hub: {_said(error)}; check dataset.repo and "
            "dataset.revision, or name a folder: --set dataset.path=FOLDER"
        ) from error
    return Path(folder)


def _library(name: str) -> ModuleType:
    """``datasets`` or its client of the hub, both silent."""
    try:
        library = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DataError(MISSING) from error
    utils = importlib.import_module(f"{name}.utils")
    utils.disable_progress_bars()
    utils.logging.set_verbosity_error()
    return library


def _home(folder: Path) -> Path:
    """The folder that all files of a set lie in: a snapshot in the cache of the hub is one of links."""
    real = folder.resolve()
    in_cache = real.parent.name == "snapshots" and (real.parents[1] / "blobs").is_dir()
    return real.parents[1] if in_cache else real


def _refuse_empty(files: Iterable[Path]) -> None:
    """The library cannot read back a split without rows that it wrote itself."""
    for file in files:
        if file.name == "state.json" and json.loads(file.read_text()).get("_data_files") == []:
            raise DataError(f"{file.parent} is a split without pictures; fill it, or save the set without it")


def _check(builder: Any, within: tuple[Path, ...]) -> None:
    reader = type(builder).__module__.rpartition(".")[2]
    if reader not in READERS:
        raise DataError(
            f"{builder.base_path} holds files for the reader {reader}; only {', '.join(READERS)} are read, see "
            "docs/own.md for tables of files and labels"
        )
    files = [str(file) for part in (builder.config.data_files or {}).values() for file in part]
    _refuse_outside(files, within)


def _refuse_outside(files: Iterable[str], within: tuple[Path, ...]) -> None:
    for file in files:
        if "://" in file or not any(Path(file).resolve().is_relative_to(root) for root in within):
            raise DataError(f"the data set names a file outside of its folder: {file[:120]!r}")


def _said(error: Exception) -> str:
    """The library's own message in one line; of what was raised first, since it wraps that in generalities."""
    while error.__cause__ and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return " ".join(str(error).split())[:MOST_SAID] or type(error).__name__
