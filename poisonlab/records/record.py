"""A run on disk: one folder, complete in itself.

``<run id>/run.json`` holds a :class:`RunRecord`, beside it lies one safetensors file an artifact.
A folder may come from anybody. What is read from it is checked here before it reaches a path, a
query or a page: ids are UUIDs, file names follow from checked artifact names, sizes are capped,
links are refused, nothing is unpickled.
"""

import hashlib
import json
import math
import os
import re
import secrets
import stat
import time
import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from poisonlab.records import migrate
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.spec.config import digest, explain
from poisonlab.spec.threats import ThreatKind

Source = Literal["local", "imported", "reference"]
RECORD = "run.json"
MAX_RECORD_BYTES = 32 * 2**20
MAX_ARTIFACT_BYTES = 128 * 2**20
MAX_CURVES = 200  # of a run; those of today have twelve or fewer
MAX_METRICS = 1000
MAX_ARTIFACTS = 1000
MAX_TRIAL = 9999


class RecordError(ValueError):
    """A run folder that cannot be trusted or read; the one-line message says what is wrong with it."""


def new_run_id() -> str:
    """A UUID (version 7): ids sort by time, so that rows of one run lie together in the database."""
    milliseconds = int(time.time() * 1000)
    value = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def check_run_id(value: Any) -> str:
    """``value`` if it is a UUID in its usual form.

    Raises:
        RecordError: anything else. Paths are built from ids, so every id from outside passes here.
    """
    try:
        if isinstance(value, str) and str(uuid.UUID(value)) == value:
            return value
    except ValueError:
        pass
    raise RecordError(f"{str(value)[:60]!r} is not a run id; ids look like {uuid.UUID(int=0)}")


def finite(value: float | None) -> float | None:
    """The number, or ``None`` for one that diverged: JSON and SQL have no honest place for NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def _of_our_time(value: datetime) -> datetime:
    """A moment that every calendar, zone and database can hold."""
    if not 1970 <= value.year < 3000:
        raise ValueError("must be a moment from 1970 to 2999")
    return value


RunId = Annotated[str, BeforeValidator(check_run_id)]
Moment = Annotated[AwareDatetime, AfterValidator(_of_our_time)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
Stage = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_ -]*$")]
Text = Annotated[str, Field(max_length=20_000)]
Short = Annotated[str, Field(max_length=200)]
Value = Annotated[float, Field(allow_inf_nan=False)] | None
Step = Annotated[int, Field(ge=-(2**53), le=2**53)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ModelName = Literal["control", "undefended", "defended"]
Spec = Annotated[RecordedSpec, PlainValidator(RecordedSpec.of), PlainSerializer(RecordedSpec.model_dump)]


class _Recorded(BaseModel):
    """Fields of a newer version are passed over: what is known of the record stays readable."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", serialize_by_alias=True, validate_by_name=True, validate_by_alias=True
    )


class ArtifactFile(_Recorded):
    """Where an artifact lies in its run's folder, and the hash that its bytes must have.

    ``trial`` counts from 0; what a run shows once, for all its trials together, belongs to trial 0.
    """

    name: Name
    trial: Annotated[int, Field(ge=0, le=MAX_TRIAL)] = 0
    kind: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,64}$")]
    stage: Stage
    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @model_validator(mode="after")
    def _file_follows_from_name(self) -> "ArtifactFile":
        expected = artifact_file(self.name, self.trial)
        if self.file != expected:
            raise ValueError(f"artifact {self.name!r} must lie in {expected!r}, not {self.file[:80]!r}")
        return self


class RunRecord(_Recorded):
    """All that a run said and measured; ``None`` among the values stands for one that is undefined or diverged.

    What an older record does not say is ``None``.

    Attributes:
        schema_version: the field ``schema`` of the file, raised to today's where the file's is older.
        data: fingerprint of the dataset as it was loaded, see ``poisonlab.data.base.data_fingerprint``.
        undefined: metrics that were computed over no image; the others that are ``None`` diverged.
        collapsed: which of its models give nearly the same answer to every test image; their rates mean nothing.
    """

    schema_version: Annotated[int, Field(alias="schema", ge=1)] = migrate.SCHEMA
    run_id: RunId
    spec: Spec
    data: Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")] | None = None
    state: Literal["done", "failed", "cancelled"]
    source: Source = "local"
    revision: Short = ""
    version: Short = ""
    device: Short = ""
    torch: Short = ""
    created: Moment
    started: Moment
    finished: Moment
    timings: dict[Stage, Seconds] = {}
    cached: Annotated[list[Stage], Field(max_length=1000)] = []
    threat: ThreatKind | None = None
    metrics: Annotated[dict[Name, Value], Field(max_length=MAX_METRICS)] = {}
    undefined: Annotated[tuple[Name, ...], Field(max_length=MAX_METRICS)] = ()
    collapsed: Annotated[tuple[ModelName, ...], Field(max_length=3)] | None = None
    points: Annotated[list[tuple[Stage, Name, Step, Value]], Field(max_length=1_000_000)] = []
    logs: Annotated[
        list[tuple[Stage, Literal["info", "warning", "error"], Text]], Field(max_length=100_000)
    ] = []
    artifacts: Annotated[list[ArtifactFile], Field(max_length=MAX_ARTIFACTS)] = []
    peak_memory_mb: Seconds | None = None
    message: Text = ""

    @field_validator("points")
    @classmethod
    def _few_curves(cls, points: list[tuple[str, str, int, float | None]]) -> Any:
        curves = len({(stage, name) for stage, name, _, _ in points})
        if curves > MAX_CURVES:
            raise ValueError(f"a run has at most {MAX_CURVES} curves, not {curves}")
        return points

    @property
    def seconds(self) -> float:
        """Wall time of the run."""
        return max(0.0, (self.finished - self.started).total_seconds())

    def group(self) -> str:
        """Equal for repeats of one experiment on the same data; the spec's own where the record names no data."""
        spec = self.spec.group()
        return spec if self.data is None else digest([spec, self.data])

    @property
    def diverged(self) -> bool:
        """Whether any number of this run is not finite, those left out that are undefined."""
        lost = [name for name, value in self.metrics.items() if value is None and name not in self.undefined]
        return bool(lost) or any(value is None for *_, value in self.points)


def artifact_file(name: str, trial: int = 0) -> str:
    """File name of an artifact of one trial.

    Raises:
        RecordError: a name that could be anything but a plain file name, or no number of a trial.
    """
    if not 0 <= trial <= MAX_TRIAL:
        raise RecordError(f"trial {trial} is refused; trials are numbered from 0 to {MAX_TRIAL}")
    if not re.fullmatch(r"[a-z0-9_]{1,64}", name):
        raise RecordError(f"artifact name {name[:80]!r} is refused; use up to 64 of a-z, 0-9 and _")
    return f"{name}-{trial}.safetensors" if trial else f"{name}.safetensors"


# -- reading ------------------------------------------------------------------------------------------


def read_plain(path: Path, limit: int) -> bytes:
    """Bytes of a regular file.

    Raises:
        RecordError: a link, a device, a missing file, or more than ``limit`` bytes.
    """
    named = "/".join(path.parts[-2:]) or str(path)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise RecordError(f"{named} cannot be read: {error.strerror}; links are refused") from None
    found = os.fstat(handle)
    if path.is_symlink() or not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise RecordError(f"{named} is not a plain file")
    with os.fdopen(handle, "rb") as file:  # opening a folder so would fail
        if found.st_size > limit:
            raise RecordError(f"{named} has {found.st_size} bytes, at most {limit} are read")
        return file.read(limit + 1)[:limit]


def read_record(folder: Path) -> tuple[RunRecord, str]:
    """The checked record of a run folder, in today's schema, and the SHA-256 of its file, which is not changed.

    Raises:
        RecordError: not a record, or one that breaks a rule.
    """
    values, sha256 = read_values(folder)
    return parse_record(values, f"{folder.name}/{RECORD}"), sha256


def parse_record(values: dict[str, Any], where: str) -> RunRecord:
    """A record in today's schema from the values that were written.

    Args:
        where: names them in a message.

    Raises:
        RecordError: not a record, or one that breaks a rule.
    """
    try:
        return RunRecord.model_validate(migrate.migrate_record(values))
    except ValidationError as error:
        found = explain(error)
    except ValueError as error:
        found = str(error)
    raise RecordError(f"{where} is not a valid record: {found[:500]}")


def read_values(folder: Path) -> tuple[dict[str, Any], str]:
    """The record of a run folder as it was written, and the SHA-256 of its file.

    Raises:
        RecordError: not JSON, or no object.
    """
    raw = read_plain(folder / RECORD, MAX_RECORD_BYTES)
    try:
        values = json.loads(raw)
    except RecursionError:
        raise RecordError(f"{folder.name}/{RECORD} is not a valid record: nested too deeply") from None
    except ValueError as error:
        raise RecordError(f"{folder.name}/{RECORD} is not a valid record: {str(error)[:300]}") from None
    if not isinstance(values, dict):
        raise RecordError(f"{folder.name}/{RECORD} is not a valid record: it must be an object")
    return values, hashlib.sha256(raw).hexdigest()


def check_artifacts(record: RunRecord, folder: Path) -> Iterable[tuple[ArtifactFile, bytes]]:
    """Every artifact with its bytes, read once, hashed and parsed.

    Raises:
        RecordError: a file that is missing, is not what the record says, or does not load.
    """
    for item in record.artifacts:
        raw = read_plain(folder / item.file, MAX_ARTIFACT_BYTES)
        if hashlib.sha256(raw).hexdigest() != item.sha256:
            raise RecordError(f"{folder.name}/{item.file} does not have the hash that {RECORD} names")
        yield item, raw


def load_artifact(path: Path, sha256: str | None = None) -> Any:
    """An artifact whose path was built from checked names.

    Args:
        sha256: what the record says of its bytes; ``None`` of a run that has no record yet.

    Raises:
        RecordError: missing, a link, too large, damaged, or not an artifact of this program.
    """
    raw = read_plain(path, MAX_ARTIFACT_BYTES)
    place = f"{path.parent.name}/{path.name}"
    if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
        raise RecordError(f"{place} is damaged: it does not have the hash that {RECORD} of this run names")
    from poisonlab.records import artifacts  # noqa: PLC0415 - brings torch, which a page of tables does not need

    try:
        return artifacts.parse(raw, place)
    except artifacts.ArtifactError as error:
        raise RecordError(str(error)) from error


# -- writing ------------------------------------------------------------------------------------------


def write_atomically(path: Path, data: bytes, lasting: bool = True) -> None:
    """Whole or not at all: a reader, or a crash, never meets half a file.

    Args:
        lasting: wait until the disk has it; what is of no use after a loss of power need not.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_record(record: RunRecord, folder: Path) -> None:
    """Write the record of a run into its folder, which is made where it is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RECORD, record.model_dump_json().encode())


def save_artifact(value: Any, name: str, stage: str, folder: Path, trial: int = 0) -> ArtifactFile:
    """Write an artifact of one trial into a run's folder.

    Raises:
        RecordError: the name is no plain name. OSError: the disk refuses.
    """
    from poisonlab.records import artifacts  # noqa: PLC0415 - brings torch, which a page of tables does not need

    path = folder / artifact_file(name, trial)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        artifacts.save(value, temporary)
        with temporary.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    kind = type(value).__name__
    return ArtifactFile(name=name, trial=trial, kind=kind, stage=stage, file=path.name, sha256=sha256)
