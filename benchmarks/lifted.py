"""What the comparisons with the papers' own code share: taking functions out of a checkout, and what they run on."""

import ast
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats, initialize
from poisonlab.types import ImageSet

IMAGES = 128
STEPS = 5
CLASSES = 10
Work = Callable[[], Tensor]


@dataclass(frozen=True)
class Pair:
    """One computation, twice; each side starts anew and returns what came out as one vector.

    Attributes:
        start: what both sides start from.
    """

    name: str
    product: Work
    official: Work
    start: Tensor


def lift(path: Path, names: Sequence[str], **around: Any) -> dict[str, Any]:
    """Functions and classes of a file, executed in a namespace of ``around``."""
    wanted = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names
    ]
    space: dict[str, Any] = {
        "torch": torch,
        "nn": nn,
        "F": F,
        "Tensor": Tensor,
        "copy": copy,
        "device": "cpu",
    }
    space |= {"init": nn.init, "Parameter": nn.Parameter} | around
    exec(compile(ast.Module(list(wanted), []), str(path), "exec"), space)  # noqa: S102 - a checkout named by the user
    return space


def quiet(*words: object) -> None:
    """In place of ``print``."""


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


def weights(model: nn.Module) -> Tensor:
    return flat(list(model.parameters()))


def victim(ctx: Context) -> Classifier:
    """A small ResNet with random weights; contiguous, as the official loops want it."""
    method = registry.victim["resnet8"]
    model: Classifier = method(method.Config()).network(
        (3, 32, 32), CLASSES, torch.full((3,), 0.5), torch.full((3,), 0.25)
    )
    return initialize(model, ctx.generator("init")).eval()


def images(ctx: Context) -> ImageSet:
    draws = ctx.generator("images")
    x = torch.randint(256, (IMAGES, 3, 32, 32), generator=draws).to(torch.uint8)
    return ImageSet(x, torch.arange(IMAGES) % CLASSES, tuple(str(c) for c in range(CLASSES)))


class Loader(list[tuple[Tensor, Tensor]]):
    """Batches as an official loop asks for them."""

    @property
    def dataset(self) -> range:
        return range(sum(len(y) for _, y in self))


class Drawn:
    """Batches drawn anew in each pass, from the generator that the product would draw from."""

    def __init__(self, data: ImageSet, steps: int, rows: Callable[[], Iterable[Tensor]]) -> None:
        self.data = data
        self.steps = steps
        self.rows = rows

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in self.rows():
            yield as_floats(self.data.x[index]), self.data.y[index]


def with_modules(model: Classifier, replaced: type[nn.Module], new: Callable[[Any], nn.Module]) -> Classifier:
    """A copy in which each module of one type is one of the repository's, with the old weights."""
    changed = copy.deepcopy(model)
    for parent in list(changed.modules()):
        for name, old in list(parent.named_children()):
            if type(old) is replaced:
                module = new(old)
                module.load_state_dict(old.state_dict(), strict=False)
                setattr(parent, name, module)
    return changed
