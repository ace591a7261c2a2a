"""Runs outlive the pictures that they were measured on: every page shows them when the dataset is gone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from page_helpers import Open, recorded, words
from PIL import Image

from poisonlab.data import own
from poisonlab.data.shared.own_folder import look
from poisonlab.spec.config import make_spec

PAGES = [path.stem for path in sorted((Path(__file__).parents[2] / "pages").glob("*.py"))]
SHOWING = [name for name in PAGES if "lesson" not in name]
CLASS = "<b>$x$</b> **猫**"


@pytest.fixture(scope="module")
def orphaned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A results folder with a run on a dataset that was removed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POISONLAB_DATA", str(tmp_path_factory.mktemp("data")))
        pictures = tmp_path_factory.mktemp("pictures")
        for label, name in enumerate((CLASS.replace("/", " "), "dog")):
            (pictures / name).mkdir()
            for i in range(60):
                noise = np.random.default_rng([label, i]).integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(noise).save(pictures / name / f"{i}.png")
        own.add("gone", look(pictures), 16, "crop")
        results = tmp_path_factory.mktemp("results")
        for defense in ("none", "clp"):
            recorded(make_spec("own_gone", "badnets", defense, overrides={"training.epochs": 1}), results)
        own.remove("own_gone")
        yield results


@pytest.mark.parametrize("page", SHOWING)
def test_a_page(page: str, orphaned: Path, open_page: Open) -> None:
    app = open_page(orphaned, page)

    assert not app.exception
    if page == "leaderboard":
        assert "own_gone" in words(app) or any("own_gone" in str(frame.value) for frame in app.dataframe)


def test_a_link_to_a_dataset_that_is_gone(orphaned: Path, open_page: Open) -> None:
    app = open_page(orphaned, "experiment", new_dataset="own_gone")

    assert not app.exception and app.selectbox(key="new_dataset").value == "digits"
