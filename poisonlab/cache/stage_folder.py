"""One stage on disk: its tensors, its artifacts and what it reported, each file checked against its hash when read.

``stage.json`` holds the SHA-256 of every other file, ``stage.sha256`` that of ``stage.json``. A file is read once: the
bytes that are hashed are the bytes that are used.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors

from poisonlab.context import Context
from poisonlab.events import ArtifactReady, Event, Log, Metric
from poisonlab.records import artifacts
from poisonlab.types import Bundle

RECORD = "stage.json"
SEAL = "stage.sha256"
TENSORS = "tensors.safetensors"


class Damaged(ValueError):
    """A file of a stage that is not what was written."""


@dataclass(frozen=True)
class StoredStage:
    """A stage as it was read.

    Attributes:
        bundle: what it handed on, on the CPU.
        metrics: the points of its curves.
        logs: message and level. artifacts: name, value and trial.
    """

    bundle: Bundle
    metrics: list[Metric]
    logs: list[tuple[str, str]]
    artifacts: list[tuple[str, Any, int]]

    def report(self, ctx: Context) -> None:
        """Emit again what the stage emitted when it was computed; what an observer saw only where it looks again."""
        for point in self.metrics:
            if point.seen_by in ("", ctx.observer_key):
                ctx.emit(dataclasses.replace(point, stage=ctx.stage_name))
        for message, level in self.logs:
            ctx.log(message, level)
        for name, artifact, trial in self.artifacts:
            ctx.of_trial(trial).artifact(name, artifact)


def write(folder: Path, about: dict[str, Any], bundle: Bundle, heard: Sequence[Event]) -> None:
    """Write a stage into an empty folder.

    Args:
        about: JSON-able, for people who look into the folder.
        heard: all that the stage emitted; its metrics, logs and artifacts are kept.

    Raises:
        OSError: the disk refuses.
    """
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in bundle.tensors.items()}
    files = {
        TENSORS: safetensors.save(tensors or {"_": torch.zeros(1)})
    }  # the format asks for one tensor at least
    shown: list[tuple[str, str, int]] = []  # name of each artifact, its file and its trial
    for event in heard:
        if isinstance(event, ArtifactReady):
            file = f"artifact{len(shown)}.safetensors"
            files[file] = artifacts.to_bytes(event.value)
            shown.append((event.name, file, event.trial))
    metrics = [event for event in heard if isinstance(event, Metric)]
    record = about | {
        "data": bundle.data,
        "metrics": [
            (m.name, m.step, m.value if math.isfinite(m.value) else None, m.seen_by) for m in metrics
        ],
        "logs": [(event.message, event.level) for event in heard if isinstance(event, Log)],
        "artifacts": shown,
        "files": {file: _digest(content) for file, content in files.items()},
    }
    files[RECORD] = json.dumps(record).encode()
    files[SEAL] = _digest(files[RECORD]).encode()
    for file, content in files.items():
        (folder / file).write_bytes(content)


def read(folder: Path) -> StoredStage:
    """Read a stage back.

    Raises:
        Damaged: a file is not what was written; names it. OSError: a file is missing or cannot be read.
    """
    seal = (folder / SEAL).read_bytes().decode("ascii", "replace")
    record = json.loads(_checked(folder / RECORD, seal))
    files = {file: _checked(folder / file, digest) for file, digest in record["files"].items()}
    tensors = safetensors.load(files[TENSORS])
    tensors.pop("_", None)
    return StoredStage(
        Bundle(tensors, record["data"]),
        [
            Metric("", name, step, math.nan if value is None else value, seen_by)
            for name, step, value, seen_by in record["metrics"]
        ],
        [(message, level) for message, level in record["logs"]],
        [(name, artifacts.parse(files[file], file), trial) for name, file, trial in record["artifacts"]],
    )


def _checked(path: Path, digest: str) -> bytes:
    content = path.read_bytes()
    if _digest(content) != digest:
        raise Damaged(f"{path.name} is not what was written")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
