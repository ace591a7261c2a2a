"""Weights under other names put into one of our networks: by name where names agree, else by order and shape."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from poisonlab.models.base import Classifier
from poisonlab.models.shared.inserted import insert_named
from poisonlab.models.shared.weights_file import COUNTER, Tensors, WeightsError

HEAD = ("head.weight", "head.bias")
NORMALIZATION = ("normalize.mean", "normalize.std")
NAMED = 6  # layers in a message


@dataclass(frozen=True)
class Fitted:
    """Weights under our names.

    Attributes:
        state: complete but for the normalization where the file states none, and for the head where ``new_head``.
        by: ``name``, or ``order``: the shapes agree one by one in the order of their layers.
        new_head: the file's last layer has another number of classes.
        normalized: the file states its own normalization.
    """

    state: Tensors
    by: str
    new_head: bool
    normalized: bool


def fit(network: Classifier, weights: Mapping[str, Tensor]) -> Fitted:
    """Find the place of each tensor of a file in a network.

    Args:
        network: ours, with or without numbers; where the names tell of layers that a repair put in, they are put into
            it, too. weights: as :func:`~.weights_file.read_weights` gives them.

    Raises:
        WeightsError: the body does not fit; names the layers.
    """
    if HEAD[0] in weights and all(name.startswith(("normalize.", "body.", "head.")) for name in weights):
        _insert(network, weights)
        ours = network.state_dict()
        given = dict(weights)
        by = "name"
    else:
        ours = network.state_dict()
        given, by = _under_our_names(ours, weights)
    normalized = all(name in given for name in NORMALIZATION)
    wanted = {n: t for n, t in ours.items() if n not in NORMALIZATION or normalized}
    new_head = (
        given[HEAD[0]].shape != ours[HEAD[0]].shape and given[HEAD[0]].shape[1:] == ours[HEAD[0]].shape[1:]
    )
    if new_head:
        given = {name: value for name, value in given.items() if name not in HEAD}
        wanted = {name: value for name, value in wanted.items() if name not in HEAD}
    _check(wanted, given)
    return Fitted({name: given[name] for name in wanted if name in given}, by, new_head, normalized)


def _insert(network: Classifier, names: Iterable[str]) -> None:
    try:
        insert_named(network, names)
    except ValueError as error:
        raise WeightsError(f"the weights do not fit this network: {error}") from None


def _under_our_names(ours: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> tuple[Tensors, str]:
    """The tensors of another library's state dict under the names of our body and head."""
    body = [name for name in ours if name.startswith("body.") and not name.endswith(COUNTER)]
    given = {name: value for name, value in weights.items() if not name.endswith(COUNTER)}
    by_short = {name.removeprefix("body.").removeprefix("network."): name for name in body}
    rest = [name for name in given if name not in by_short]
    if all(short in given for short in by_short):
        found = {name: given[short] for short, name in by_short.items()}
        return found | _head(rest, given), "name"
    last = [name for name in given if given[name].ndim == 2][-1:]
    head = [name for name in given if last and name.rpartition(".")[0] == last[0].rpartition(".")[0]]
    others = [name for name in given if name not in head]
    if [_alike(name, given) for name in others] == [_alike(name, ours) for name in body]:
        found = {ours_: given[theirs] for ours_, theirs in zip(body, others, strict=True)}
        return found | _head(head, given), "order"
    raise WeightsError(_differences(body, others, ours, given))


def _head(names: list[str], given: Mapping[str, Tensor]) -> Tensors:
    """The last linear layer, under our names."""
    kernels = [name for name in names if name.endswith("weight") and given[name].ndim == 2]
    if len(kernels) != 1:
        found = ", ".join(names[:NAMED]) or "nothing"
        raise WeightsError(f"beside its body the file should hold one linear layer, and holds {found}")
    bias = kernels[0].removesuffix("weight") + "bias"
    if bias not in given:
        raise WeightsError(f"the last layer {kernels[0]} has no bias; ours has one")
    more = [name for name in names if name not in (kernels[0], bias)]
    if more:
        raise WeightsError(f"the weights do not fit this network: it has no {', '.join(more[:NAMED])}")
    return {HEAD[0]: given[kernels[0]], HEAD[1]: given[bias]}


def _check(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raises:
    WeightsError: a layer is missing, has another shape or kind of numbers, is not known, or is a spread that is not
        positive.
    """
    kept = [name for name in wanted if not name.endswith(COUNTER)]
    wrong = [f"{name} is missing" for name in kept if name not in given]
    wrong += [
        f"{name} is {_shape(given[name])}, not {_shape(wanted[name])}"
        for name in kept
        if name in given and given[name].shape != wanted[name].shape
    ]
    wrong += [
        f"{name} is of {given[name].dtype}, not of {wanted[name].dtype}"
        for name in kept
        if name in given and given[name].is_floating_point() != wanted[name].is_floating_point()
    ]
    wrong += [f"{name} is unknown" for name in given if name not in wanted and not name.endswith(COUNTER)]
    wrong += [f"{name} is not positive" for name in kept if name in given and _no_spread(name, given[name])]
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise WeightsError(f"the weights do not fit this network: {'; '.join(wrong[:NAMED])}{more}")


def _no_spread(name: str, tensor: Tensor) -> bool:
    """A variance or a deviation that would make every answer of the network NaN, or mirror the images."""
    if not tensor.is_floating_point():
        return False
    variance = name.endswith("running_var") and bool((tensor < 0).any())
    return variance or (name == NORMALIZATION[1] and bool((tensor <= 0).any()))


def _differences(
    body: list[str], others: list[str], ours: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> str:
    """The first layers, side by side, from where file and network differ."""
    pairs = [
        f"{theirs} {_shape(given[theirs])} against {mine} {_shape(ours[mine])}"
        for mine, theirs in zip(body, others, strict=False)
        if given[theirs].shape != ours[mine].shape
    ]
    counts = f"{len(others)} tensors in the file's body, {len(body)} in the network's"
    return f"the weights do not fit this network: {'; '.join([*pairs[:NAMED], counts])}"


def _alike(name: str, tensors: Mapping[str, Tensor]) -> tuple[str, tuple[int, ...]]:
    """What two tensors of one place share: weight, bias or statistic, and the shape."""
    return name.rpartition(".")[2], tuple(tensors[name].shape)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
