"""How well the gradient that images cause in training is aligned with another, and its derivative by the images."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.attacks.shared.memory import images_at_once
from poisonlab.models.base import Classifier


def parameter_gradient(
    model: Classifier, x: Tensor, y: Tensor, differentiable: bool = False
) -> tuple[Tensor, ...]:
    """grad_theta of the mean cross-entropy, over all parameters.

    Args:
        x: float ``(n, c, h, w)`` in [0, 1].
        y: int64 ``(n,)``.
        differentiable: whether its own derivative by ``x`` will be asked for.
    """
    loss = F.cross_entropy(model(x), y)
    return torch.autograd.grad(loss, tuple(model.parameters()), create_graph=differentiable)


def alignment_loss(target_gradient: Iterable[Tensor], poison_gradient: Iterable[Tensor]) -> Tensor:
    """B = 1 - <g_t, g_p> / (||g_t|| ||g_p||), inner product and norms over all parameters.

    Returns:
        A scalar in [0, 2]: 0 for equal directions, 1 for orthogonal, 2 for opposite ones.
    """
    products = []
    target_squares = []
    poison_squares = []
    for t, p in zip(target_gradient, poison_gradient, strict=True):
        products.append((t * p).sum())
        target_squares.append(t.square().sum())
        poison_squares.append(p.square().sum())
    return 1 - total(products) / (total(target_squares) * total(poison_squares)).sqrt()


def poisons_at_once(model: Classifier, x: Tensor, y: Tensor) -> int:
    """How many images, float ``(n, c, h, w)`` of labels ``y``, a differentiable gradient may hold in memory."""
    return images_at_once(lambda images: parameter_gradient(model, images, y[: len(images)], True), x)


def mismatch_gradient(
    model: Classifier, x: Tensor, y: Tensor, target_gradient: Sequence[Tensor], at_once: int
) -> tuple[Tensor, Tensor]:
    """The alignment loss of images and its derivative by them: double backward.

    The derivative of B(g_p), g_p a mean over parts of the images, is that of <dB/dg_p, g> for the gradient g of each
    part: where not all images fit into memory, a pass over the parts finds g_p, and another one the derivative.

    Args:
        at_once: images of a part.

    Returns:
        A scalar and a tensor like ``x``, float ``(n, c, h, w)``.
    """
    x = x.detach().requires_grad_()
    if len(x) <= at_once:
        loss = alignment_loss(target_gradient, parameter_gradient(model, x, y, differentiable=True))
        return loss.detach(), torch.autograd.grad(loss, x)[0]
    parts = list(zip(x.split(at_once), y.split(at_once), strict=True))
    shares = [len(labels) / len(y) for _, labels in parts]
    gradients = [torch.zeros_like(t) for t in target_gradient]
    for (images, labels), share in zip(parts, shares, strict=True):
        torch._foreach_add_(gradients, parameter_gradient(model, images, labels), alpha=share)
    whole = [g.requires_grad_() for g in gradients]
    loss = alignment_loss(target_gradient, whole)
    outer = torch.autograd.grad(loss, whole)
    derivative = []
    for (images, labels), share in zip(parts, shares, strict=True):
        part = parameter_gradient(model, images, labels, differentiable=True)
        (by_part,) = torch.autograd.grad(part, images, outer)
        derivative.append(share * by_part)
    return loss.detach(), torch.cat(derivative)


def total(scalars: Sequence[Tensor]) -> Tensor:
    """The sum, added in this order."""
    return sum(scalars[1:], scalars[0])
