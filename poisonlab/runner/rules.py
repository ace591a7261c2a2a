"""What people may do on a shared server, and who they are.

The rules are a TOML file that the administrator names in ``POISONLAB_RULES``; without one everything is allowed.
"""

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from poisonlab import machine, registry
from poisonlab.runner.parts import OWNER, RULES, Person
from poisonlab.spec.config import ExperimentSpec, Preset
from poisonlab.store import StoreError


class NotAllowed(RuntimeError):
    """Somebody may not do this; the message says what they may."""


class Rules(BaseModel):
    """What people who are no administrators may do; 0 and an empty list stand for no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    administrators: tuple[str, ...] = ()
    waiting: int = Field(0, ge=0, strict=True, description="jobs of one person that wait")
    running: int = Field(0, ge=0, strict=True, description="jobs of one person at work")
    minutes: float = Field(0, ge=0, strict=True, description="wall time of a job")
    free_gb: float = Field(0.5, ge=0, strict=True, description="free disk below which nothing is queued")
    runs_gb: float = Field(
        0, ge=0, strict=True, description="size of runs and cache from which on nothing is queued"
    )
    presets: tuple[Preset, ...] = ()
    datasets: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    uploads: bool = Field(True, strict=True, description="pictures of their own may be added in the browser")
    teaching: bool = Field(False, strict=True, description="the preset quick of the digits alone")

    def person(self, name: str) -> Person:
        """Somebody who signed in."""
        return Person(name, name in self.administrators)

    @property
    def unlimited(self) -> tuple[str, ...]:
        """The names of those to whom no limit applies: the owner of the machine has none."""
        return (OWNER.name, *self.administrators)

    def keeps_back(self, device: str) -> bool:
        """Whether a device is for administrators alone."""
        return bool(self.devices) and device not in self.devices

    def check(
        self, specs: Sequence[ExperimentSpec], device: str, person: Person, waiting: int, results: Path
    ) -> None:
        """Whether somebody may queue runs.

        Args:
            waiting: jobs of this person that wait already.
            results: the results folder.

        Raises:
            NotAllowed: they may not.
        """
        free = machine.free_disk_gb(results)
        if free < self.free_gb:
            raise NotAllowed(
                f"{free:.2g} GiB are free where {results} is, and {self.free_gb:g} have to stay: free some disk space"
            )
        if person.administrator:
            return
        if self.waiting and waiting + len(specs) > self.waiting:
            raise NotAllowed(
                f"{waiting} of your jobs wait already, and {len(specs)} more would pass your limit of {self.waiting}: "
                "wait, cancel some, or queue fewer"
            )
        if device != "auto" and self.keeps_back(device):
            raise NotAllowed(f"you may use {_listed(self.devices)}, not {device}")
        for spec in specs:
            self._check_kind("preset", spec.preset, ("quick",) if self.teaching else self.presets)
            self._check_kind("dataset", spec.dataset.name, ("digits",) if self.teaching else self.datasets)
            if getattr(registry.dataset[spec.dataset.name], "by_path", False):
                raise NotAllowed(
                    f"dataset {spec.dataset.name} reads any folder of this machine, which is for administrators; add "
                    "your pictures as a set of your own"
                )
        if self.runs_gb:
            used = size_gb(results)
            if used > self.runs_gb:
                raise NotAllowed(
                    f"runs and cache take {used:.1f} GiB of {self.runs_gb:g} here: ask an administrator for room"
                )

    def check_upload(self, person: Person) -> None:
        """Whether somebody may add pictures.

        Raises:
            NotAllowed: they may not.
        """
        if person.administrator:
            return
        if not self.uploads or self.teaching:
            raise NotAllowed("on this server only an administrator adds pictures")

    def _check_kind(self, kind: str, name: str, allowed: Sequence[str]) -> None:
        if allowed and name not in allowed:
            raise NotAllowed(f"on this server you may use {kind} {_listed(allowed)}, not {name}")


def read_rules() -> Rules:
    """The rules of this server.

    Raises:
        StoreError: the file cannot be read, or says something that is no rule.
    """
    path = os.environ.get(RULES)
    if not path:
        return Rules()
    try:
        values: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
        return Rules(**values)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StoreError(f"{RULES} names {path}, which cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{path}: {name}: {first['msg']}") from error


def size_gb(results: Path) -> float:
    """What runs and cache take, in GiB."""
    total = 0
    for folder in ("runs", "cache"):
        for path, _, names in os.walk(results / folder):
            for name in names:
                try:
                    total += os.lstat(os.path.join(path, name)).st_size
                except OSError:  # removed meanwhile
                    continue
    return total / 2**30


def _listed(names: Sequence[str]) -> str:
    return " or ".join(names)
