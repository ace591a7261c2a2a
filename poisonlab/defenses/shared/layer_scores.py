"""Scores of weights or channels by layer, as a page shows them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.records.artifacts import NeuronScores
from poisonlab.types import ChannelScores

BINS = 20


def histograms(layers: Sequence[Tensor]) -> Tensor:
    """Counts over ``BINS`` equal bins of [0, 1], int64 ``(layers, BINS)``."""
    return torch.stack([torch.histc(scores.detach().cpu(), BINS, 0, 1).long() for scores in layers])


def layer_name(module: str) -> str:
    """What a part of a classifier is called on a page."""
    return module.removeprefix("body.")


def show_channel_scores(name: str, scores: ChannelScores, ctx: Context) -> None:
    """Emit the scores of whole channels, as an artifact called ``name``."""
    values = scores.values.detach().float().cpu()
    ctx.artifact(
        name,
        NeuronScores(
            [layer_name(module) for module in scores.modules],
            histograms(values.split(scores.sizes)),
            scores.score,
            scores.low_is_blamed,
            values,
            list(scores.modules),
        ),
    )
