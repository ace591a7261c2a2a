"""What each kind of artifact must hold: types, dimensions, equal counts, ranges of labels. Checked when one is read.

A field is described by its type, its dimensions and the range of its values:

    "uint8 n c h w"         a tensor; ``n`` is the same number in all fields of the artifact
    "int64 n in [0, k)"     its values are from 0 to below the number ``k``
    "int64 n in [0, any)"   they are counts
    "float n in [0, 1]"     its values are from 0 to 1, or undefined
    "float n or empty"      it may also hold nothing, as of a record that does not say
    "float n or none"       it may be ``None`` instead
    "names k", "names"      a list of texts, ``k`` of them
    "whole in [-1, k)"      a whole number; also "number", "flag", "text", "numbers" (of a dictionary;
                            ``None`` among them is undefined)

A dimension is at least 1; one that is written with a star (``n*``) may be 0. ``c`` is 1 or 3: images are gray or color.
What fields of one kind say of each other beyond that is in ``AGREEMENTS``.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

MIN_SIDE = 2
MAX_SIDE = 4096
MAX_WHOLE = 2**53  # what figures and JSON hold exactly
ROUNDING = 1e-4  # by which a share may leave its range
MAX_NAMES = 10_000
MAX_TEXT = 20_000
DTYPES: dict[str, tuple[torch.dtype, ...]] = {
    "uint8": (torch.uint8,),
    "int64": (torch.int64,),
    "bool": (torch.bool,),
    "float": (torch.float16, torch.float32, torch.float64),
}

SHAPES: dict[str, dict[str, str]] = {
    "PoisonGallery": {
        "clean": "uint8 n c h w",
        "poisoned": "uint8 n c h w",
        "true_labels": "int64 n in [0, k)",
        "given_labels": "int64 n in [0, k)",
        "classes": "names k",
    },
    "TargetGallery": {
        "images": "uint8 t c h w",
        "true_labels": "int64 t in [0, k)",
        "adversarial_labels": "int64 t in [0, k)",
        "predicted_control": "int64 t in [0, k)",
        "predicted_undefended": "int64 t in [0, k)",
        "predicted_defended": "int64 t in [0, k)",
        "classes": "names k",
        "adversarial_probability": "float 3 t in [0, 1] or empty",
    },
    "PurificationTrace": {
        "original": "uint8 n c h w",
        "before": "uint8 n c h w",
        "after": "uint8 n c h w",
        "poisoned": "bool n",
        "surviving": "float n or empty",
    },
    "LangevinTrace": {
        "steps": "int64 s in [0, any)",
        "clean_images": "uint8 s n c h w",
        "poisoned_images": "uint8 s n c h w",
        "clean_energy": "float s n",
        "poisoned_energy": "float s n",
        "from_poisoned": "float s n",
        "from_clean": "float s n",
        "used": "whole in [-1, any)",
        "moments": "names",
        "same_noise": "flag",
    },
    "EnergyHistogram": {"clean": "float n*", "poisoned": "float p*", "purified": "float q*"},
    "TriggerTruth": {
        "clean": "uint8 n c h w",
        "triggered": "uint8 n c h w",
        "target_class": "whole in [-1, k)",
        "classes": "names k",
        "true_labels": "int64 n in [0, k) or empty",
        "clean_undefended": "int64 n in [0, k) or empty",
        "triggered_undefended": "int64 n in [0, k) or empty",
        "triggered_defended": "int64 n in [0, k) or empty",
    },
    "TriggerReconstruction": {
        "patterns": "float r c h w",
        "class_histogram": "int64 r k in [0, any)",
        "l1_norm": "float r",
        "classes": "names k",
        "masks": "float r 1 h w in [0, 1] or none",
    },
    "ClassTriggers": {
        "patterns": "float m c h w",
        "masks": "float m 1 h w in [0, 1]",
        "labels": "int64 m in [0, k)",
        "classes": "names k",
    },
    "ClassAnomaly": {
        "victim": "float k",
        "control": "float k",
        "threshold": "number or none",
        "named": "whole in [-1, k)",
        "named_control": "whole in [-1, k)",
        "target_class": "whole in [-1, k)",
        "score": "text",
        "classes": "names k",
    },
    "SampleSuspicion": {
        "clean": "float n*",
        "poisoned": "float p*",
        "control": "float q*",
        "flagged_clean": "number in [0, 1] or none",
        "flagged_poisoned": "number in [0, 1] or none",
        "flagged_control": "number in [0, 1] or none",
    },
    "ScreeningReview": {
        "untouched": "float u*",
        "triggered": "float t*",
        "control_untouched": "float u*",
        "control_triggered": "float t*",
        "threshold": "number or none",
        "limit": "number or none",
        "images": "uint8 m c h w",
        "score": "float m",
        "has_trigger": "bool m",
        "stopped": "bool m",
        "true": "int64 m in [0, k)",
        "answer": "int64 m in [0, k)",
        "classes": "names k",
    },
    "FlagReview": {
        "clean": "float n*",
        "bad": "float b*",
        "flagged": "int64 s in [0, any)",
        "precision": "float s in [0, 1]",
        "recall": "float s in [0, 1]",
        "chosen": "whole in [0, any)",
        "counts": "int64 3 2 in [0, any)",
        "images": "uint8 m c h w",
        "rank": "int64 m in [1, any)",
        "score": "float m",
        "fate": "int64 m in [0, 3)",
        "given": "int64 m in [0, k)",
        "true": "int64 m in [0, k)",
        "used": "int64 m in [-1, k)",
        "is_bad": "bool m",
        "classes": "names k",
    },
    "ConfusionChange": {
        "before": "int64 k k in [0, any)",
        "after": "int64 k k in [0, any)",
        "classes": "names k",
    },
    "NeuronScores": {
        "layers": "names l",
        "histogram": "int64 l bins in [0, any)",
        "score": "text",
        "low_is_blamed": "flag",
        "values": "float channels or empty",
        "modules": "names",
    },
    "ActivationDrive": {
        "layers": "names l",
        "layer": "int64 channels in [0, l)",
        "score": "float channels",
        "drive": "float channels",
        "poison_change": "float channels or empty",
        "score_name": "text",
        "low_is_blamed": "flag",
    },
    "RepairTrace": {
        "phases": "names p",
        "phase": "int64 n in [0, p)",
        "step": "int64 n in [0, any)",
        "accuracy": "float n in [0, 1]",
        "asr": "float n in [0, 1]",
        "images": "whole in [0, any)",
    },
    "PredictionHistogram": {
        "before": "int64 k in [0, any)",
        "after": "int64 k in [0, any)",
        "classes": "names k",
    },
    "SettingsCurve": {
        "settings": "float s",
        "accuracy": "float s in [0, 1]",
        "asr": "float s in [0, 1]",
        "clean_score": "float s in [0, 1]",
        "chosen": "whole in [0, s)",
        "oracle": "whole in [-1, s)",
        "setting_name": "text",
        "stand_in": "float s in [0, 1] or empty",
        "by_rule": "flag",
    },
    "Crafting": {
        "steps": "int64 s* in [0, any)",
        "unrolled": "float s*",
        "plain": "float s*",
        "tried": "int64 r* in [0, any)",
        "tried_loss": "float r*",
        "tried_probability": "float r* in [0, 1]",
        "places": "float 2 e 2",
        "variance": "float 2",
        "path_loss": "float 2 e",
        "path_probability": "float 2 e in [0, 1]",
        "base": "uint8 n c h w",
        "recolored": "uint8 n c h w",
        "poisoned": "uint8 n c h w",
        "changes": "int64 bins in [0, any)",
        "grids": "float n 3 r1 r2 r3 or empty",
        "eps": "number in [0, 255]",
        "color": "number in [0, 255]",
    },
    "Curve": {
        "x": "float n",
        "y": "float l n",
        "series": "names l",
        "x_label": "text",
        "y_label": "text",
    },
    "ModelHealth": {"values": "numbers", "verdict": "text"},
}

_FORM = re.compile(
    r"(?P<type>\w+)(?P<dims>(?: [\w*]+)*?)(?: in \[(?P<low>-?\d+), (?P<high>\w+)[)\]])?(?: or (?P<absent>empty|none))?"
)


class ShapeError(ValueError):
    """A field that is not what its kind of artifact holds; the message names the field and what is expected."""


@dataclasses.dataclass(frozen=True)
class _Form:
    """A description of a field, taken apart."""

    text: str
    type: str
    dims: tuple[str, ...]
    low: int | None
    high: str | None
    absent: str | None


def _left_out(value: Any, form: _Form) -> bool:
    """Whether a record does not say what it need not say."""
    if form.absent == "empty":
        return isinstance(value, Tensor) and not value.numel()
    return form.absent == "none" and value is None


def check(artifact: Any) -> None:
    """Compare an artifact with what its kind must hold.

    Raises:
        ShapeError: the first field that does not fit.
    """
    forms = {name: _parsed(text) for name, text in SHAPES[type(artifact).__name__].items()}
    sizes: dict[str, int] = {}
    held = {name: form for name, form in forms.items() if not _left_out(getattr(artifact, name), form)}
    for name, form in held.items():
        for dimension, size in _sizes(name, getattr(artifact, name), form):
            _bind(name, form, dimension, size, sizes)
    for name, form in held.items():
        _check_range(name, getattr(artifact, name), form, sizes)
    agree = AGREEMENTS.get(type(artifact).__name__)
    if agree is not None:
        agree(artifact)


def _parsed(text: str) -> _Form:
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} describes no field")
    low = None if found["low"] is None else int(found["low"])
    return _Form(text, found["type"], tuple(found["dims"].split()), low, found["high"], found["absent"])


def _sizes(name: str, value: Any, form: _Form) -> Iterator[tuple[str, int]]:
    """The dimensions of a value with their sizes, after its type was checked."""
    if form.type in DTYPES:
        if (
            not isinstance(value, Tensor)
            or value.dtype not in DTYPES[form.type]
            or value.ndim != len(form.dims)
        ):
            raise ShapeError(f"{name} must be {form.text}, not {_described(value)}")
        yield from zip(form.dims, value.shape, strict=True)
    elif form.type == "names":
        listed = (
            isinstance(value, list) and len(value) <= MAX_NAMES and all(isinstance(v, str) for v in value)
        )
        if not listed or any(len(v) > MAX_TEXT for v in value):
            raise ShapeError(f"{name} must be a list of names, not {_described(value)}")
        if form.dims:
            yield form.dims[0], len(value)
    elif not _PLAIN[form.type](value):
        raise ShapeError(f"{name} must be a {form.type}, not {_described(value)}")


def _bind(name: str, form: _Form, dimension: str, size: int, sizes: dict[str, int]) -> None:
    """Require the size that a dimension has elsewhere in the artifact, and sizes that can be shown."""
    expected = int(dimension) if dimension.isdecimal() else sizes.setdefault(dimension.rstrip("*"), size)
    if size != expected:
        raise ShapeError(f"{name} must be {form.text} with {dimension} = {expected}, not {size}")
    if size == 0 and not dimension.endswith("*"):
        raise ShapeError(f"{name} must be {form.text} and is empty")
    if dimension == "c" and size not in (1, 3):
        raise ShapeError(f"{name} must have 1 or 3 color channels, not {size}")
    if dimension in ("h", "w") and not MIN_SIDE <= size <= MAX_SIDE:
        raise ShapeError(f"{name} must be {MIN_SIDE} to {MAX_SIDE} pixels wide and high, not {size}")


def _check_range(name: str, value: Any, form: _Form, sizes: Mapping[str, int]) -> None:
    if form.type in ("int64", "whole"):
        low, most_allowed = _whole_range(form, sizes)
        values = value if isinstance(value, Tensor) else torch.tensor([value])
        if not values.numel():
            return
        least, most = int(values.min()), int(values.max())
        if least < low or most > most_allowed:
            raise ShapeError(f"{name} must be from {low} to {most_allowed}, and holds {least} to {most}")
    elif form.low is not None:
        values = value if isinstance(value, Tensor) else torch.tensor([float(value)])
        beyond = (values < form.low - ROUNDING) | (values > float(str(form.high)) + ROUNDING)
        if beyond.any():
            raise ShapeError(
                f"{name} must be from {form.low} to {form.high}, and holds {values[beyond][0].item():g}"
            )


def _whole_range(form: _Form, sizes: Mapping[str, int]) -> tuple[int, int]:
    """The least and the largest whole number that a field may hold."""
    if form.low is None:
        return -MAX_WHOLE, MAX_WHOLE
    bound = str(form.high)
    if bound == "any":
        return form.low, MAX_WHOLE
    return form.low, (int(bound) if bound.isdecimal() else sizes[bound]) - 1


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_WHOLE


def _number(value: Any) -> bool:
    return _whole(value) or isinstance(value, float) and math.isfinite(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _numbers(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) > MAX_NAMES:
        return False
    return all(_text(key) and (item is None or _number(item)) for key, item in value.items())


_PLAIN = {"whole": _whole, "number": _number, "text": _text, "flag": _flag, "numbers": _numbers}


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return f"{type(value).__name__} {str(value)[:40]!r}"


# -- what fields say of each other --------------------------------------------------------------------


def _check_langevin_trace(trace: Any) -> None:
    if len(trace.moments) not in (0, len(trace.steps)):
        raise ShapeError(f"moments must name each of the {len(trace.steps)} steps, not {len(trace.moments)}")
    if (trace.steps.diff() <= 0).any():
        raise ShapeError("steps must rise")


def _check_trigger_truth(truth: Any) -> None:
    told = ("true_labels", "clean_undefended", "triggered_undefended", "triggered_defended")
    if len({len(getattr(truth, name)) for name in told}) > 1:
        raise ShapeError(f"{', '.join(told)} must all be told, or none of them")


def _check_flag_review(review: Any) -> None:
    scored = len(review.clean) + len(review.bad)
    if not scored or review.chosen > scored:
        raise ShapeError(f"chosen must be at most the {scored} images that are scored, not {review.chosen}")


def _check_neuron_scores(scores: Any) -> None:
    if len(scores.modules) not in (0, len(scores.layers)):
        raise ShapeError(
            f"modules must name each of the {len(scores.layers)} layers, not {len(scores.modules)}"
        )


def _check_repair_trace(trace: Any) -> None:
    unseen = set(range(len(trace.phases))) - set(trace.phase.tolist())
    if unseen:
        raise ShapeError(
            f"phase must name each of the {len(trace.phases)} phases, not only {len(trace.phases) - len(unseen)}"
        )


AGREEMENTS: dict[str, Callable[[Any], None]] = {
    "LangevinTrace": _check_langevin_trace,
    "TriggerTruth": _check_trigger_truth,
    "FlagReview": _check_flag_review,
    "NeuronScores": _check_neuron_scores,
    "RepairTrace": _check_repair_trace,
}
