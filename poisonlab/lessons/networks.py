"""Many small fully connected networks trained side by side: what differs between them is what a lesson compares."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.training.loop import Minimizer

Weights = list[Tensor]  # (m, inputs, outputs) and (m, 1, outputs) of each layer in turn


def draw(sizes: Sequence[int], m: int, generator: torch.Generator) -> Weights:
    """Random weights of ``m`` networks with layers of these ``sizes``: Gaussian, scaled by the number of inputs."""
    weights: Weights = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        weights.append(torch.randn(m, inputs, outputs, generator=generator) * inputs**-0.5)
        weights.append(torch.zeros(m, 1, outputs))
    return weights


def logits(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """``(m, n, classes)`` of inputs ``(n, d)``, the same for all networks, or ``(m, n, d)``, its own for each."""
    m = len(weights[0])
    h = x.expand(m, -1, -1) if x.ndim == 2 else x
    for layer in range(0, len(weights), 2):
        h = torch.baddbmm(weights[layer + 1], torch.tanh(h) if layer else h, weights[layer])
    return h


def probabilities(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    with torch.inference_mode():
        return logits(weights, x).softmax(-1).clone()


def accuracy(weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Share of the rows that each network gives the label ``y``, ``(m,)``."""
    return (probabilities(weights, x).argmax(-1) == y).float().mean(-1)


def losses(weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of every network on every row, ``(m, n)``; ``y`` is ``(n,)`` or ``(m, n)``."""
    return row_losses(logits(weights, x), y)


def row_losses(answers: Tensor, y: Tensor) -> Tensor:
    m, n, classes = answers.shape
    return F.cross_entropy(answers.flatten(0, 1), y.expand(m, n).flatten(), reduction="none").view(m, n)


class Stack(nn.Module):
    """The networks as a module, for the training loop."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights = nn.ParameterList([w.detach().clone() for w in weights])

    def forward(self, x: Tensor) -> Tensor:
        return logits(list(self.weights), x)

    def snapshot(self) -> Weights:
        return [w.detach().clone() for w in self.weights]


def train(
    weights: Weights,
    x: Tensor,
    y: Tensor,
    steps: int,
    lr: float,
    counts: Tensor | None = None,
    keep: Collection[int] = (),
) -> list[Weights]:
    """Train all networks on all rows, with Adam.

    Args:
        y: labels ``(n,)``, or ``(m, n)`` if they differ between networks.
        counts: ``(m, n)``, how much each row weighs for each network; 0 leaves it out.
        keep: steps after which the weights are returned, in this order; without any, those at the end.
    """
    stack = Stack(weights)
    m = len(weights[0])
    n = x.shape[-2]
    share = torch.ones(m, n) if counts is None else counts
    share = share / share.sum(1, keepdim=True)
    kept: dict[int, Weights] = {}

    def loss() -> Tensor:
        return (share * row_losses(stack(x), y)).sum()

    optimizer = torch.optim.Adam(stack.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    minimizer = Minimizer(stack, optimizer, schedule, steps, Context())
    for step in range(steps):
        if step in keep:
            kept[step] = stack.snapshot()
        minimizer.step(loss)
    kept[steps] = stack.snapshot()
    return [kept[step] for step in keep or (steps,)]


def pick(weights: Weights, networks: int | list[int]) -> Weights:
    """Some of the networks."""
    chosen = [networks] if isinstance(networks, int) else networks
    return [w[chosen] for w in weights]


def repeat(weights: Weights, m: int) -> Weights:
    """The same network ``m`` times: then only the data makes a difference."""
    return [w[:1].repeat(m, *[1] * (w.ndim - 1)) for w in weights]
