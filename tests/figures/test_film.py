"""The film of the shipped walks: light enough for a room full of viewers, and faithful to what was recorded."""

import base64
import io

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from PIL import Image

from poisonlab.figures.film import mosaic, walk_film
from poisonlab.records.artifacts import LangevinTrace
from poisonlab.store import Store

SHOWN = 8  # images at once, as on the page
MOST_BYTES = 150_000
FAITHFUL = 32.0  # decibels


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> LangevinTrace:
    store = Store(tmp_path_factory.mktemp("results"))
    record = store.runs.record(store.runs.shipped.openers["langevin"])
    item = next(item for item in record.artifacts if item.kind == "LangevinTrace")
    found = store.runs.load_artifact(record.run_id, item.name, item.sha256)
    store.close()
    assert isinstance(found, LangevinTrace)
    return found


@pytest.fixture(scope="module")
def film(trace: LangevinTrace) -> go.Figure:
    return walk_film(trace, range(SHOWN), 0)


def test_a_film_is_light(film: go.Figure) -> None:
    assert len(film.to_json()) <= MOST_BYTES


def test_every_moment_looks_as_it_was_recorded(trace: LangevinTrace, film: go.Figure) -> None:
    assert len(film.frames) == len(trace.steps)
    for moment in (0, len(trace.steps) // 2, len(trace.steps) - 1):
        rows = torch.stack([trace.clean_images[moment, :SHOWN], trace.poisoned_images[moment, :SHOWN]])
        wanted = mosaic(rows).numpy()

        shown = decoded(film.frames[moment].data[0].source, wanted.shape)

        opaque = wanted[..., 3] > 0
        error = np.mean((shown[opaque] - wanted[opaque])[:, :3] ** 2)
        assert 10 * np.log10(255**2 / error) >= FAITHFUL
        assert ((shown[..., 3] > 0) == opaque).all()


def test_the_picture_lies_where_its_labels_are(film: go.Figure) -> None:
    """In double size, but over the same coordinates: from half a pixel before the first one's middle."""
    image = film.data[0]

    assert (image.dx, image.dy) == (0.5, 0.5)
    assert image.x0 - image.dx / 2 == image.y0 - image.dy / 2 == -0.5


def decoded(source: str, shape: tuple[int, ...]) -> np.ndarray:
    """A picture of the film in the size of ``shape``, each pixel the mean of what stands for it."""
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))), dtype=float)
    height, width, channels = shape
    times = picture.shape[0] // height
    return picture.reshape(height, times, width, times, channels).mean((1, 3))
