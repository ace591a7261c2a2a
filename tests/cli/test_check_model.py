"""``check-model``: a verdict in words and as JSON, a repaired network to take away, refusals in one line."""

import json
import os
from pathlib import Path

import pytest
import torch
from core_helpers import least

from poisonlab import zoo
from poisonlab.check import model
from poisonlab.cli.main import main
from poisonlab.pipeline.takeout import read_network

NETWORK = "digits/resnet8/badnets-0"
ASKED = ["check-model", "--weights", str(zoo.path_of(NETWORK)), "--victim", "resnet8", "--dataset", "digits"]
FEW = ["--clean-networks", "1", "--set", "training.epochs=2"]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    monkeypatch.setattr(model, "values_of", least)
    monkeypatch.chdir(tmp_path)
    return []


def test_it_says_what_was_found_and_keeps_the_repaired_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--results", str(tmp_path / "results")]

    assert main([*ASKED, *FEW, *here, "--repair", "clp", "--to", "repaired.safetensors"]) == 0

    said = capsys.readouterr()
    assert f"accuracy {zoo.about(NETWORK)['clean_accuracy']:.4f}" in said.out
    assert "normalization file" in said.out and "No verdict: with 1 clean networks" in said.out
    assert "repaired by clp" in said.err
    repaired = read_network(tmp_path / "repaired.safetensors").state_dict()
    given = zoo.load(NETWORK).state_dict()
    assert any(not torch.equal(value, repaired[name]) for name, value in given.items())


def test_json_holds_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, *FEW, "--results", str(tmp_path / "results"), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(zoo.about(NETWORK)["clean_accuracy"], abs=1e-4)
    assert found["stands_out"] is None and set(found["detectors"]) == set(model.detectors())
    assert all(len(told["class_scores"]) == 10 for told in found["detectors"].values())


REFUSED = {
    "neither images nor dataset": ([*ASKED[:5]], "either a folder or a dataset"),
    "both": ([*ASKED, "--images", "x"], "either a folder or a dataset"),
    "no clean network": ([*ASKED, "--clean-networks", "0"], "from 1 to 1000 clean networks"),
    "another architecture": ([*ASKED[:4], "resnet34", *ASKED[5:]], "do not fit this network"),
    "no trusted image": ([*ASKED, "--set", "clean_images=0"], "clean_images must be at least 1"),
    "a repair into no folder": ([*ASKED, "--repair", "clp", "--to", "no/x"], "in a folder that exists"),
    "a repair over a device": ([*ASKED, "--repair", "clp", "--to", os.devnull], "not /dev/null"),
    "no repair": ([*ASKED, "--repair", "jpeg", "--to", "x"], "'jpeg' does not repair a network by itself"),
    "repair without a file": ([*ASKED, "--repair", "clp"], "go together"),
    "no such file": (["check-model", "--weights", "none.pt", *ASKED[3:]], "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, said = REFUSED[name]

    assert main([*words, "--results", str(tmp_path / "results")]) == 2

    errors = capsys.readouterr().err
    assert said in errors
    assert not list((tmp_path / "results").glob("cache/control-*"))
