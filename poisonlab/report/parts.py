"""What a report is made of: figures, rows of pictures, and sections that hold them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from poisonlab.figures import document
from poisonlab.figures.pixels import as_rgb

if TYPE_CHECKING:
    from torch import Tensor

# JSON that may stand in a page: no part of it can end the element that it stands in
_IN_A_PAGE = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


@dataclass(frozen=True)
class Drawing:
    """A figure of plotly's as data, and what it shows in words."""

    data: Markup
    height: int
    caption: str


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, its size in pixels, and its words."""

    source: str
    width: int
    height: int
    caption: str
    alt: str


@dataclass(frozen=True)
class Strip:
    """Pictures that belong side by side."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Section:
    """One thing that a run recorded: what it is, then figures and pictures of it."""

    title: str
    text: str = ""
    drawings: tuple[Drawing, ...] = ()
    strips: tuple[Strip, ...] = ()


def drawing(figure: Any, caption: str) -> Drawing:
    """A figure of :mod:`poisonlab.figures` for a document."""
    data = Markup(document.as_json(figure).translate(_IN_A_PAGE))
    return Drawing(data, int(figure.layout.height or 400), caption)


def strip(
    title: str, images: "Tensor | Sequence[Tensor]", captions: Sequence[str], alts: Sequence[str]
) -> Strip:
    """A row of images, uint8 ``(c, h, w)`` each, in their own size: the document enlarges them."""
    named = zip(images, captions, alts, strict=True)
    return Strip(title, tuple(_picture(image, caption, alt) for image, caption, alt in named))


def _picture(image: "Tensor", caption: str, alt: str) -> Picture:
    pixels = as_rgb(image)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(source, pixels.shape[1], pixels.shape[0], caption, alt)
