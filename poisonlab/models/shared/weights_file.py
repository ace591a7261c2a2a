"""A file of weights that somebody brings: safetensors, or what ``torch.save`` wrote, read without running any of it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

Tensors = dict[str, Tensor]

MOST_BYTES = 4 * 2**30  # of a file, and of its tensors
MOST_TENSORS = 20_000
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
AVERAGED = "n_averaged"  # beside the weights of torch's AveragedModel
COUNTER = "num_batches_tracked"  # of batch norm, in no formula
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
KINDS = (*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

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
    """Tensors by name, on the CPU, floats in float32, without the wrappers and prefixes of libraries.

    Args:
        path: ``.safetensors``, or a file of ``torch.save`` with a state dict: plain, below ``state_dict``, ``model`` or
            ``net``, or a result file of BackdoorBench.

    Raises:
        WeightsError: no plain file, too large, damaged, no state dict, objects other than tensors, tensors that are not
            plain numbers on the CPU, or numbers that are not finite in float32.
    """
    _check_plain(path)
    found = _of_safetensors(path) if path.suffix == ".safetensors" else _of_torch(path)
    _check_count(len(found), path)
    tensors = without_prefix(found)
    for name, tensor in tensors.items():
        _check_tensor(tensor, f"{path.name}: {name[:120]!r}")
    size = sum(tensor.nbytes for tensor in tensors.values())
    if size > MOST_BYTES:
        raise WeightsError(f"{path.name} holds tensors of {size:,} bytes, more than {MOST_BYTES:,}")
    # networks compute in float32, where large numbers of float64 are infinite
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path.name}: {name[:120]!r} holds numbers that are not finite in float32")
    return tensors


def _check_count(tensors: int, path: Path) -> None:
    if not 1 <= tensors <= MOST_TENSORS:
        raise WeightsError(f"{path.name} holds {tensors:,} tensors; weights have from 1 to {MOST_TENSORS:,}")


def _check_tensor(tensor: Tensor, where: str) -> None:
    """Plain numbers, all of them there. A view that repeats one number fills the memory as soon as it is copied."""
    if tensor.layout != torch.strided or tensor.is_nested or tensor.device.type != "cpu":
        raise WeightsError(f"{where} is no plain tensor; save the weights dense and with their numbers")
    if tensor.dtype not in KINDS:
        raise WeightsError(f"{where} is of {tensor.dtype}; save the weights as torch.float32")
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise WeightsError(f"{where} has fewer numbers in the file than its shape says; save a copy of it")


def without_prefix(tensors: Mapping[str, Tensor]) -> Tensors:
    """The same without what stands before every name, such as ``module.``, once or several times."""
    tensors = {name: value for name, value in tensors.items() if name != AVERAGED}
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
            names = file.keys()
            _check_count(len(names), path)
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path.name} is no whole safetensors file: {error}") from None


def _of_torch(path: Path) -> Tensors:
    _check_stored(path)
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


def _check_stored(path: Path) -> None:
    """What ``torch.save`` writes is stored as it is: a file that would grow when it is opened is not from there."""
    try:
        if not zipfile.is_zipfile(path):
            return  # the older format
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # of any bytes the reader of archives raises anything
        raise WeightsError(f"{path.name} is no whole file of torch.save: {_what(error)}") from None
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if compressed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise WeightsError(f"{path.name} is compressed; torch.save stores weights as they are")


def _unwrapped(loaded: Any, path: Path, depth: int = 0) -> Tensors:
    """The state dict in what was loaded."""
    if isinstance(loaded, Mapping) and depth < 4:
        # first, as tensors beside the weights may be a best accuracy or an epoch
        for name in WRAPPERS:
            if isinstance(loaded.get(name), Mapping):
                return _unwrapped(loaded[name], path, depth + 1)
        tensors = {name: value for name, value in loaded.items() if isinstance(value, Tensor)}
        if tensors and all(isinstance(name, str) for name in tensors):
            return tensors
    raise WeightsError(
        f"{path.name} holds no state dict: tensors by name, alone or under one of {', '.join(WRAPPERS)}"
    )


def _what(error: BaseException) -> str:
    """The line of torch's long message that names what it refused."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (named or lines or [type(error).__name__])[0][:200]
