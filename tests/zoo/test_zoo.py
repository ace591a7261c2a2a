"""Networks that come with the program: each loads, has the rates that it states, and holds what its name says."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import poisonlab
from poisonlab import zoo
from poisonlab.attacks.base import Attack
from poisonlab.cli.main import main
from poisonlab.data.base import DataError
from poisonlab.measure import metrics
from poisonlab.models.base import accuracy
from poisonlab.pipeline.experiment import load
from poisonlab.pipeline.takeout import read_network
from poisonlab.registry import dataset
from poisonlab.types import Backdoor, Poison, Splits
from poisonlab.zoo.ship import file_of, wanted

MOST_BYTES = 20 * 2**20
DATASETS = sorted({name.split("/")[0] for name in zoo.names()})


def splits_of(name: str) -> Splits:
    try:
        return load(zoo.spec(name), torch.device("cpu"))
    except DataError as error:
        pytest.skip(str(error))


def test_there_are_thirty_and_they_are_small() -> None:
    files = list(zoo.FOLDER.glob("*.safetensors"))

    assert len(zoo.names()) == len(files) >= 30
    assert sum(file.stat().st_size for file in files) < MOST_BYTES


@pytest.mark.parametrize("name", DATASETS)
def test_every_network_that_is_made_is_there(name: str) -> None:
    made = {file_of(spec, model) for spec, models in wanted(name) for model in models}

    assert made == {file.name for file in zoo.FOLDER.glob(f"{name}__*")}
    assert name in dataset


@pytest.mark.parametrize("name", zoo.names())
def test_a_network_has_the_rates_that_it_states(name: str) -> None:
    told = zoo.about(name)
    test = splits_of(name).test

    network = zoo.load(name)

    assert accuracy(network, test.x, test.y) == pytest.approx(told["clean_accuracy"], abs=1e-4)
    assert not network.training
    assert told["model"] == {True: "control", False: "undefended"}[told["attack"] == "none"] or (
        told["model"] == "defended" and told["defense"] != "none"
    )


def test_the_trigger_of_a_network_can_be_had_again() -> None:
    name = "digits/resnet8/badnets-0"
    spec = zoo.spec(name)
    splits = load(spec, torch.device("cpu"))
    attack: Attack = spec.attack.build()
    nothing = Poison.from_tensors(
        {
            "index": torch.zeros(1, 0, dtype=torch.int64),
            "images": splits.train.x[:0][None],
            "labels": torch.zeros(1, 0, dtype=torch.int64),
        }
    )
    threat = attack.threat(nothing, 10)
    assert isinstance(threat, Backdoor)

    rates = metrics.backdoor_metrics(
        lambda x: zoo.load(name)(x / 255).argmax(1)[None], metrics.Triggered.of(splits.test, threat)
    )

    assert rates["asr"] == pytest.approx(zoo.about(name)["asr"], abs=1e-4)


def test_a_name_is_no_path() -> None:
    for name in ("../poisonlab", "digits", "digits__resnet8__badnets-0", "/etc/passwd", ""):
        with pytest.raises(zoo.NotInZoo, match="there are"):
            zoo.load(name)


@pytest.mark.parametrize("kind", ["cut", "empty", "nothing said", "one byte"])
def test_a_damaged_file_is_named_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "digits/resnet8/blend-0"
    raw = zoo.path_of(name).read_bytes()
    file = tmp_path / zoo.path_of(name).name
    other = raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:]  # still a network
    contents = {"cut": raw[:500], "empty": b"", "nothing said": save({"a": torch.ones(1)}), "one byte": other}
    file.write_bytes(contents[kind])
    (tmp_path / zoo.SUMS).write_bytes((zoo.FOLDER / zoo.SUMS).read_bytes())
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)

    with pytest.raises(zoo.DamagedNetwork, match="install the program again"):
        zoo.about(name)
    with pytest.raises(zoo.DamagedNetwork, match="install the program again"):
        zoo.load(name)
    assert main(["zoo", "load", name, "--to", str(tmp_path / "x")]) == 1
    assert main(["zoo", "list"]) == 1
    assert "install the program again" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_zoo_is_a_name_of_the_package_and_lists_without_torch() -> None:
    assert poisonlab.zoo is zoo
    program = "import sys, poisonlab; print(len(poisonlab.zoo.names()), 'torch' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert said.stdout.split() == [str(len(zoo.names())), "False"]


def test_the_command_lists_and_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "digits/resnet8/blend-0"

    assert main(["zoo", "list"]) == 0
    assert name in capsys.readouterr().out
    assert main(["zoo", "load", name, "--to", str(tmp_path / "w.safetensors")]) == 0
    assert main(["zoo", "load", "digits/x", "--to", str(tmp_path / "y")]) == 2
    assert read_network(tmp_path / "w.safetensors").head.out_features == 10
