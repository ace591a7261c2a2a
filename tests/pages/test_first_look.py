"""The pictures on Home, and the runs on which pages open."""

import hashlib
from pathlib import Path

import pytest
import torch
from page_helpers import Open, tiny_backdoor, words
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from store_helpers import record_of

from poisonlab.records.artifacts import TriggerTruth
from poisonlab.records.record import save_artifact, write_record
from poisonlab.store.pack import pack
from poisonlab.ui import first_look


def with_truth(folder: Path, defended: list[int]) -> str:
    """A run of three test images, all turned to class 0 by the trigger; what the defended model says of each."""
    images = torch.arange(3 * 3 * 8 * 8).remainder(256).to(torch.uint8).reshape(3, 3, 8, 8)
    true, zero = torch.tensor([1, 2, 3]), torch.zeros(3, dtype=torch.long)
    names = [f"class {i}" for i in range(4)]
    truth = TriggerTruth(images, images.clone(), 0, names, true, true.clone(), zero, torch.tensor(defended))
    record = record_of(tiny_backdoor())
    (folder / record.run_id).mkdir(parents=True)
    kept = save_artifact(truth, "true_trigger", "evaluate", folder / record.run_id)
    write_record(record.model_copy(update={"artifacts": [kept]}), folder / record.run_id)
    return record.run_id


def test_home_shows_the_run_that_the_shipped_results_name(open_page: Open, tmp_path: Path) -> None:
    run_id = with_truth(tmp_path / "runs", defended=[0, 2, 3])
    pack(tmp_path / "runs", tmp_path / "no reference", openers={"home": run_id, "triggers": run_id})

    app = open_page(tmp_path / "results")
    shown = [image for element in app.image for image in element.proto.imgs]
    assert len(shown) == 4 and all(image.alt for image in shown)
    said = words(app)
    assert "The model says :green[**class 2**]" in said  # the first that is turned, and turned back
    assert "It says :red[**class 0**]" in said
    other = open_page(tmp_path / "results", "triggers")
    assert other.selectbox(key="run_box").value == run_id
    assert "victim: :red[**class 0**]" in words(other) and "defended: :green[class 3]" in words(other)


def test_a_run_in_which_nothing_was_turned_back_shows_nothing(open_page: Open, tmp_path: Path) -> None:
    run_id = with_truth(tmp_path / "runs", defended=[0, 0, 0])
    pack(tmp_path / "runs", tmp_path / "no reference", openers={"home": run_id})

    assert not open_page(tmp_path / "results").image


def test_home_without_such_a_run_has_no_pictures(open_page: Open, filled: Path) -> None:
    app = open_page(filled)

    assert not app.image and "Which defense is best?" in [heading.value for heading in app.subheader]


HEAD = b'{"__metadata__":{"poisonlab.artifact":'


def with_header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not safetensors",
        with_header(b"{}"),
        with_header(HEAD + b'"[]"}}'),
        with_header(HEAD + b'"{\\"fields\\":null}"}}'),
        with_header(b"[" * 5000),
    ],
)
def test_a_file_that_shows_nothing_is_no_error(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "true_trigger.safetensors"
    file.write_bytes(raw)

    assert first_look._look.__wrapped__(file, hashlib.sha256(raw).hexdigest()) is None
    assert first_look._look.__wrapped__(tmp_path / "absent", "") is None


@pytest.mark.parametrize("harm", ["true_labels", "clean", "bytes"])
def test_pictures_that_cannot_be_are_not_shown(tmp_path: Path, harm: str) -> None:
    run_id = with_truth(tmp_path / "runs", defended=[0, 2, 3])
    file = tmp_path / "runs" / run_id / "true_trigger.safetensors"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert first_look._look.__wrapped__(file, sha256) is not None
    if harm == "bytes":
        file.write_bytes(file.read_bytes()[:-1] + b"\x07")  # not what the record names
    else:
        held = load_file(file)
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata()
        held[harm] = held[harm].float() if harm == "clean" else held[harm] - 9
        save_file(held, file, metadata=header)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()

    assert first_look._look.__wrapped__(file, sha256) is None
