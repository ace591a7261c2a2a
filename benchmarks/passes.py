"""Which passes of the network an algorithm makes: listened to once, made again on random images in place."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook

from poisonlab.models.base import Classifier


@dataclass
class Backward:
    """A pass back: its order, and what it computed gradients for.

    Attributes:
        order: 1, or 2 for the gradient of a gradient; 0 for a first one that keeps a graph for those.
    """

    order: int
    to_input: bool = False
    to_weights: bool = False


@dataclass
class Pass:
    """A pass forward, and those back that followed it.

    Attributes:
        shape: of the images.
        training: mode of batch norm.
        weights: names of the parameters that asked for a gradient.
        graph: whether anything did.
    """

    shape: tuple[int, ...]
    training: bool
    weights: tuple[str, ...]
    graph: bool
    backwards: list[Backward] = field(default_factory=list)


def listen(work: Callable[[], Any]) -> list[Pass]:
    """The passes of every classifier during ``work``, in order."""
    passes: list[Pass] = []
    latest: list[Backward] = []  # the one going on: gradients of weights belong to it
    heard: dict[int, Tensor] = {}

    def weights_reached(gradient: Tensor) -> None:
        latest[0].to_weights = True

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(module, Classifier):
            return
        wanted = {name: p for name, p in module.named_parameters() if p.requires_grad}
        made = Pass(tuple(inputs[0].shape), module.training, tuple(wanted), output.requires_grad)
        passes.append(made)
        if not output.requires_grad:
            return

        def begun(gradient: Tensor) -> None:
            second = any(b.order == 0 for b in made.backwards)
            latest[:] = [Backward(0 if torch.is_grad_enabled() else 2 if second else 1)]
            made.backwards.extend(latest)

        def input_reached(gradient: Tensor) -> None:
            made.backwards[-1].to_input = True

        output.register_hook(begun)
        if inputs[0].requires_grad:
            inputs[0].register_hook(input_reached)
        first = next(iter(wanted.values()), None)
        if first is not None and id(first) not in heard:
            heard[id(first)] = first  # kept, so that its id is not given away
            first.register_hook(weights_reached)

    handle = register_module_forward_hook(note)
    try:
        work()
    finally:
        handle.remove()
    return passes


class Replay:
    """The same passes and nothing else, on random images that lie where they are needed."""

    def __init__(self, model: Classifier, passes: list[Pass]) -> None:
        device = next(model.parameters()).device
        self.passes = passes
        self.images = {
            p.shape: torch.rand(p.shape, device=device).to(memory_format=torch.channels_last) for p in passes
        }
        self.labels = {p.shape: torch.zeros(p.shape[0], dtype=torch.int64, device=device) for p in passes}
        self.networks: dict[tuple[bool, tuple[str, ...]], Classifier] = {}
        for p in passes:
            key = p.training, p.weights
            if key not in self.networks:
                network = copy.deepcopy(model).train(p.training).to(memory_format=torch.channels_last)
                for name, parameter in network.named_parameters():
                    parameter.requires_grad_(name in p.weights)
                self.networks[key] = network

    def __call__(self) -> None:
        for p in self.passes:
            network = self.networks[p.training, p.weights]
            x = self.images[p.shape].detach().requires_grad_(any(b.to_input for b in p.backwards))
            with torch.set_grad_enabled(p.graph):
                loss = F.cross_entropy(network(x), self.labels[p.shape])
            wanted = [w for w in network.parameters() if w.requires_grad]
            value = loss
            for number, back in enumerate(p.backwards, 1):
                inputs = [x] * back.to_input + wanted * back.to_weights
                more = number < len(p.backwards)
                found = torch.autograd.grad(
                    value.sum(), inputs, retain_graph=more, create_graph=back.order == 0
                )
                if back.order == 0:
                    value = found[0]
