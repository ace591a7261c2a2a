"""The names for programs: they do what the command line does, and the package itself stays light."""

import json
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
from core_helpers import TINY

import poisonlab
from poisonlab import api
from poisonlab.cli import main
from poisonlab.measure import metrics
from poisonlab.models.base import predict
from poisonlab.models.shared.weights_file import WeightsError
from poisonlab.pipeline.experiment import load
from poisonlab.pipeline.reopen import NotKept
from poisonlab.records.record import RecordError
from poisonlab.registry import UnknownName
from poisonlab.store import Store

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
NAMES = ["--dataset", "digits", "--attack", "badnets", "--defense", "none"]


@pytest.fixture(autouse=True)
def no_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Store.__init__, "__defaults__", (tmp_path / "reference",))


@pytest.fixture
def ran(results: Path, spec) -> api.Run:
    return api.run(spec("none"), device="cpu")


def test_a_run_measures_what_the_command_measures(ran: api.Run, tmp_path: Path, capsys) -> None:
    command = ["run", *NAMES, *SETTINGS, "--device", "cpu", "--json", "--results", str(tmp_path / "other")]

    assert main.main(command) == 0

    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["metrics"] == ran.metrics and said["spec"] == ran.spec.model_dump()
    assert ran.state == "done" and ran.folder.is_dir()


def test_a_sweep_is_the_one_of_the_command_and_starts_nothing_twice(results: Path, capsys) -> None:
    asked = {"seeds": [0, 1], "overrides": TINY, "device": "cpu"}
    runs = api.sweep(["digits"], ["badnets", "blend"], ["none"], **asked)
    again = api.sweep(["digits"], ["badnets", "blend"], ["none"], **asked)
    assert [run.run_id for run in again] == [run.run_id for run in runs]

    names = [*NAMES[:3], "badnets,blend", *NAMES[4:]]
    code = main.main(["sweep", *names, *SETTINGS, "--seed", "0,1", "--device", "cpu", "--json"])

    captured = capsys.readouterr()
    assert f"{len(runs)} of {len(runs)} are finished already" in captured.err and captured.out == ""
    assert code == 0 and [run.spec.seed for run in runs if run.spec.attack.name == "badnets"] == [0, 1]


def test_the_leaderboard_is_the_one_of_the_command(ran: api.Run, capsys) -> None:
    board = api.leaderboard(dataset="digits", sort="clean_accuracy")

    main.main(["leaderboard", "--dataset", "digits", "--sort", "clean_accuracy", "--json"])

    assert json.loads(board.to_json(orient="records")) == json.loads(capsys.readouterr().out)
    assert board["run_ids"][0] == [ran.run_id]


def test_a_loaded_run_is_the_one_that_was_made(ran: api.Run) -> None:
    loaded = api.load_run(ran.run_id)

    assert loaded == ran
    kinds = {item.name for item in loaded.record.artifacts}
    assert kinds and all(loaded.artifact(name) is not None for name in kinds)


def test_its_networks_are_those_that_were_measured(ran: api.Run, spec) -> None:
    found = api.load_run(ran.run_id)

    networks = found.networks()

    test = load(spec("none"), next(networks["defended"].parameters()).device).test
    assert list(networks) == ["control", "undefended", "defended"]
    assert (
        metrics.share(predict(networks["control"], test.x) == test.y) == ran.metrics["clean_accuracy_control"]
    )
    assert found.poison()["labels"].shape == found.poison()["indices"].shape


def test_networks_that_are_no_longer_kept_are_said_to_be(results: Path, spec) -> None:
    run = api.run(spec("none"), device="cpu", cache=False)

    with pytest.raises(NotKept, match="run it again"):
        run.networks()


def test_a_run_of_the_program_is_loaded_by_its_id(results: Path) -> None:
    """Those that ship with it lie in no results folder."""
    reference = Store(results)
    shipped = poisonlab.reference_folder()
    reference.close()
    if not (shipped / "pack.json").is_file():
        pytest.skip("nothing is shipped")
    run_id = json.loads((shipped / "pack.json").read_text())["showcase"][0]["run_id"]

    run = api.load_run(run_id)

    assert run.run_id == run_id and run.metrics and run.artifact(run.record.artifacts[0].name) is not None


def test_a_failed_run_raises_with_its_record(results: Path, spec) -> None:
    with pytest.raises(api.RunFailed, match="candidate images") as caught:
        api.run(spec("none", attack__poison_rate=1.0), device="cpu")

    assert caught.value.record.state == "failed"


def test_what_cannot_be_is_refused_by_name(results: Path, ran: api.Run) -> None:
    with pytest.raises(UnknownName, match="choose one of"):
        api.sweep(["digits"], ["x"], ["none"])
    with pytest.raises(UnknownName, match="choose one of"):
        api.leaderboard(attack="x")
    with pytest.raises(ValueError, match="source: 'x' is not one of local, imported, reference"):
        api.leaderboard(source="x")
    with pytest.raises(ValueError, match="preset: 'x' is not one of"):
        api.leaderboard(preset="x")
    with pytest.raises(api.SpecError, match="a list of names of each kind"):
        api.sweep("digits", ["badnets"], ["none"])
    with pytest.raises(WeightsError, match="normalization 'x' is not one of"):
        api.check_model("w.pt", "resnet8", dataset="digits", normalization="x")
    with pytest.raises(ValueError, match="cannot sort by"):
        api.leaderboard(sort="x")
    with pytest.raises(api.SpecError, match="poison_rate"):
        api.sweep(["digits"], ["badnets"], ["none"], overrides={"attack.poison_rate": 2})
    with pytest.raises(RecordError, match="not a run id"):
        api.load_run("../x")
    with pytest.raises(RecordError, match="no finished run"):
        api.load_run("00000000-0000-0000-0000-000000000000")
    with pytest.raises(RecordError, match="no artifact 'x'"):
        ran.artifact("x")


def test_events_are_heard(results: Path, spec) -> None:
    heard: list[object] = []

    api.run(spec("none"), device="cpu", listen=heard.append)

    assert heard


@pytest.mark.parametrize("name", api.__all__)
def test_each_name_is_the_packages_and_documented(name: str) -> None:
    found = getattr(poisonlab, name)

    assert found is getattr(api, name) and name in dir(poisonlab) and found.__doc__
    assert f"`{name}" in (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("name", ["run", "sweep", "leaderboard", "load_run"])
def test_each_function_has_types_an_example_and_its_errors(name: str) -> None:
    function = getattr(api, name)

    hints = typing.get_type_hints(function, {"pd": np} | vars(api), {"pd": __import__("pandas")})
    assert {"return", *function.__code__.co_varnames[: function.__code__.co_argcount]} <= hints.keys()
    assert "Example::" in function.__doc__ and "Raises:" in function.__doc__


def test_the_package_alone_is_light() -> None:
    code = "import sys, poisonlab; print(sorted({'torch', 'numpy', 'pandas', 'pydantic'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)

    assert done.stdout.strip() == "[]"


def test_another_name_is_none_of_the_package() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        poisonlab.nothing  # noqa: B018
    assert tuple(api.__all__) == poisonlab.API
