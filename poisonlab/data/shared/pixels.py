"""The pixels of a picture file as a viewer shows them, whatever the form they are stored in."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from poisonlab import machine
from poisonlab.data.base import DataError, room_for

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")
OF_A_TABLE = (*FORMATS, "TIFF")  # which the library datasets writes of what PNG cannot hold
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm")
MOST_PIXELS = 100_000_000  # of one picture: 300 MB as colors
LARGE = 16_000_000  # pixels from which on one picture at a time is decoded: up to 25 bytes for each
GROUND = "white"  # what shows through where a picture is transparent
OF_16_BITS = 257  # 65,535 / 255

Fit = Literal["crop", "stretch", "pad"]
Source = Path | Callable[[], IO[bytes]]  # a file, or what gives its bytes; its text names it in messages

# what a file that is no whole picture raises: absent, truncated, another format, too large
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
_one_at_a_time = threading.Lock()


def opened(path: Path | IO[bytes], near: int = 0) -> Image.Image:
    """A picture in RGB, upright, on white where it is transparent; 16 bits of gray are scaled to 8.

    Args:
        path: a file, or the bytes of one that a table holds.
        near: side below which no detail is needed: JPEG files are then decoded at a fraction of their size.

    Raises:
        OSError, ValueError, SyntaxError, DecompressionBombError: it cannot be read (:data:`UNREADABLE`).
    """
    formats = FORMATS if isinstance(path, Path) else OF_A_TABLE
    with Image.open(path, formats=formats) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels are more than {MOST_PIXELS:,}")
        if near:
            image.draft("RGB", (2 * near, 2 * near))
        with _decoding(image):
            return _in_rgb(ImageOps.exif_transpose(image))


@contextmanager
def _decoding(image: Image.Image) -> Iterator[None]:
    """Large pictures wait for each other; whatever a decoder raises of damaged bytes is one of :data:`UNREADABLE`."""
    large = image.width * image.height > LARGE
    try:
        with _one_at_a_time if large else nullcontext():
            yield
    except UNREADABLE:
        raise
    except Exception as error:  # struct.error of EXIF data, say
        raise ValueError(f"damaged: {type(error).__name__}: {error}") from error


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _of_16_bits(image)
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, GROUND)
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _of_16_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("F"):
        raise ValueError("its pixels are numbers without a range; expected 8 or 16 bits a color")
    values = np.asarray(image).astype(np.float32) / OF_16_BITS
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")


def fitted(image: Image.Image, side: int, fit: Fit) -> Image.Image:
    """A square of ``side`` pixels, resized bilinearly with antialiasing.

    Args:
        fit: ``crop`` cuts the middle out of the longer side, ``stretch`` changes the proportions, ``pad`` adds black.
    """
    size = (side, side)
    if image.size == size:
        return image
    if fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    if fit == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR)
    return image.resize(size, Image.Resampling.BILINEAR)


def read_fitted(sources: Sequence[Source], side: int, fit: Fit, color: bool, remedy: str) -> torch.Tensor:
    """Pictures of any size and form as uint8 ``(n, 3, side, side)``, or ``(n, 1, side, side)`` in gray.

    Raises:
        DataError: some cannot be read, named up to three; or there is no room for them.
    """
    channels = 3 if color else 1
    x = room_for((len(sources), channels, side, side))

    def read(row: int) -> str:
        source = sources[row]
        try:
            image = fitted(opened(source if isinstance(source, Path) else source(), side), side, fit)
        except UNREADABLE as error:
            said = f"{source} ({error})"
            return said.encode(errors="backslashreplace").decode()  # a name may be no UTF-8
        pixels = np.array(image if color else image.convert("L"))
        x[row] = torch.from_numpy(pixels).reshape(side, side, channels).permute(2, 0, 1)
        return ""

    with ThreadPoolExecutor(machine.usable_cores()) as threads:
        problems = [problem for problem in threads.map(read, range(len(sources))) if problem]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(f"these pictures cannot be read: {'; '.join(problems[:3])}{more}; {remedy}")
    return machine.filled(x)
