"""Frozen results as bundles, and back: the way of what a method returns through the stage cache."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

from torch import Tensor

from poisonlab.types import Bundle

T = TypeVar("T")


def pack(result: Any) -> Bundle:
    """The fields of a frozen dataclass by name; :func:`unpack` is the inverse.

    A field holds a tensor, a JSON-able value, ``None``, or a dataclass, a tuple or a dictionary of these, whose parts
    are named ``field.part``.
    """
    bundle = Bundle()
    for field in dataclasses.fields(result):
        _add(field.name, getattr(result, field.name), bundle)
    return bundle


def _add(name: str, value: Any, bundle: Bundle) -> None:
    parts: dict[str, Any]
    if isinstance(value, Tensor):
        bundle.tensors[name] = value
        return
    if dataclasses.is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, dict):
        parts = value
    elif isinstance(value, tuple):
        bundle.data[name] = len(value)
        parts = {str(position): part for position, part in enumerate(value)}
    else:
        bundle.data[name] = value
        return
    for part, content in parts.items():
        _add(f"{name}.{part}", content, bundle)


def unpack(kind: type[T], bundle: Bundle) -> T:
    """A result from its bundle, which may hold more than that.

    Args:
        kind: a dataclass; the types of its fields say how each is put together.
    """
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    return kind(**{field.name: _value(field.name, hints[field.name], bundle) for field in fields})


def _value(name: str, hint: Any, bundle: Bundle) -> Any:
    if name in bundle.data and bundle.data[name] is None:
        return None
    hint = _without_none(hint)
    if hint is Tensor:
        return bundle.tensors[name]
    if dataclasses.is_dataclass(hint):
        return unpack(typing.cast(type[Any], hint), _parts(name, bundle))
    container = typing.get_origin(hint)
    if container is dict:  # in one order, whether computed or loaded: keys of later stages are made of it
        return dict(sorted(_parts(name, bundle).tensors.items()))
    if container is tuple:
        part = typing.get_args(hint)[0]
        return tuple(_value(f"{name}.{position}", part, bundle) for position in range(bundle.data[name]))
    return bundle.data[name]


def _without_none(hint: Any) -> Any:
    """``X`` of the type ``X | None``, any other type as it is."""
    if not isinstance(hint, types.UnionType):
        return hint
    (present,) = (part for part in typing.get_args(hint) if part is not type(None))
    return present


def _parts(name: str, bundle: Bundle) -> Bundle:
    """What lies under a name, by the rest of its names."""
    prefix = f"{name}."

    def below(values: dict[str, Any]) -> dict[str, Any]:
        return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}

    return Bundle(below(bundle.tensors), below(bundle.data))
