"""Weights that somebody brought, kept under the hash of their numbers: what names them decides all that they are.

A spec holds the hash and never a path, so no link, record or upload can name a file of this machine.
"""

import os
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from poisonlab.cache.stage_key import fingerprint
from poisonlab.data.base import data_folder
from poisonlab.models.shared.weights_file import Tensors, WeightsError, read_weights
from poisonlab.spec.config import digest

FOLDER = "weights"  # below the data folder
HASH = re.compile(r"[0-9a-f]{24}")


def keep(path: Path) -> str:
    """Read a file of weights and keep its tensors.

    Returns:
        their hash, by which a spec names them.

    Raises:
        WeightsError: the file cannot be read, or the tensors cannot be kept.
    """
    tensors = {name: value.contiguous().clone() for name, value in read_weights(path).items()}
    name = _hash(tensors)
    kept = _path(name)
    if kept.exists():
        return name
    temporary = kept.with_suffix(f".{os.getpid()}.tmp")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary)
        temporary.replace(kept)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"cannot keep the weights under {kept.parent}: {error}; free some space there"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return name


def kept(name: str) -> Tensors:
    """The tensors of a hash.

    Raises:
        WeightsError: they are not on this machine, or are damaged.
    """
    path = _path(name)
    if not path.exists():
        raise WeightsError(
            f"the weights {name} are not on this machine; bring them with --weights FILE, then run again"
        )
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged ({error}); delete it and bring the weights again") from None
    if _hash(tensors) != name:
        raise WeightsError(f"{path} was changed; delete it and bring the weights again")
    return tensors


def _hash(tensors: Tensors) -> str:
    ordered = dict(sorted(tensors.items()))
    names = fingerprint(*ordered.values())
    return digest([names, list(ordered)], 24)


def _path(name: str) -> Path:
    if not HASH.fullmatch(name):
        raise WeightsError(f"{name[:60]!r} is no hash of weights")
    return data_folder() / FOLDER / f"{name}.safetensors"
