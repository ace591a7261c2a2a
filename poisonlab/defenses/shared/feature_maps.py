"""Maps of features within a network's body: which of its parts end a resolution, and what they give in a pass."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from poisonlab.models.base import Classifier
from poisonlab.models.shared.hooks import hooked
from poisonlab.models.shared.inserted import is_inserted


@contextmanager
def watching(model: Classifier, names: Sequence[str]) -> Iterator[list[Tensor]]:
    """A list that holds, after each pass of ``model``, the outputs of these parts of its body."""
    outputs: list[Tensor] = []

    def begin(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        outputs.clear()

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output)

    handles = [model.body.register_forward_pre_hook(begin)]
    handles += [model.body.get_submodule(name).register_forward_hook(note) for name in names]
    with hooked(handles):
        yield outputs


def stages(model: Classifier, x: Tensor, count: int) -> list[str]:
    """The parts of the body that end its last ``count`` resolutions, by a pass of ``x``."""
    shapes: list[tuple[str, torch.Size]] = []  # in the order in which the parts are done

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor):
            shapes.append((name, output.shape))

    handles = [part.register_forward_hook(partial(note, name)) for name, part in _parts(model.body)]
    with hooked(handles), torch.no_grad():
        model(x)
    passes = Counter(name for name, _ in shapes)
    sides = {
        name: shape[-1]
        for name, shape in shapes
        if len(shape) == 4 and shape[-1] == shape[-2] and passes[name] == 1
    }
    last_of_side = {side: name for name, side in sides.items() if side > 1}
    return list(last_of_side.values())[-count:]


def has_maps(model: Classifier, shape: tuple[int, int, int]) -> bool:
    """Whether anything in the body is a map of images ``(c, h, w)``; the network may have no numbers."""
    device = next(model.parameters()).device
    return bool(stages(model, torch.zeros(1, *shape, device=device), 1))


def _parts(body: nn.Module) -> list[tuple[str, nn.Module]]:
    """The children of a body; of one that is a single child, as another library's network, all that is in it but layers
    that a repair put in."""
    children = list(body.named_children())
    if len(children) > 1:
        return children
    return [(name, part) for name, part in body.named_modules() if name and not is_inserted(name)]
