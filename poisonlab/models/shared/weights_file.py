"""A file of weights that somebody brings: safetensors, or what ``torch.save`` wrote, read without running any of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

Tensors = dict[str, Tensor]

MOST_BYTES = 4 * 2**30  # of a file
MOST_TENSORS = 20_000
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
COUNTER = "num_batches_tracked"  # of batch norm, in no formula

# BackdoorBench keeps arrays of row numbers beside the weights; nothing of these names can do more than hold numbers
_ARRAYS: list[Any] = [
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.bool_, np.int32, np.int64, np.uint8, np.float32, np.float64)),
]
_NAMED_BEFORE_NUMPY_2 = [
    (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
]


class WeightsError(ValueError):
    """Weights that cannot be read or do not fit; the message names the file or the layers."""


def read_weights(path: Path) -> Tensors:
    """Tensors by name, on the CPU, without the wrappers and prefixes that libraries put around them.

    Args:
        path: ``.safetensors``, or a file of ``torch.save`` with a state dict: plain, below ``state_dict``, ``model`` or
            ``net``, or a result file of BackdoorBench.

    Raises:
        WeightsError: no plain file, too large, damaged, no state dict, objects other than tensors, or numbers that are
            not finite.
    """
    _check_plain(path)
    found = _of_safetensors(path) if path.suffix == ".safetensors" else _of_torch(path)
    if len(found) > MOST_TENSORS:
        raise WeightsError(f"{path.name} holds {len(found):,} tensors, more than {MOST_TENSORS:,}")
    tensors = without_prefix(found)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path.name}: {name} holds numbers that are not finite")
    return tensors


def without_prefix(tensors: Mapping[str, Tensor]) -> Tensors:
    """The same without what stands before every name, such as ``module.``, once or several times."""
    names = list(tensors)
    for prefix in PREFIXES * 3:
        if all(name.startswith(prefix) for name in names):
            names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, tensors.values(), strict=True))


def _check_plain(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise WeightsError(f"{path} is no file")
    if not 0 < size <= MOST_BYTES:
        raise WeightsError(f"{path.name} has {size:,} bytes; weights have from 1 to {MOST_BYTES:,}")


def _of_safetensors(path: Path) -> Tensors:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path.name} is no whole safetensors file: {error}") from None


def _of_torch(path: Path) -> Tensors:
    try:
        with torch.serialization.safe_globals([*_ARRAYS, *_NAMED_BEFORE_NUMPY_2]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any bytes torch's reader raises anything
        if "GLOBAL" in str(error):
            raise WeightsError(
                f"{path.name} holds more than weights ({_what(error)}) and is not opened: save the state dict alone, "
                "torch.save(model.state_dict(), FILE)"
            ) from None
        raise WeightsError(f"{path.name} is no whole file of torch.save: {_what(error)}") from None
    return _unwrapped(loaded, path)


def _unwrapped(loaded: Any, path: Path, depth: int = 0) -> Tensors:
    """The state dict in what was loaded."""
    if isinstance(loaded, Mapping) and depth < 4:
        tensors = {name: value for name, value in loaded.items() if isinstance(value, Tensor)}
        if tensors and all(isinstance(name, str) for name in tensors):
            return tensors
        for name in WRAPPERS:
            if isinstance(loaded.get(name), Mapping):
                return _unwrapped(loaded[name], path, depth + 1)
    raise WeightsError(
        f"{path.name} holds no state dict: tensors by name, alone or under one of {', '.join(WRAPPERS)}"
    )


def _what(error: BaseException) -> str:
    """The line of torch's long message that names what it refused."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (named or lines or [type(error).__name__])[0][:200]
