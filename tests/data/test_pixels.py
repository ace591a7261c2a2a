"""Pictures in the forms that people have them in give the pixels that a viewer shows."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from poisonlab import machine
from poisonlab.data.base import DataError
from poisonlab.data.shared import pixels as decoder
from poisonlab.data.shared.pixels import fitted, opened, read_fitted

RGB = np.random.default_rng(7).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(opened(path)).astype(int)


def test_16_bits_of_gray_are_scaled(tmp_path: Path) -> None:
    gray = RGB[..., 0].astype(np.uint16) * 257
    Image.fromarray(gray).save(tmp_path / "deep.png")

    assert np.abs(pixels(tmp_path / "deep.png") - RGB[..., :1].astype(int)).max() <= 1


def test_a_palette_gives_its_colors(tmp_path: Path) -> None:
    indices = RGB[..., 0] // 32
    image = Image.fromarray(indices)
    image.putpalette([v for i in range(256) for v in (i * 30 % 256, i * 70 % 256, i * 110 % 256)])
    image.save(tmp_path / "palette.png")

    wanted = np.stack([indices.astype(int) * factor % 256 for factor in (30, 70, 110)], -1)
    assert (pixels(tmp_path / "palette.png") == wanted).all()


@pytest.mark.parametrize(("alpha", "seen"), [(255, RGB.astype(int)), (0, np.full((32, 32, 3), 255))])
def test_what_is_transparent_lies_on_white(alpha: int, seen: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RGB, np.full((32, 32), alpha, np.uint8)])).save(tmp_path / "a.png")

    assert (pixels(tmp_path / "a.png") == seen).all()


def test_colors_of_printers_become_those_of_screens(tmp_path: Path) -> None:
    flat = np.zeros((64, 64, 3), np.uint8) + np.array([200, 120, 40], np.uint8)
    Image.fromarray(flat).convert("CMYK").save(tmp_path / "print.jpg", quality=95)

    assert np.abs(pixels(tmp_path / "print.jpg") - flat.astype(int)).max() <= 6


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.fromarray(np.vstack([np.full((8, 32, 3), 255, np.uint8), np.zeros((24, 32, 3), np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)

    turned = pixels(tmp_path / "turned.jpg")
    assert turned[16, -2].min() > 200 and turned[16, 2].max() < 50


@pytest.mark.parametrize(("fit", "left"), [("crop", 128), ("stretch", 0), ("pad", 128)])
def test_how_a_wide_picture_becomes_a_square(fit: str, left: int) -> None:
    wide = np.full((32, 96, 3), 128, np.uint8)
    wide[:, :32] = 0

    square = np.asarray(fitted(Image.fromarray(wide), 32, fit))  # type: ignore[arg-type]

    assert square.shape == (32, 32, 3)
    assert square[16, 16 if fit == "pad" else 1, 0] == left
    assert (square[0].max() == 0) == (fit == "pad")  # black above


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    paths = [tmp_path / "whole.png"]
    for name, content in (("cut.png", whole[:200]), ("text.jpg", b"no picture"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        paths.append(tmp_path / name)

    with pytest.raises(DataError, match=r"cut\.png.*text\.jpg.*empty\.png"):
        read_fitted(paths, 16, "crop", True, "replace them")


def test_other_formats_are_not_opened_whatever_their_name(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png", format="GIF")

    with pytest.raises(DataError, match="cannot be read"):
        read_fitted([tmp_path / "a.png"], 16, "crop", True, "replace it")


def test_gray_and_color(tmp_path: Path) -> None:
    Image.fromarray(RGB[..., 0]).save(tmp_path / "gray.png")

    color = read_fitted([tmp_path / "gray.png"], 32, "crop", True, "")
    gray = read_fitted([tmp_path / "gray.png"], 32, "crop", False, "")

    assert color.shape == (1, 3, 32, 32) and gray.shape == (1, 1, 32, 32)
    assert (color.numpy() == RGB[None, None, ..., 0]).all() and (
        gray.numpy() == RGB[None, None, ..., 0]
    ).all()


@pytest.mark.parametrize("raised", [struct.error("short"), KeyError("x"), IndexError("x"), TypeError("x")])
def test_whatever_a_decoder_raises_names_the_picture(
    raised: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(image: Image.Image) -> Image.Image:
        raise raised

    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageOps, "exif_transpose", fail)

    with pytest.raises(DataError, match=r"a\.png \(damaged: "):
        read_fitted([tmp_path / "a.png"], 16, "crop", True, "remove it")


def test_large_pictures_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "LARGE", 399)
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    at_work: list[int] = []
    most: list[int] = []

    def slowly(image: Image.Image) -> Image.Image:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.02)
        at_work.pop()
        return image

    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for path in paths:
        Image.new("RGB", (20, 20)).save(path)
    monkeypatch.setattr(ImageOps, "exif_transpose", slowly)

    read_fitted(paths, 16, "crop", True, "")

    assert max(most) == 1
