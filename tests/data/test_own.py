"""Sets of one's own: datasets with names, that come and go while the program runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from poisonlab import registry
from poisonlab.cli.main import main
from poisonlab.data import own
from poisonlab.data.base import DataError
from poisonlab.data.shared.own_folder import Found, look, odd
from poisonlab.data.shared.pixels import Fit
from poisonlab.records.record import read_record
from poisonlab.runner.parts import OWNER, Person
from poisonlab.runner.rules import NotAllowed, Rules
from poisonlab.spec.config import SpecError, make_spec


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of 60 pictures."""
    for label, name in enumerate(("猫", "dog")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(60):
            noise = np.random.default_rng([label, i]).integers(0, 90, (40, 40, 3), dtype=np.uint8)
            noise[..., label] += 120
            Image.fromarray(noise).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


def test_a_set_is_a_dataset_at_once_until_it_is_removed(pictures: Path) -> None:
    assert "own_pets" not in registry.dataset

    assert own.add("pets", look(pictures), 32, "crop") == "own_pets"

    assert "own_pets" in registry.dataset and "own_pets" in list(registry.dataset)
    made = registry.dataset["own_pets"]
    assert made.class_names == ("dog", "猫") and made.image_counts == (96, 24)
    train, test = made(made.Config()).load()
    assert train.x.shape == (96, 3, 32, 32) and len(test) == 24 and train.classes == made.class_names
    own.remove("own_pets")
    assert "own_pets" not in registry.dataset
    with pytest.raises(registry.UnknownName):
        registry.dataset["own_pets"]


def test_presets_follow_from_what_it_holds(pictures: Path) -> None:
    own.add("pets", look(pictures), 64, "crop")

    quick, full = (make_spec("own_pets", "badnets", "none", preset=preset) for preset in ("quick", "full"))

    assert quick.dataset.params.size == 32 and full.dataset.params.size == 64  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match="not among the 2 classes"):
        make_spec("own_pets", "badnets", "none", overrides={"attack.target_class": 2})
    with pytest.raises(SpecError, match="the dataset has 96 and 24"):
        make_spec("own_pets", "badnets", "none", overrides={"dataset.train_images": 97})


def test_a_name_that_is_taken_is_refused_unless_replaced(pictures: Path) -> None:
    own.add("pets", look(pictures), 32, "crop")
    with pytest.raises(DataError, match="already"):
        own.add("pets", look(pictures), 16, "crop")

    own.add("pets", look(pictures), 16, "crop", replace=True)

    assert registry.dataset["own_pets"].Config().size == 16


def test_the_prefix_may_be_given(pictures: Path) -> None:
    assert own.add("own_pets", look(pictures), 32, "crop") == "own_pets"

    with pytest.raises(DataError, match="already"):
        own.add("pets", look(pictures), 32, "crop")


def test_of_two_who_ask_for_a_name_at_once_the_first_gets_it(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has looked before the first had decoded its pictures."""
    decoding = own.decoding

    def slowly(found: Found, side: int, fit: Fit, color: bool) -> object:
        if side == 16:
            own.add("pets", found, 32, fit, color)
        return decoding(found, side, fit, color)

    monkeypatch.setattr(own, "decoding", slowly)
    with pytest.raises(DataError, match="already"):
        own.add("pets", look(pictures), 16, "crop")

    assert registry.dataset["own_pets"].Config().size == 32


def test_a_set_that_is_removed_while_sets_are_listed(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own.add("pets", look(pictures), 32, "crop")
    monkeypatch.setattr(Path, "glob", lambda *_: [own.path_of("pets"), own.path_of("gone")])

    assert list(own.own_sets()) == ["own_pets"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "ä", "x" * 41, "_x", "a b", "own.x"])
def test_names_that_cannot_be(name: str, pictures: Path, data: Path) -> None:
    with pytest.raises(DataError, match="cannot be called"):
        own.add(name, look(pictures), 32, "crop")
    assert not list(data.rglob("*.safetensors"))


@pytest.mark.parametrize("content", [b"", b"junk", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_file_that_is_no_set_hides_no_other(content: bytes, pictures: Path) -> None:
    own.add("pets", look(pictures), 32, "crop")
    (own.own_folder() / "own_junk.safetensors").write_bytes(content)
    (own.own_folder() / "own_BAD NAME.safetensors").write_bytes(content)

    assert list(own.own_sets()) == ["own_pets"]


def test_a_file_that_was_changed_is_refused(pictures: Path) -> None:
    own.add("pets", look(pictures), 32, "crop")
    path = own.path_of("pets")
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)

    made = registry.dataset["own_pets"]
    with pytest.raises(DataError, match="SHA-256"):
        made(made.Config()).load()


def test_odd_pictures_are_named(pictures: Path) -> None:
    Image.new("RGB", (8, 8)).save(pictures / "dog" / "small.png")
    Image.new("RGB", (400, 40)).save(pictures / "dog" / "wide.png")
    (pictures / "dog" / "text.png").write_text("no picture")

    assert {path.name for path, _ in odd(look(pictures))} == {"small.png", "wide.png", "text.png"}


def test_only_administrators_name_folders_on_a_shared_server(pictures: Path, tmp_path: Path) -> None:
    rules = Rules(free_gb=0)
    spec = make_spec("folder", "badnets", "none", overrides={"dataset.path": str(pictures)})

    rules.check([spec], "cpu", OWNER, 0, tmp_path)
    with pytest.raises(NotAllowed, match="administrator"):
        rules.check([spec], "cpu", Person("bob", False), 0, tmp_path)


@pytest.mark.parametrize(
    ("rules", "may"), [({}, True), ({"uploads": False}, False), ({"teaching": True}, False)]
)
def test_who_may_add_pictures(rules: dict[str, bool], may: bool) -> None:
    asked = Rules(**rules)  # type: ignore[arg-type]
    asked.check_upload(Person("root", True))
    if may:
        asked.check_upload(Person("bob", False))
    else:
        with pytest.raises(NotAllowed):
            asked.check_upload(Person("bob", False))


def test_the_command_line_adds_lists_runs_and_removes(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cli(*words: str) -> str:
        code = main([*words])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    (pictures / "notes.txt").write_text("x")
    assert "96 pictures for training" in cli("data", "look", str(pictures))
    assert "own_pets" in cli("data", "add", str(pictures), "--name", "pets", "--size", "16")
    assert "2 classes" in cli("data", "list")
    results = tmp_path / "results"
    cli(
        *f"run --dataset own_pets --attack badnets --defense clp --results {results}".split(),
        *("--set", "training.epochs=2"),
    )
    record, _ = read_record(next((results / "runs").iterdir()))
    assert record.state == "done" and record.spec.dataset.name == "own_pets"
    cli("data", "remove", "own_pets")
    assert main(["data", "remove", "own_pets"]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data"], "action"),
        (["data", "add", "x"], "--name"),
        (["data", "add", "/dev/null/x", "--name", "x", "--size", "7"], "from 8 to 256"),
        (["data", "look", "/dev/null/x"], "is no folder"),
    ],
)
def test_impossible_commands(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) in (1, 2)
    assert said in capsys.readouterr().err


def test_pictures_keep_their_labels(pictures: Path) -> None:
    own.add("pets", look(pictures), 32, "crop")
    made = registry.dataset["own_pets"]
    train, _ = made(made.Config()).load()

    brightest = train.x.float().mean((2, 3))[:, :2].argmax(1)  # the channel that each class is bright in
    assert torch.equal(brightest, torch.tensor([1, 0])[train.y])
