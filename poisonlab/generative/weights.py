"""Small generative weights that ship with the package, found by the hash of what they were trained on.

A file holds nothing but safetensors; its header names the spec, the health and the command that made it. Weights are
used only where their whole key agrees.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from poisonlab.cache.stage_key import fingerprint
from poisonlab.spec.config import Config, digest

FOLDER = Path(__file__).parent / "weights"
MAX_BYTES = 5 * 2**20


@dataclass(frozen=True)
class Shipped:
    """``name`` of the file, its tensors, the health measured after training, the command that made it."""

    name: str
    tensors: dict[str, Tensor]
    health: dict[str, float]
    command: str


def key(images: Tensor, *configs: Config) -> list[Any]:
    """All that decides a generative model: its training images and its configurations."""
    return [fingerprint(images), *(config.model_dump(mode="json") for config in configs)]


def path_of(key: Any, kind: str = "ebm") -> Path:
    return FOLDER / f"{kind}-{digest(key)}.safetensors"


def checksum(key: Any, kind: str = "ebm") -> str | None:
    """SHA-256 of the file that :func:`find` reads, ``None`` without one."""
    path = path_of(key, kind)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def find(key: Any, kind: str = "ebm") -> Shipped | None:
    """The weights of a kind of model trained under exactly ``key``, or ``None``."""
    path = path_of(key, kind)
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    return Shipped(path.name, tensors, json.loads(header["health"]), header["command"])


def ship(
    key: Any, tensors: dict[str, Tensor], health: dict[str, float], command: str, kind: str = "ebm"
) -> Path:
    """Write weights into the repository.

    Raises:
        ValueError: they take more than 5 MB.
    """
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    if size > MAX_BYTES:
        raise ValueError(f"shipped weights may take {MAX_BYTES} bytes, these take {size}")
    FOLDER.mkdir(exist_ok=True)
    header = {"spec": json.dumps(key), "health": json.dumps(health), "command": command}
    save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, path_of(key, kind), metadata=header)
    return path_of(key, kind)
