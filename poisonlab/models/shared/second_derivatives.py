"""Whether a network has gradients of gradients: some layers of other libraries do not."""

import torch

from poisonlab.models.base import Classifier


def check_second_derivatives(network: Classifier, shape: tuple[int, int, int], name: str) -> None:
    """Differentiate a network twice, which on torch's device ``meta`` computes no numbers.

    Args:
        shape: ``(c, h, w)`` of an image. name: of the method that asks, for the message.

    Raises:
        ValueError: a layer has none.
    """
    x = torch.zeros(2, *shape, device=next(network.parameters()).device, requires_grad=True)
    try:
        (slope,) = torch.autograd.grad(network(x).square().sum(), x, create_graph=True)
        torch.autograd.grad(slope.square().sum(), x)
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        raise ValueError(
            f"{name} needs gradients of gradients, and a layer of the victim has none ({error}); choose another victim"
        ) from error
