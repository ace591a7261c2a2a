"""Pixels as people see them, as a PNG file that loses nothing; without torch, which the first page cannot wait for."""

import io

import numpy as np
from PIL import Image

FRAME = 2  # pixels around an enlarged image
GRAY = 150  # told apart from a white page and from a black one


def as_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 ``(c, h, w)`` -> uint8 ``(h, w, 3)``."""
    pixels = image.transpose(1, 2, 0)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """uint8 ``(h, w, 3)`` -> uint8 ``(H, W, 3)``, ``side`` pixels at least, each repeated: no smoothing, no loss."""
    factor = max(1, -(-side // max(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def framed(picture: np.ndarray) -> np.ndarray:
    """A picture with a thin line around it: a white trigger at its rim is no hole in it on a white page."""
    return np.pad(picture, ((FRAME, FRAME), (FRAME, FRAME), (0, 0)), constant_values=GRAY)


def as_png(picture: np.ndarray) -> bytes:
    """uint8 ``(h, w, 3)`` as a file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG")
    return file.getvalue()
