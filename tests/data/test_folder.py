"""Folders of one's own: which pictures belong to which class, what follows from how many there are."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from poisonlab.cli.main import main
from poisonlab.data import folder
from poisonlab.data.base import DataError, divide
from poisonlab.data.folder import Folder, FolderConfig
from poisonlab.data.shared import pixels
from poisonlab.data.shared.own_folder import look
from poisonlab.spec.config import ExperimentSpec, SpecError, make_spec
from poisonlab.spec.overrides import changed

CLASSES = ("Äpfel", "猫", "dog & <b>cat")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def fill(root: Path, count: int, color: int = 0, names: Sequence[str] = ()) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        noise = np.random.default_rng([color, i]).integers(0, 60, (20, 24, 3), dtype=np.uint8)
        noise[..., color % 3] += 150
        Image.fromarray(noise).save(root / (names[i] if names else f"{i:03d}.png"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes of 40 pictures."""
    root = tmp_path / "pictures"
    for color, name in enumerate(CLASSES):
        fill(root / name, 40, color)
    return root


def spec(root: Path, **more: object) -> ExperimentSpec:
    overrides = {"dataset.path": str(root), "dataset.size": 16} | more
    return make_spec("folder", "badnets", "none", overrides=overrides)


def load(asked: ExperimentSpec) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    train, test = asked.dataset.build().load()
    assert train.classes == test.classes
    return train, test, train.classes


# -- layouts ----------------------------------------------------------------------------------------


def test_a_folder_a_class(pictures: Path) -> None:
    found = look(pictures)

    assert found.classes == tuple(sorted(CLASSES))
    assert [(train, test) for _, train, test in found.counts()] == [(32, 8)] * 3
    assert not {path for path, _ in found.train} & {path for path, _ in found.test}
    assert look(pictures) == found  # drawn the same each time


def test_train_and_test_are_kept_apart(tmp_path: Path) -> None:
    for part, count in (("Train", 20), ("val", 4), ("test", 6)):
        for color in range(2):
            fill(tmp_path / "set" / part / f"c{color}", count, color)

    found = look(tmp_path / "set")

    assert [(train, test) for _, train, test in found.counts()] == [(24, 6)] * 2  # validation joins training
    assert all("test" in path.parts for path, _ in found.test)


def test_without_a_test_set_the_validation_set_is_it(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for color in range(2):
            fill(tmp_path / "set" / part / f"c{color}", 12, color)

    assert [(train, test) for _, train, test in look(tmp_path / "set").counts()] == [(12, 12)] * 2


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_of_names_and_labels(mark: str, delimiter: str, tmp_path: Path) -> None:
    fill(tmp_path / "set" / "images", 40)
    lines = [delimiter.join(("Filename", "Label"))]
    lines += [delimiter.join((f"images/{i:03d}.png", "odd" if i % 2 else "even")) for i in range(40)]
    (tmp_path / "set" / "labels.csv").write_bytes((mark + "\r\n".join(lines)).encode())

    found = look(tmp_path / "set")

    assert found.classes == ("even", "odd") and "labels.csv" in found.layout
    assert all(int(path.stem) % 2 == label for path, label in found.train)


def test_a_table_may_say_which_are_for_tests(tmp_path: Path) -> None:
    fill(tmp_path / "set", 40)
    lines = [f"{i:03d}.png,{i % 2},{'test' if i < 10 else 'train'}" for i in range(40)]
    (tmp_path / "set" / "a.csv").write_text("\n".join(["file,class,split", *lines]))
    (tmp_path / "set" / "b.csv").write_text("something,else\n1,2\n")

    found = look(tmp_path / "set", "a.csv")

    assert sorted(int(path.stem) for path, _ in found.test) == list(range(10))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "gone.png"])
def test_a_table_reaches_nothing_outside_its_folder(name: str, tmp_path: Path) -> None:
    fill(tmp_path / "set", 20)
    fill(tmp_path, 1, names=["secret.png"])
    rows = [f"{i:03d}.png,{i % 2}" for i in range(20)]
    (tmp_path / "set" / "a.csv").write_text("\n".join(["file,class", *rows, f"{name},1"]))

    with pytest.raises(DataError, match="names 1 files that are not in"):
        look(tmp_path / "set")


def test_what_other_programs_leave_is_counted_and_left_out(pictures: Path) -> None:
    before = look(pictures)
    first = pictures / CLASSES[0]
    (first / "._000.png").write_bytes(b"\x00\x05\x16\x07" + bytes(80))
    (first / "Thumbs.db").write_bytes(b"x")
    (first / "notes.txt").write_text("x")
    fill(first / ".ipynb_checkpoints", 1)
    fill(pictures / "__MACOSX", 5)
    fill(pictures, 1, names=["stray.png"])
    (pictures / ".DS_Store").write_bytes(b"x")

    after = look(pictures)

    assert (after.train, after.test) == (before.train, before.test)
    assert after.skipped == {
        "hidden, or left by another program": 2,
        "no picture (.txt)": 1,
        "beside the folders of classes": 1,
    }


def test_a_wrapping_folder_is_passed_through(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    pictures.rename(tmp_path / "outer" / "inner" / "set")

    assert look(tmp_path / "outer").root == tmp_path / "outer" / "inner" / "set"


def test_accents_written_apart_are_one_name(pictures: Path) -> None:
    (pictures / CLASSES[0]).rename(pictures / unicodedata.normalize("NFD", CLASSES[0]))

    assert look(pictures).classes == tuple(sorted(CLASSES))


@pytest.mark.parametrize(
    ("counts", "said"),
    [({"a": 40}, "of 1 classes"), ({}, "of 0 classes"), ({"a": 40, "b": 3}, r"b \(\d and \d\)")],
)
def test_folders_that_are_no_dataset(counts: dict[str, int], said: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, count in counts.items():
        fill(tmp_path / "set" / name, count)

    with pytest.raises(SpecError, match=said):
        spec(tmp_path / "set")


@pytest.mark.parametrize("name", ["absent", "file"])
def test_no_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(SpecError, match="is no folder"):
        spec(tmp_path / name)


# -- what follows from the pictures --------------------------------------------------------------------


def test_parts_and_recipe_follow_from_the_number_of_pictures(pictures: Path) -> None:
    asked = spec(pictures)

    params = asked.dataset.params
    assert isinstance(params, FolderConfig)
    assert params.classes == 3 and params.test_images == 24
    assert params.train_images + params.reserve_images == 96
    assert asked.clean_images <= params.reserve_images
    train, test, classes = load(asked)
    assert train.x.shape == (96, 3, 16, 16) and classes == tuple(sorted(CLASSES))
    for protocol in ("from_scratch", "linear_transfer", "fine_tune_transfer"):
        divide(train, test, params, protocol)  # type: ignore[arg-type]


def test_what_somebody_chose_stays(pictures: Path) -> None:
    asked = spec(pictures, **{"dataset.train_images": 60, "training.epochs": 3})

    assert asked.dataset.params.train_images == 60 and asked.training.epochs == 3  # type: ignore[attr-defined]
    again = make_spec("folder", "badnets", "none", overrides=changed(asked))
    assert again == asked


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"attack.target_class": 3}, "not among the 3 classes"),
        ({"dataset.train_images": 5000}, "too|few|ask for"),
        ({"dataset.size": 4}, r"dataset\.size"),
        ({"dataset.fit": "tile"}, r"dataset\.fit"),
    ],
)
def test_values_that_cannot_be_are_refused_early(
    setting: dict[str, object], said: str, pictures: Path
) -> None:
    with pytest.raises((SpecError, DataError), match=said):
        asked = spec(pictures, **setting)
        train, test, _ = load(asked)
        divide(train, test, asked.dataset.params, "from_scratch")  # type: ignore[arg-type]


def test_pictures_are_decoded_once_until_one_changes(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = spec(pictures)
    train, _, _ = load(asked)
    with monkeypatch.context() as patch:
        patch.setattr(pixels, "opened", lambda *args: pytest.fail("decoded again"))
        assert torch.equal(load(asked)[0].x, train.x)

    first = look(pictures).train[0][0]
    Image.new("RGB", (20, 20), (1, 2, 3)).save(first)

    assert load(asked)[0].x[0].flatten(1)[:, 0].tolist() == [1, 2, 3]


def _looks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A list that grows by each look at a folder."""
    looked: list[Path] = []

    def counted(path: Path, table: str) -> object:
        looked.append(path)
        return look(path, table)

    monkeypatch.setattr(folder, "look", counted)
    return looked


def test_a_sweep_looks_once_at_a_folder(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked = _looks(monkeypatch)
    command = f"sweep --dataset folder --attack badnets,blend --defense none,clp --results {tmp_path / 'r'}"
    settings = [f"dataset.path={pictures}", "dataset.size=16", "training.epochs=1"]

    code = main([*command.split(), *(word for setting in settings for word in ("--set", setting))])

    assert code == 0, capsys.readouterr().err
    assert looked == [pictures]


def test_a_folder_is_looked_at_again_when_it_changed(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = _looks(monkeypatch)
    elsewhere = pictures.parent / "elsewhere"
    fill(elsewhere / "deep", 20, 1)
    (pictures / "linked").symlink_to(elsewhere)
    counts = []
    for change in (
        lambda: None,
        lambda: fill(pictures / CLASSES[0], 1, names=["new.png"]),
        lambda: (pictures / CLASSES[0] / "new.png").rename(pictures / CLASSES[1] / "moved.png"),
        lambda: fill(elsewhere / "deep", 1, names=["through a link.png"]),
        lambda: None,
    ):
        change()
        found = Folder.look_at({"path": str(pictures), "table": ""})
        assert found is not None
        counts.append([train + test for _, train, test in found.counts()])

    assert len(looked) == 4 and counts[3] == counts[4]
    assert [sum(count) for count in counts] == [140, 141, 141, 142, 142]


def test_a_table_is_read_again_when_it_was_written_to(tmp_path: Path) -> None:
    fill(tmp_path / "set", 40)
    table = tmp_path / "set" / "a.csv"

    def classes(names: str) -> tuple[str, ...]:
        table.write_text("\n".join(["file,class", *(f"{i:03d}.png,{names[i % 2]}" for i in range(40))]))
        found = Folder.look_at({"path": str(tmp_path / "set"), "table": ""})
        assert found is not None
        return found.classes

    assert (classes("ab"), classes("cd")) == (("a", "b"), ("c", "d"))


def test_a_class_that_came_later_is_noticed(pictures: Path) -> None:
    asked = spec(pictures)
    fill(pictures / "new", 40)

    with pytest.raises(DataError, match="holds 4 classes, not 3"):
        load(asked)


def test_without_a_folder_one_line_says_what_is_missing() -> None:
    with pytest.raises(DataError, match=r"--set dataset\.path"):
        Folder(FolderConfig()).load()


def test_from_the_command_line(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"run --dataset folder --attack badnets --defense clp --results {tmp_path / 'r'}"
    settings = [f"dataset.path={pictures}", "dataset.size=16", "training.epochs=2"]

    code = main([*command.split(), *(word for setting in settings for word in ("--set", setting))])

    said = capsys.readouterr()
    assert code == 0, said.err
    assert "clean_accuracy" in said.out
