"""What went wrong, in one line that says what to change."""

import errno
import traceback
from pathlib import Path

import torch
from pydantic import ValidationError

from poisonlab.cache.stage_cache import CacheError
from poisonlab.data.base import DataError
from poisonlab.machine import DeviceError
from poisonlab.spec import stages
from poisonlab.spec.config import ExperimentSpec, explain
from poisonlab.training.loop import Diverged


class RunFolderError(RuntimeError):
    """The run's folder cannot be made."""


class TimeLimit(RuntimeError):
    """A job has taken all the time that the rules of its server give it."""

    def __init__(self) -> None:
        super().__init__("time limit of this server: resume goes on after the last whole stage")


# Errors of this program, whose messages say what to do.
_OWN = (ValueError, DataError, Diverged, CacheError, RunFolderError, DeviceError, TimeLimit)


def explain_failure(error: Exception, spec: ExperimentSpec, stage: str, device: torch.device) -> str:
    """One line: what happened and what to change."""
    text = (explain(error) if isinstance(error, ValidationError) else str(error)).strip()
    if _is_out_of_memory(error):
        place = f" in stage {stage!r}" if stage else ""
        return (
            f"out of memory on {device}{place}: {_how_to_save_memory(spec, stage)}, or close other programs"
        )
    if isinstance(error, OSError) or "No space left on device" in text:
        return disk_message(error, Path(getattr(error, "filename", None) or "the results folder"))
    if isinstance(error, _OWN):
        return " ".join(text.split()) or type(error).__name__
    if "CUDA" in text or isinstance(error, torch.AcceleratorError):
        first = text.splitlines()[0] if text else type(error).__name__
        return (
            f"the GPU failed ({first[:300]}): look at nvidia-smi, restart this program and resume "
            "the run, or run it with device cpu"
        )
    return f"{type(error).__name__}: {' '.join(text.split())[:500]} (at {_where(error)}; please report this)"


def is_expected(error: Exception) -> bool:
    """Whether the message says all there is to say: no need for a traceback."""
    return isinstance(error, _OWN) or _is_out_of_memory(error)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _how_to_save_memory(spec: ExperimentSpec, stage: str) -> str:
    """Which parameters decide how much a stage holds at once, with their values, and what to do about them."""
    known = stages.find(stage)
    held = stages.memory_parameters(known, spec) if known else {}
    if not held:
        return "lower dataset.train_images or dataset.test_images"
    named = {name: f"{name} (now {value})" for name, value in held.items()}
    texts = [named[name] for name, value in held.items() if isinstance(value, str)]
    numbers = [named[name] for name, value in held.items() if not isinstance(value, str)]
    advice = [f"choose smaller {' or '.join(texts)}"] if texts else []
    advice += [f"lower {' or '.join(numbers)}"] if numbers else []
    return " or ".join(advice)


def disk_message(error: Exception, folder: Path) -> str:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left on device" in str(error):
        remedy = "free some space or choose another folder with --results, then resume"
        return f"the disk is full at {folder}: {remedy}"
    reason = getattr(error, "strerror", None) or str(error)
    return f"cannot use {folder}: {reason}; check the permissions or choose another folder with --results"


def _where(error: Exception) -> str:
    """``file.py:line`` of the innermost frame of this package, without the machine's paths."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "poisonlab" in Path(f.filename).parts]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown place"
