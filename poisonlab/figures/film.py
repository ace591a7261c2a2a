"""Walks of several images as a film: each moment is one picture, a row for each start."""

import base64
import io
from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from PIL import Image
from torch import Tensor

from poisonlab.figures.animation import playable
from poisonlab.records.artifacts import LangevinTrace

GAP = 2  # pixels between two images
ROWS = ("clean", "poisoned")
ROW_HEIGHT = 112  # of an image on the screen
SMALL = (
    24  # pixels; pictures of smaller images are sent in double size, as WebP keeps every other pixel's color
)
QUALITY = 75  # of the WebP: a film is two dozen pictures, and a projector's room waits for them


def walk_film(trace: LangevinTrace, images: Sequence[int], chosen: int) -> go.Figure:
    """The walks of some images from both starts, beginning at the first recorded step.

    Args:
        images: their positions in the trace, those of the columns. chosen: the one that is named in bold.
    """
    columns = list(images)
    clean = trace.clean_images[:, columns]
    poisoned = trace.poisoned_images[:, columns]
    times = 2 if clean.shape[-1] < SMALL else 1
    pictures = [_source(mosaic(torch.stack(rows)), times) for rows in zip(clean, poisoned, strict=True)]
    pixel = 1 / times
    corner = (pixel - 1) / 2  # so that the picture begins where one in single size does
    figure = go.Figure(
        go.Image(source=pictures[0], x0=corner, y0=corner, dx=pixel, dy=pixel, hoverinfo="skip")
    )
    side = clean.shape[-1] + GAP
    _label(figure, columns, chosen, side)
    figure.update_xaxes(visible=False, range=[-GAP, len(columns) * side], constrain="domain")
    figure.update_yaxes(visible=False, range=[len(ROWS) * side, -GAP], scaleanchor="x")
    figure.update_layout(
        height=len(ROWS) * ROW_HEIGHT + 40, margin={"l": 90, "r": 0, "t": 34, "b": 6}, dragmode=False
    )
    frames = [[go.Image(source=picture)] for picture in pictures]
    names = trace.moments or [f"step {step}" for step in trace.steps.tolist()]
    return playable(figure, frames, names, "", shown=0, axis=10)


def mosaic(images: Tensor) -> Tensor:
    """uint8 ``(rows, columns, c, h, w)`` -> one picture uint8 ``(H, W, 4)``, transparent between the images."""
    rows, columns, _, h, w = images.shape
    padded = torch.zeros(rows, columns, 4, h + GAP, w + GAP, dtype=torch.uint8)
    padded[:, :, :3, :h, :w] = images
    padded[:, :, 3, :h, :w] = 255
    return padded.permute(0, 3, 1, 4, 2).reshape(rows * (h + GAP), columns * (w + GAP), 4)


def _source(picture: Tensor, times: int) -> str:
    """A picture as WebP, each pixel ``times`` as wide and high."""
    large = picture.repeat_interleave(times, 0).repeat_interleave(times, 1)
    file = io.BytesIO()
    Image.fromarray(large.numpy()).save(file, "WEBP", quality=QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def _label(figure: go.Figure, columns: Sequence[int], chosen: int, side: int) -> None:
    """Numbers above the columns, starts beside the rows."""
    for place, number in enumerate(columns):
        text = f"image {number + 1}"
        figure.add_annotation(
            x=place * side + side / 2 - GAP,
            y=-GAP,
            yanchor="bottom",
            text=f"<b>{text}</b>" if number == chosen else text,
            showarrow=False,
        )
    for row, name in enumerate(ROWS):
        figure.add_annotation(
            x=-GAP,
            xanchor="right",
            xshift=-6,
            y=row * side + side / 2,
            text=f"from the<br>{name}<br>image",
            showarrow=False,
        )
