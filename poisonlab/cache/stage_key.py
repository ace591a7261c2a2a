"""What decides the key of a stage: its name, what it was given, the code, and where it is computed."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from poisonlab import registry
from poisonlab.cache.code_version import core_code, method_code
from poisonlab.context import Context
from poisonlab.spec.config import Part, canonical_json
from poisonlab.types import ImageSet


def stage_id(name: str, key: Any, ctx: Context) -> str:
    """The stage's name and the hash of all that its result depends on; a folder may be called so.

    Args:
        key: see :func:`canonical_key`.
    """
    torch_version = ".".join(torch.__version__.split(".")[:2])
    where = [torch_version, ctx.device.type, str(ctx.autocast_type)]
    depends = [name, canonical_key(key), core_code(), where]
    return f"{name}-{hashlib.sha256(canonical_json(depends).encode()).hexdigest()[:20]}"


def canonical_key(key: Any) -> Any:
    """A key as JSON-able values.

    Args:
        key: JSON-able values, configurations, and parts of a spec, in lists, tuples and dictionaries. A part stands for
            its method: it brings the hash of the method's code.
    """
    if isinstance(key, Part):
        module = registry.KINDS[key.kind][key.name].__module__
        params = key.params.model_dump(mode="json")
        return {"kind": key.kind, "name": key.name, "params": params, "code": method_code(module)}
    if isinstance(key, BaseModel):
        return key.model_dump(mode="json")
    if isinstance(key, dict):
        return {name: canonical_key(value) for name, value in key.items()}
    if isinstance(key, list | tuple):
        return [canonical_key(value) for value in key]
    return key


def fingerprint(*tensors: Tensor) -> str:
    """Hash of the contents of tensors: a stage that is keyed by it depends on exactly these numbers."""
    return fingerprint_of(tensors)


def fingerprint_images(sets: Iterable[ImageSet]) -> str:
    """Hash of images, labels and class names of sets, which may be made one after the other."""
    hasher = hashlib.sha256()
    for data in sets:
        hasher.update(f"{fingerprint(data.x, data.y)}{canonical_json(data.classes)}".encode())
    return hasher.hexdigest()[:24]


def fingerprint_of(tensors: Iterable[Tensor]) -> str:
    """The same of tensors that are made one after the other and need not lie in memory together."""
    hasher = hashlib.sha256()
    for tensor in tensors:
        hasher.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        hasher.update(tensor.detach().cpu().contiguous().numpy().data)
    return hasher.hexdigest()[:24]
