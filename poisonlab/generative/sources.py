"""What generative models learn from: the public part of the attacked dataset, or another dataset made to fit it."""

from typing import Annotated

from pydantic import AfterValidator
from torch import Tensor
from torch.nn import functional as F

from poisonlab import registry
from poisonlab.context import derive
from poisonlab.data.base import proportional_order
from poisonlab.types import ImageSet

PUBLIC = "public"


def _known(source: str) -> str:
    if source != PUBLIC and source not in registry.dataset:
        raise ValueError(f"unknown source {source!r}; choose one of: {PUBLIC}, {', '.join(registry.dataset)}")
    return source


Source = Annotated[str, AfterValidator(_known)]  # "public" or a dataset's name


def training_images(source: Source, public: ImageSet, most: int = 0) -> Tensor:
    """Images of ``source``, uint8, on the device and in the shape of ``public``.

    Args:
        most: images of another dataset, at most; 0 for as many as are public.

    Raises:
        DataError: the other dataset cannot be read.
    """
    if source == PUBLIC:
        return public.x
    method = registry.dataset[source]
    other = method(method.Config())
    # some datasets hold images of others, which a generative model is not to learn from
    pool = other.as_source() if hasattr(other, "as_source") else other.load()[0]
    chosen = proportional_order(pool.y, derive(0, "source", source))[: most or len(public)]
    return fitted(pool.x[chosen], public.shape).to(public.x.device)


def described(source: Source, public: ImageSet) -> str:
    """What :func:`training_images` are, in words."""
    return f"images: {public.split}" if source == PUBLIC else f"images of another dataset: {source}"


def fitted(x: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """uint8 images ``(n, c, h, w)`` brought to ``shape``: colors averaged or a gray repeated, resized bilinearly."""
    channels, height, width = shape
    floats = x.float()
    if x.shape[1] != channels:
        floats = floats.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    if x.shape[2:] != (height, width):
        floats = F.interpolate(floats, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return floats.round().clamp_(0, 255).byte()
