"""Weights from a file into the networks of a spec, layer by layer, and nothing that does not fit."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from poisonlab.models.base import Classifier
from poisonlab.models.shared.inserted import insert_named
from poisonlab.models.shared.weights_file import WeightsError
from poisonlab.spec.config import VictimPart
from poisonlab.training.victims import Victims, outline

MOST_MEMBERS = 10_000  # of the victims of one file
_SHARED = "shared."
_VARYING = "varying."


def build_network(victim: VictimPart, image: tuple[int, int, int], classes: int) -> Classifier:
    """A network in eval mode whose numbers are about to be replaced, in the memory layout of trained ones.

    Args:
        image: ``(c, h, w)``.
    """
    statistics = torch.zeros(image[0]), torch.ones(image[0])
    network: Classifier = victim.build().network(image, classes, *statistics)
    network.victim = victim
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def load_network(
    victim: VictimPart, image: tuple[int, int, int], classes: int, state: Mapping[str, Tensor]
) -> Classifier:
    """The network of a victim with given weights, on the CPU.

    Args:
        state: state-dict name -> tensor.

    Raises:
        WeightsError: a layer is missing, is unknown, has another shape or type, or holds NaN.
    """
    _compare(_expected(victim, image, classes, state), state, members=None)
    network = build_network(victim, image, classes)
    insert_named(network, state)
    network.load_state_dict(dict(state), strict=True)
    return network


def load_victims(
    victim: VictimPart,
    image: tuple[int, int, int],
    classes: int,
    tensors: Mapping[str, Tensor],
) -> Victims:
    """Victims out of what :meth:`~poisonlab.training.victims.Victims.tensors` gave, on the CPU.

    Raises:
        WeightsError: as :func:`load_network`; also where not every layer is there for as many victims.
    """
    shared = {name.removeprefix(_SHARED): t for name, t in tensors.items() if name.startswith(_SHARED)}
    varying = {name.removeprefix(_VARYING): t for name, t in tensors.items() if name.startswith(_VARYING)}
    strange = [name for name in tensors if not name.startswith((_SHARED, _VARYING))]
    twice = sorted(shared.keys() & varying.keys())
    if strange or twice:
        raise WeightsError(f"{(strange or twice)[0]!r} is no layer of victim {victim.name!r}")
    if not varying:
        raise WeightsError(f"no layer of victim {victim.name!r} is there for each of its trials")
    members = _members(varying)
    expected = _expected(victim, image, classes, shared.keys() | varying.keys())
    _compare({name: expected[name] for name in expected if name not in varying}, shared, members=None)
    _compare({name: expected[name] for name in expected if name in varying}, varying, members)
    return Victims.from_tensors(build_network(victim, image, classes), dict(tensors))


def _expected(
    victim: VictimPart, image: tuple[int, int, int], classes: int, names: Iterable[str]
) -> dict[str, Tensor]:
    """Layers of the network without numbers: nothing is allocated before a file is known to fit.

    Args:
        names: of the layers that are given; they tell of those that a repair put in.
    """
    try:
        network = outline(victim, image, classes)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise WeightsError(f"victim {victim.name!r} cannot be built for images of {image}: {error}") from None
    try:
        insert_named(network, names)
    except ValueError as error:
        raise WeightsError(f"victim {victim.name!r}: {error}") from None
    return dict(network.state_dict())


def _members(varying: Mapping[str, Tensor]) -> int:
    counts = {len(tensor) if tensor.ndim else 0 for tensor in varying.values()}
    if len(counts) != 1 or not 1 <= min(counts) <= MOST_MEMBERS:
        raise WeightsError(f"the layers are those of {sorted(counts)} victims; all must be of as many")
    return counts.pop()


def _compare(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], members: int | None) -> None:
    for name in found:
        if name not in expected:
            raise WeightsError(f"layer {name[:120]!r} is unknown to the network")
    for name, layer in expected.items():
        if name not in found:
            raise WeightsError(f"layer {name!r} is missing")
        shape = tuple(layer.shape) if members is None else (members, *layer.shape)
        tensor = found[name]
        if tuple(tensor.shape) != shape or tensor.dtype != layer.dtype:
            given = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise WeightsError(f"layer {name!r} is {given}; the network has {layer.dtype} {shape}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"layer {name!r} holds a number that is not finite")
