"""Folders under suspicion: rows keep the names of their files."""

from pathlib import Path

import pytest
import torch
from check_helpers import CLASSES, EACH, folder_of
from PIL import Image

from poisonlab.check.suspects import of_dataset, of_folder, trusted_dataset, trusted_folder
from poisonlab.data import own
from poisonlab.data.base import DataError
from poisonlab.data.shared.own_folder import look


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))


def test_every_picture_is_there_with_its_own_name(tmp_path: Path) -> None:
    found = of_folder(folder_of(tmp_path / "pictures"), 8)

    assert len(found) == len(set(found.names)) == len(CLASSES) * EACH
    for row in (0, 17, 89):
        name = found.names[row]
        assert found.data.classes[int(found.data.y[row])] == name.split("/")[0]
        shade = Image.open(found.files[row]).getpixel((5, 5))
        assert found.data.x[row, :, 4, 4].tolist() == list(shade)


def test_a_set_that_was_added_still_knows_the_files(tmp_path: Path) -> None:
    looked = look(folder_of(tmp_path / "pictures", each=40))
    own.add("pets", looked, 8, "crop")

    found = of_dataset("own_pets", "quick")

    assert found.names == tuple(path.relative_to(looked.root).as_posix() for path, _ in looked.train)
    assert [found.data.classes[y] for y in found.data.y] == [name.split("/")[0] for name in found.names]


def test_a_set_that_was_added_before_files_were_kept_has_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = own._kept_names
    monkeypatch.setattr(own, "_kept_names", lambda classes, files: keep(classes, ()))
    own.add("pets", look(folder_of(tmp_path / "pictures", each=40)), 8, "crop")

    found = of_dataset("own_pets", "quick")

    assert found.names[3] == "own_pets/3" and set(found.data.classes) == set(CLASSES)


def test_trusted_pictures_take_the_labels_of_the_suspects(tmp_path: Path) -> None:
    suspects = of_folder(folder_of(tmp_path / "pictures"), 8)

    own = folder_of(tmp_path / "trusted", tuple(reversed(CLASSES)), each=EACH + 1)
    trusted = trusted_folder(own, suspects.data)

    assert trusted.classes == suspects.data.classes
    assert len(trusted) == len(suspects) + len(CLASSES)
    red = trusted.x[:, 0, 4, 4]  # written after the position of the class, here in reverse
    assert torch.equal(trusted.y[red == 0].unique(), torch.tensor([suspects.data.classes.index(CLASSES[-1])]))


def test_other_classes_are_named(tmp_path: Path) -> None:
    suspects = of_folder(folder_of(tmp_path / "pictures"), 8)

    with pytest.raises(DataError, match="bird, 猫, big"):
        trusted_folder(folder_of(tmp_path / "trusted", ("cat", "=dog", "bird")), suspects.data)


def test_a_dataset_is_what_an_attacker_would_touch() -> None:
    found = of_dataset("digits", "quick")

    assert len(found) == 1000 and found.names[3] == "digits/3" and not found.files
    with pytest.raises(DataError, match="16x16 with 3 channels"):
        trusted_dataset(
            "digits", found.data.__class__(found.data.x.repeat(1, 3, 1, 1), found.data.y, found.data.classes)
        )
