"""A dataset kept beside its archive as one safetensors file, which loads in a fraction of a second."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from poisonlab import machine
from poisonlab.data.base import DataError

PARTS = ("train_x", "train_y", "test_x", "test_y")
Tensors = dict[str, torch.Tensor]
KINDS = {"U8": torch.uint8, "I64": torch.int64}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorFile:
    """``train_x`` ``train_y`` ``test_x`` ``test_y``, uint8, in one file that is made when absent.

    Attributes:
        title: the dataset, for messages.
        name: of the file.
        megabytes: what making it may take on disk.
        sha256: of the tensors' bytes where the dataset has one true content; otherwise the file keeps its own.
        more: names of further uint8 tensors of this dataset.
    """

    title: str
    name: str
    megabytes: int
    sha256: str | None = None
    more: tuple[str, ...] = ()

    def load(self, root: Path, make: Callable[[Path], Tensors], source: str | None = None) -> Tensors:
        """The tensors under ``root``.

        Args:
            make: the folder -> the tensors, from the archive. Its ``DataError`` passes through.
            source: state of what the archive holds now; a file made from another state is rebuilt.

        Raises:
            DataError: the file is damaged, cannot be written, or the archive cannot be read.
        """
        path = root / self.name
        if not self._is_current(path, source):
            if path.exists() and not os.access(root, os.W_OK):
                log.warning("%s is out of date and cannot be replaced: reading %s anew", path, self.title)
                return make(root)
            try:
                root.mkdir(parents=True, exist_ok=True)
                with FileLock(root / f"{self.name}.lock"):
                    if not self._is_current(path, source):
                        self._write(make(root), path, source)
            except (OSError, SafetensorError) as error:  # the latter stands for a full disk, too
                raise DataError(
                    f"cannot keep {self.title} under {root}: {getattr(error, 'strerror', None) or error}; free "
                    f"{self.megabytes} MB there or set POISONLAB_DATA to another folder"
                ) from error
        return self._read(path)

    def _is_current(self, path: Path, source: str | None) -> bool:
        """Whether the file is there and made from ``source``; a damaged one counts, reading it explains it."""
        if not path.exists() or source is None:
            return path.exists()
        try:
            with safe_open(path, framework="numpy") as file:
                return (file.metadata() or {}).get("source") == source
        except Exception:
            return True

    def _write(self, tensors: Tensors, path: Path, source: str | None) -> None:
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            save_file(tensors, temporary, metadata={"sha256": self._hash(tensors), "source": source or ""})
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _read(self, path: Path) -> Tensors:
        remedy = f"delete {path} and run again: it is rebuilt from the archive or the download"
        expected = f"expected {self.title} as one tensor file"
        try:
            with safe_open(path, framework="numpy") as file:
                kept = (file.metadata() or {}).get("sha256", "")
            tensors = _mapped(path) if machine.is_large(path.stat().st_size) else load_file(path)
        except Exception as error:  # truncated, not safetensors, unreadable
            raise DataError(f"{path} is damaged ({error}); {expected}; {remedy}") from error
        for name in PARTS + self.more:
            if name not in tensors:
                raise DataError(f"{path} lacks {name!r}; {expected}; {remedy}")
        required = self.sha256 or kept
        found = self._hash(tensors)
        if found != required:
            raise DataError(
                f"{path} has SHA-256 {found[:12]}... of its tensors, expected {required[:12] or 'one'}...; {remedy}"
            )
        return tensors

    def _hash(self, tensors: Tensors) -> str:
        hasher = hashlib.sha256()
        for name in PARTS + self.more:
            hasher.update(tensors[name].numpy().data)
        return hasher.hexdigest()


def _mapped(path: Path) -> Tensors:
    """The tensors of a file that memory does not hold, checked by ``safe_open`` before."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
        content = machine.mapped(file, path.stat().st_size)[8 + length :]
    found = {}
    for name, entry in entries.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = content[begin:end].view(KINDS[entry["dtype"]])
            found[name] = values.view(entry["shape"])
    return found
