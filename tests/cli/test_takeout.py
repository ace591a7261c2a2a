"""``export --with-models --with-data``: what is written is what was measured."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from poisonlab.cli import main
from poisonlab.cli.takeout import write_files
from poisonlab.measure import metrics
from poisonlab.models.base import predict
from poisonlab.pipeline.experiment import load
from poisonlab.pipeline.takeout import read_network
from poisonlab.pipeline.weights import WeightsError
from poisonlab.records.record import RunRecord, read_record
from poisonlab.runner.recorder import run_and_record
from poisonlab.spec.config import ExperimentSpec

NAMES = ("control", "undefended", "defended")


@pytest.fixture
def recorded(results: Path, spec) -> tuple[ExperimentSpec, RunRecord]:
    """A pruned backdoor, measured and kept."""
    made = spec("clp", clean_images=10)
    return made, run_and_record(made, results / "runs", device="cpu", cache_root=results / "cache")


def export(target: Path, *more: str) -> int:
    return main.main(["export", str(target), "--all", *more])


def test_networks_are_those_that_were_measured_to_the_last_digit(recorded, tmp_path: Path) -> None:
    spec, record = recorded

    assert export(tmp_path / "box", "--with-models") == 0

    test = load(spec, torch.device("cpu")).test
    for name in NAMES:
        network = read_network(tmp_path / "box" / f"{record.run_id}-models" / f"{name}.safetensors")
        measured = metrics.share(predict(network, test.x) == test.y)
        assert measured == record.metrics["clean_accuracy" + {"defended": ""}.get(name, f"_{name}")]


def test_a_network_says_what_it_is_and_how_it_is_fed(recorded, tmp_path: Path) -> None:
    spec, record = recorded
    export(tmp_path / "box", "--with-models")

    file = tmp_path / "box" / f"{record.run_id}-models" / "defended.safetensors"
    raw = file.read_bytes()
    about = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]

    assert about["run_id"] == record.run_id and about["architecture"] == spec.victim.name
    assert json.loads(about["victim"]) == spec.victim.model_dump(mode="json")
    assert json.loads(about["image"]) == [1, 16, 16] and len(json.loads(about["classes"])) == 10
    mean = load_file(file)["normalize.mean"].flatten().tolist()
    assert json.loads(about["mean"]) == mean and len(json.loads(about["std"])) == 1


def test_poisons_are_pictures_and_arrays_that_agree(recorded, tmp_path: Path) -> None:
    spec, record = recorded

    assert export(tmp_path / "box", "--with-data") == 0

    folder = tmp_path / "box" / f"{record.run_id}-data"
    arrays = np.load(folder / "poison.npz", allow_pickle=False)
    train = load(spec, torch.device("cpu")).train
    rows = arrays["indices"][0]
    assert (arrays["original_labels"][0] == train.y.numpy()[rows]).all()
    assert (arrays["labels"] == spec.attack.params.target_class).all()
    pictures = sorted((folder / "trial000").iterdir())
    assert len(pictures) == len(rows) > 0
    by_row = {int(path.name[3:9]): path for path in pictures}
    for place, row in enumerate(rows):
        assert (np.array(Image.open(by_row[row])) == arrays["images"][0, place, 0]).all()


def test_a_run_whose_networks_are_gone_is_named_and_the_rest_is_exported(
    recorded, spec, results: Path, tmp_path: Path, capsys
) -> None:
    other = spec("none", seed=5)
    kept = run_and_record(other, results / "runs", device="cpu", cache_root=tmp_path / "elsewhere")
    shutil.move(recorded[1] and results / "cache", tmp_path / "gone")
    shutil.move(tmp_path / "elsewhere", results / "cache")

    code = export(tmp_path / "box", "--with-models", "--with-data")

    (line,) = [line for line in capsys.readouterr().err.splitlines() if recorded[1].run_id in line]
    assert code == 1 and "run it again" in line
    found = {path.name for path in (tmp_path / "box").iterdir() if not path.name.startswith(".")}
    assert found == {recorded[1].run_id, *(kept.run_id + end for end in ("", "-models", "-data"))}


def test_without_the_options_nothing_more_is_written(recorded, tmp_path: Path) -> None:
    export(tmp_path / "box")

    assert [path.name for path in (tmp_path / "box").iterdir()] == [recorded[1].run_id]


def test_what_was_exported_is_imported_as_before(recorded, tmp_path: Path) -> None:
    export(tmp_path / "box", "--with-models", "--with-data")

    assert main.main(["import", str(tmp_path / "box"), "--results", str(tmp_path / "others")]) == 0
    taken = tmp_path / "others" / "runs" / recorded[1].run_id
    assert read_record(taken)[0].metrics == recorded[1].metrics


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    def broken():
        yield "a.bin", b"1"
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_files(broken, tmp_path / "models")

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("raw", [b"", b"\x80\x04.", b"\xff" * 64], ids=["empty", "pickle", "noise"])
def test_what_is_no_network_is_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(raw)

    with pytest.raises(WeightsError, match="not a network that was exported"):
        read_network(tmp_path / "x.safetensors")
