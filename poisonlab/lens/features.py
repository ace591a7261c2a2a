"""Features of a run's networks, brought down to a plane."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from poisonlab.models.base import Classifier, extract

Method = Literal["PCA", "t-SNE"]
METHODS: tuple[Method, ...] = ("PCA", "t-SNE")
KEPT = 50  # directions that features are brought down to before t-SNE, as van der Maaten & Hinton do
PERPLEXITY = 30
ITERATIONS = 450  # 250 of them with exaggerated attraction
ANGLE = 0.7  # of the Barnes-Hut approximation: as good a map as 0.5 gives, in six sevenths of the time
FEWEST = 5  # points that a map of neighbors makes sense of
APART = "control"  # learned from other images: its features have other axes


@dataclass(frozen=True)
class Features:
    """Penultimate features of the same pictures in each network of a run.

    Attributes:
        values: model -> float32 ``(n, d)``, the control first.
    """

    values: dict[str, Tensor]

    @property
    def together(self) -> tuple[str, ...]:
        """The models that share their axes: all but the control; of a control alone, that one."""
        return tuple(name for name in self.values if name != APART) or (APART,)


@dataclass(frozen=True)
class Planes:
    """Places of the same pictures, a plane for each network.

    Attributes:
        method: how features became places.
        places: model -> float32 ``(n, 2)``.
        together: models whose planes have the same axes.
        explained: model -> the share of the variance of its features along each axis; empty for t-SNE.
    """

    method: Method
    places: dict[str, Tensor]
    together: tuple[str, ...]
    explained: dict[str, tuple[float, float]]


def features(x: Tensor, networks: Mapping[str, Classifier]) -> Features:
    """
    Args:
        x: uint8 ``(n, c, h, w)``, on the networks' device.
    """
    return Features({name: extract(model, x).float().cpu() for name, model in networks.items()})


def planes(found: Features, method: Method) -> Planes:
    """A plane for each network; that before a defense and that after it can be laid on each other.

    PCA takes its axes from the undefended network and puts the defended one's features on them. t-SNE (van der Maaten
    & Hinton, JMLR 2008) has no axes that other points could be put on: both networks' features are embedded as one set.
    The control has a plane of its own either way. Nothing is drawn: equal features give equal places.
    """
    together = found.together
    groups = [together, *((name,) for name in found.values if name not in together)]
    places: dict[str, Tensor] = {}
    explained: dict[str, tuple[float, float]] = {}
    for names in groups:
        values = [found.values[name].double() for name in names]
        if method == "PCA":
            center = values[0].mean(0)
            axes = principal_axes(values[0])
            shown = [(value - center) @ axes for value in values]
            explained |= {name: explained_by(value, axes) for name, value in zip(names, values, strict=True)}
        else:
            shown = list(neighbors(torch.cat(values)).split(len(values[0])))
        places |= {name: place.float() for name, place in zip(names, shown, strict=True)}
    ordered = {name: places[name] for name in found.values}
    return Planes(method, ordered, together, explained)


def principal_axes(values: Tensor, count: int = 2) -> Tensor:
    """The directions of largest variance, ``(d, count)``; the largest entry of each is positive.

    Args:
        values: float ``(n, d)``; where there are too few of either, the last directions are zero.
    """
    _, _, directions = torch.linalg.svd(values - values.mean(0), full_matrices=False)
    axes = torch.zeros(values.shape[1], count, dtype=values.dtype)
    kept = directions[:count].T
    largest = kept.gather(0, kept.abs().argmax(0, keepdim=True))
    axes[:, : kept.shape[1]] = kept * largest.sign()
    return axes


def explained_by(values: Tensor, axes: Tensor) -> tuple[float, float]:
    """The shares of the variance of ``values`` along two axes; 0 where nothing varies."""
    centered = values - values.mean(0)
    whole = float(centered.square().sum())
    along = (centered @ axes).square().sum(0)
    first, second = (along / whole).tolist() if whole > 0 else (0.0, 0.0)
    return first, second


def neighbors(values: Tensor) -> Tensor:
    """t-SNE of ``(n, d)``, float64 ``(n, 2)``, from the principal axes on, without a random number.

    It runs on one thread: several add up in another order each time. All zero where no two points differ, or where
    there are fewer than five.
    """
    reduced = (values - values.mean(0)) @ principal_axes(values, min(KEPT, values.shape[1]))
    start = reduced[:, :2]
    spread = float(start[:, 0].std()) if len(values) >= FEWEST else 0.0
    if spread <= 0 or start.shape[1] < 2:
        return torch.zeros(len(values), 2, dtype=values.dtype)
    from sklearn.manifold import TSNE  # noqa: PLC0415 - takes a second, and PCA does without
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - comes with scikit-learn

    embed = TSNE(
        perplexity=min(PERPLEXITY, (len(values) - 1) / 3),
        init=(start / spread * 1e-4).numpy().astype(np.float32),
        max_iter=ITERATIONS,
        angle=ANGLE,
        random_state=0,
    )
    with threadpool_limits(limits=1, user_api="openmp"):
        return torch.from_numpy(embed.fit_transform(reduced.numpy().astype(np.float32))).to(values)
