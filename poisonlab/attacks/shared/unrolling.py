"""K steps of training as a function of the poisons in the first step, and its exact derivative."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.models.base import Classifier

Weights = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]  # float (n, c, h, w) in [0, 1], int64 (n,)
FLOOR = -100.0


def carlini_wagner(logits: Tensor, label: Tensor) -> Tensor:
    """max_{c != y_a} z_c - z_{y_a}, not below -100, averaged over images: negative on success.

    The gradient does not vanish on success, as it would with the maximum over all classes.

    Args:
        logits: ``(n, classes)``. label: the adversarial class y_a, int64 ``(n,)``.
    """
    adversarial = F.one_hot(label, logits.shape[1]).bool()
    runner_up = logits.masked_fill(adversarial, -torch.inf).amax(1)
    aimed_at = logits.gather(1, label[:, None]).squeeze(1)
    return (runner_up - aimed_at).clamp_min(FLOOR).mean()


def with_batch_statistics(model: Classifier) -> Classifier:
    """A copy whose batch norms always use the batch's own statistics, so that a step is a function of weights alone."""
    copied = copy.deepcopy(model).train().requires_grad_(False)
    torch.func.replace_all_batch_norm_modules_(copied)
    return copied


def mixes_images(model: nn.Module) -> bool:
    """Whether an image's logits depend on the others in its batch."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def leaves(weights: Weights) -> Weights:
    """The same weights as variables to differentiate by."""
    return {name: w.detach().requires_grad_() for name, w in weights.items()}


def gradient(value: Tensor, weights: Weights, differentiable: bool = False) -> Weights:
    found = torch.autograd.grad(value, tuple(weights.values()), create_graph=differentiable)
    return dict(zip(weights, found, strict=True))


def moved(weights: Weights, direction: Weights, length: float) -> Weights:
    """theta + length * direction, without a graph."""
    return {name: w.detach() + length * direction[name].detach() for name, w in weights.items()}


def inner(a: Weights, b: Weights) -> Tensor:
    products = [(a[name] * b[name]).sum() for name in a]
    return torch.stack(products).sum()


@dataclass(frozen=True)
class LookAhead:
    """The prediction for one target after K steps of plain SGD, as a function of the poisons.

    Attributes:
        network: of :func:`with_batch_statistics`; its own weights are not used.
        target: float ``(1, c, h, w)`` in [0, 1]. label: the adversarial class, int64 ``(1,)``.
        lr: of the steps.
    """

    network: Classifier
    target: Tensor
    label: Tensor
    lr: float

    def losses(self, weights: Weights, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """L_train of a batch and L_adv of the target, which shares that batch's statistics under batch norm."""
        if mixes_images(self.network):
            logits = self._logits(weights, torch.cat([x, self.target]))
            return F.cross_entropy(logits[:-1], y), carlini_wagner(logits[-1:], self.label)
        return F.cross_entropy(self._logits(weights, x), y), self._adversarial(weights, x)

    def hypergradient(
        self, start: Weights, batches: Sequence[Batch], poisoned: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Derivative of the mean L_adv after each of K steps by the poisons in the first batch.

        With H_k the Hessian of L_train on batch k at theta_k and a_k = grad L_adv(theta_k) / K,

            v_K = a_K,    v_k = a_k + (I - lr H_k) v_{k+1},    dL/dx = - lr grad_x <grad L_train(theta_0; x), v_1>.

        One step's graph is alive at a time besides the first, so memory does not grow with K but by the weights.

        Args:
            start: theta_0.
            batches: K + 1 of them; the first holds the poisons, the last only gives the target batch statistics.
            poisoned: rows of the poisons in the first batch, int64 ``(m,)``.

        Returns:
            The derivative, ``(m, c, h, w)``; the mean of L_adv after the steps, and L_adv before them.
        """
        steps = len(batches) - 1
        x = batches[0][0].detach()
        poisons = x[poisoned].requires_grad_()
        with torch.no_grad():
            before = self._adversarial(start, x)

        direction, first = self._first_step(leaves(start), x, batches[0][1], poisoned, poisons)
        path = [moved(start, first, -self.lr)]  # theta_1, ..., theta_K
        for x, y in batches[1:-1]:
            here = leaves(path[-1])
            path.append(moved(here, gradient(self.losses(here, x, y)[0], here), -self.lr))

        here = leaves(path[-1])
        after = self._adversarial(here, batches[-1][0]) / steps
        total = after.detach().double()
        v = gradient(after, here)
        for weights, (x, y) in zip(reversed(path[:-1]), reversed(batches[1:-1]), strict=True):
            here = leaves(weights)
            train, adversarial = self.losses(here, x, y)
            pulled = inner(gradient(train, here, differentiable=True), v)
            v = moved(v, gradient(adversarial / steps - self.lr * pulled, here), 1.0)
            total += adversarial.detach().double() / steps
        (found,) = torch.autograd.grad(-self.lr * inner(direction, v), poisons)
        return found, total, before

    def _first_step(
        self, start: Weights, x: Tensor, y: Tensor, poisoned: Tensor, poisons: Tensor
    ) -> tuple[Weights, Weights]:
        """grad L_train(theta_0) twice: what of it depends on the poisons, as a function of them, and all of it."""
        if mixes_images(self.network):  # every image's gradient depends on the poisons: the whole batch
            train, _ = self.losses(start, x.index_copy(0, poisoned, poisons), y)
            direction = gradient(train, start, differentiable=True)
            return direction, direction
        whole = gradient(F.cross_entropy(self._logits(start, x), y), start)
        poison_loss = F.cross_entropy(self._logits(start, poisons), y[poisoned], reduction="sum") / len(x)
        return gradient(poison_loss, start, differentiable=True), whole

    def _adversarial(self, weights: Weights, batch: Tensor) -> Tensor:
        """L_adv of the target, evaluated together with ``batch`` where the network mixes images."""
        if mixes_images(self.network):
            return carlini_wagner(self._logits(weights, torch.cat([batch, self.target]))[-1:], self.label)
        return carlini_wagner(self._logits(weights, self.target), self.label)

    def _logits(self, weights: Weights, x: Tensor) -> Tensor:
        logits: Tensor = torch.func.functional_call(self.network, weights, (x,))
        return logits


def consecutive(order: Sequence[Tensor], length: int) -> list[list[Tensor]]:
    """Each batch of an epoch with those that follow it, ``length`` in all; the first follows the last."""
    n = len(order)
    return [[order[(first + k) % n] for k in range(length)] for first in range(n)]
