"""Pixels as a PNG file, which loses nothing."""

import io

import numpy as np
from PIL import Image


def as_png(picture: np.ndarray) -> bytes:
    """uint8 ``(h, w, 3)``, or 4 with transparency, as a file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG")
    return file.getvalue()
