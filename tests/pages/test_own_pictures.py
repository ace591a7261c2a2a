"""The page of one's own pictures: from a ZIP to a dataset."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from page_helpers import Open, words
from PIL import Image

from poisonlab import registry
from poisonlab.data import own


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def archive(count: int = 50, **more: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as writer:
        for label, name in enumerate(("猫", "dog <b>")):
            for i in range(count):
                noise = np.random.default_rng([label, i]).integers(0, 250, (20, 20, 3), dtype=np.uint8)
                picture = io.BytesIO()
                Image.fromarray(noise).save(picture, "PNG")
                writer.writestr(f"pets/{name}/{i}.png", picture.getvalue())
        for name, content in more.items():
            writer.writestr(name, content)
    return packed.getvalue()


def test_a_zip_becomes_a_dataset(open_page: Open, data: Path, tmp_path: Path) -> None:
    app = open_page(tmp_path / "results", "own_pictures")
    app.file_uploader[0].upload("My Pets!.zip", archive(readme=b"x"), "application/zip").run()

    assert not app.exception
    said = words(app)
    assert "80 pictures for training, 20 for tests, 2 classes" in said and "no picture" in said
    assert app.text_input[0].value == "my_pets"
    app.selectbox[0].select(16)
    next(button for button in app.button if button.label == "Add as a dataset").click().run()

    assert not app.exception
    assert list(own.own_sets()) == ["own_my_pets"]
    assert registry.dataset["own_my_pets"].class_names == ("dog <b>", "猫")
    assert not list(data.glob("own/.upload-*"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"junk", "no whole ZIP archive"),
        (archive(3), "too few pictures"),
        (archive(0, **{"a/x.png": b"a"}), "the archive holds pictures of"),
        (archive(50, **{"../x.png": b"x"}), "leads out"),
    ],
    ids=["junk", "few", "none", "traversal"],
)
def test_what_cannot_be_used_is_explained(
    content: bytes, said: str, open_page: Open, data: Path, tmp_path: Path
) -> None:
    app = open_page(tmp_path / "results", "own_pictures")
    app.file_uploader[0].upload("x.zip", content, "application/zip").run()

    assert not app.exception and said in words(app)
    assert str(data) not in words(app)  # where an upload waits is nobody's business


def test_a_name_that_is_taken_is_refused(open_page: Open, tmp_path: Path) -> None:
    for _ in range(2):
        app = open_page(tmp_path / "results", "own_pictures")
        app.file_uploader[0].upload("pets.zip", archive(), "application/zip").run()
        next(button for button in app.button if button.label == "Add as a dataset").click().run()

    assert "already" in words(app)


def test_no_link_names_a_folder(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path / "results", "experiment", new_dataset="folder", set=f"dataset.path={tmp_path}")

    assert not app.exception
    assert app.selectbox(key="new_dataset").value == "digits"
    assert str(tmp_path) not in words(app).replace("unknown parameter", "")
