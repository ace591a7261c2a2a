"""``submit`` and ``verify``: a run measured again from its weights, and strangers who claim what is not so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import TINY, TINY_TARGETED, rest_slow, tiny_spec
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from poisonlab.cli import main
from poisonlab.records.record import RunRecord, read_record
from poisonlab.records.submission import pack, unpack
from poisonlab.records.verified import FOLDER, claim_of, read_mark
from poisonlab.runner.recorder import run_and_record
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.store import Store

TARGETED = TINY_TARGETED | {"defense.architecture": "light", "defense.filters": 4}
HOOKED = {
    "training.epochs": 1,
    "dataset.train_images": 100,
    "dataset.test_images": 60,
    "attack.mask_epochs": 1,
    "attack.width": 4,
}
SPECS: dict[str, ExperimentSpec] = {
    "pruned": tiny_spec("clp", clean_images=10, seed=3),
    "transfer": make_spec("digits", "bullseye_polytope", "puregen_ebm", overrides=TARGETED),
    "undefended": tiny_spec("none"),
    "control alone": make_spec("digits", "none", "ft", overrides=TINY | {"clean_images": 10}),
    "corrupted": make_spec("digits", "label_noise", "none", overrides=TINY),
    "from features": make_spec(
        "digits",
        "bullseye_polytope",
        "none",
        overrides={k: v for k, v in TARGETED.items() if "defense" not in k},
    ),
}
Members = dict[str, bytes]
WEIGHTS = "weights/defended.safetensors"


@pytest.fixture(autouse=True)
def no_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Store.__init__, "__defaults__", (tmp_path / "reference",))


def ran(spec: ExperimentSpec, results: Path) -> RunRecord:
    record = run_and_record(spec, results / "runs", device="cpu", cache_root=results / "cache")
    assert record.state == "done", record.message
    return record


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Path]:
    """A pruned backdoor, and its submission."""
    folder = tmp_path_factory.mktemp("made")
    record = ran(SPECS["pruned"], folder / "results")
    arguments = ["submit", record.run_id, "--to", str(folder / "x.zip"), "--results", str(folder / "results")]
    assert main.main(arguments) == 0
    return record, folder / "x.zip"


@pytest.fixture
def changed(made: tuple[RunRecord, Path], tmp_path: Path) -> Callable[[Callable[[Members], None]], Path]:
    """The submission after a stranger's change of its members, its hashes made anew."""

    def change(by: Callable[[Members], None]) -> Path:
        members, _ = unpack(made[1])
        by(members)
        (tmp_path / "changed.zip").write_bytes(pack(members)[0])
        return tmp_path / "changed.zip"

    return change


def verify(file: Path, results: Path, *more: str) -> int:
    return main.main(["verify", str(file), "--results", str(results), *more])


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def refused(file: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said, in one line, of a submission that is refused and marks nothing."""
    capsys.readouterr()
    assert verify(file, results) == 1
    assert not (results / FOLDER).exists()
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith("poisonlab: refused: "), last
    return last


@pytest.mark.parametrize("name", rest_slow(list(SPECS), 2))
def test_every_number_that_weights_give_is_equal_on_another_machine(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ran(SPECS[name], tmp_path / "results")
    file = tmp_path / "x.zip"
    assert (
        main.main(["submit", record.run_id, "--to", str(file), "--results", str(tmp_path / "results")]) == 0
    )
    capsys.readouterr()

    assert verify(file, tmp_path / "elsewhere", "--json") == 0

    found = said(capsys)
    numbers = {number["name"]: number for number in found["numbers"]}
    assert found["verified"] and found["tolerance"] == 0 and numbers.keys() == record.metrics.keys()
    assert {n["state"] for n in numbers.values()} <= {"equal", "not verified"}
    assert all(n["measured"] == n["claimed"] for n in numbers.values() if n["state"] == "equal")
    assert numbers["clean_accuracy"]["state"] == numbers["clean_accuracy_control"]["state"] == "equal"


@pytest.mark.slow
def test_an_attack_that_learns_its_trigger_is_not_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ran(make_spec("digits", "iab", "none", overrides=HOOKED), tmp_path / "results")
    file = tmp_path / "x.zip"
    main.main(["submit", record.run_id, "--to", str(file), "--results", str(tmp_path / "results")])
    capsys.readouterr()

    assert verify(file, tmp_path / "elsewhere", "--json") == 1

    found = said(capsys)
    states = {number["name"]: number["state"] for number in found["numbers"]}
    assert states["clean_accuracy"] == "equal" and states["asr"] == "not verified"
    assert "learns the trigger" in found["reason"] and not (tmp_path / "elsewhere" / FOLDER).exists()


def test_a_run_is_submitted_as_the_same_bytes_twice(made: tuple[RunRecord, Path], tmp_path: Path) -> None:
    record, file = made
    again = tmp_path / "again.zip"

    main.main(["submit", record.run_id, "--to", str(again), "--results", str(file.parent / "results")])

    assert again.read_bytes() == file.read_bytes()


def test_what_is_submitted_names_no_machine(made: tuple[RunRecord, Path]) -> None:
    values = json.loads(unpack(made[1])[0]["run.json"])

    assert values["logs"] == values["artifacts"] == [] and values["metrics"] == made[0].metrics


def test_a_run_that_is_not_kept_is_not_submitted(
    made: tuple[RunRecord, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made[1].parent / "results" / "runs", tmp_path / "results" / "runs")
    file = tmp_path / "x.zip"

    code = main.main(["submit", made[0].run_id, "--to", str(file), "--results", str(tmp_path / "results")])

    assert code == 1 and "run it again" in capsys.readouterr().err and not file.exists()


# -- what is marked -------------------------------------------------------------------------------


def test_a_verified_run_is_marked_and_taken_in(
    made: tuple[RunRecord, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, file = made

    assert verify(file, tmp_path / "others", "--import") == 0

    mark = read_mark(tmp_path / "others" / FOLDER / f"{record.run_id}.json")
    taken, _ = read_record(tmp_path / "others" / "runs" / record.run_id)
    assert taken.source == "imported" and taken.metrics == record.metrics
    assert mark.claim == claim_of(taken) and mark.submission == unpack(file)[1]
    assert f"run {record.run_id} is verified" in capsys.readouterr().out


def test_a_number_that_was_raised_is_told_and_marks_nothing(changed, tmp_path: Path, capsys) -> None:
    def raise_accuracy(members: Members) -> None:
        values = json.loads(members["run.json"])
        values["metrics"]["clean_accuracy"] = 0.99
        members["run.json"] = json.dumps(values).encode()

    file = changed(raise_accuracy)
    capsys.readouterr()

    assert verify(file, tmp_path / "others", "--import") == 1

    out = capsys.readouterr().out
    assert "differs" in out and "NOT verified" in out
    assert not (tmp_path / "others" / "runs").exists() and not (tmp_path / "others" / FOLDER).exists()


@pytest.mark.parametrize("name", ["clean_accuracy", "asr_undefended", "collapsed"])
def test_a_number_that_is_left_out_is_told_and_marks_nothing(
    name: str, changed, tmp_path: Path, capsys
) -> None:
    def leave_out(members: Members) -> None:
        values = json.loads(members["run.json"])
        (values if name == "collapsed" else values["metrics"]).pop(name)
        members["run.json"] = json.dumps(values).encode()

    file = changed(leave_out)
    capsys.readouterr()

    assert verify(file, tmp_path / "others", "--import") == 1

    told = "other models than claimed" if name == "collapsed" else "not claimed"
    out = capsys.readouterr().out
    assert told in out and "NOT verified" in out
    assert not (tmp_path / "others" / "runs").exists() and not (tmp_path / "others" / FOLDER).exists()


def test_a_run_of_another_device_may_differ_by_what_is_said(made, changed, tmp_path: Path, capsys) -> None:
    moved = made[0].metrics["clean_accuracy"] + 1 / 60
    file = changed(in_run(device="cuda (NVIDIA H200)", metrics__clean_accuracy=moved, torch="2.0.1"))
    capsys.readouterr()

    verify(file, tmp_path / "others", "--device", "cpu", "--json")

    found = said(capsys)
    states = {number["name"]: number["state"] for number in found["numbers"]}
    assert found["tolerance"] == 0.02 and states["clean_accuracy"] == "within tolerance"
    assert states["asr"] == "equal" and found["verified"]


def test_weights_of_another_network_do_not_give_the_numbers(changed, tmp_path: Path, capsys) -> None:
    def exchange(members: Members) -> None:
        members[WEIGHTS] = members["weights/control.safetensors"]

    assert verify(changed(exchange), tmp_path / "others") == 1
    assert "differs" in capsys.readouterr().out


# -- what is refused ------------------------------------------------------------------------------


def with_layer(name: str, by: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Members], None]:
    """A change of the defended victim's layers."""

    def change(members: Members) -> None:
        layers = load_bytes(members[name])
        by(layers)
        members[name] = save_bytes(layers)

    return change


HEAD = "varying.head.weight"
LAYERS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "NaN": (
        lambda t: t[HEAD].view(-1)[3:4].fill_(float("nan")),
        "'head.weight' holds a number that is not finite",
    ),
    "infinite": (lambda t: t["varying.normalize.std"].fill_(float("inf")), "'normalize.std' holds a number"),
    "shape": (
        lambda t: t.update({HEAD: t[HEAD][..., :-1].contiguous()}),
        "layer 'head.weight' is torch.float32",
    ),
    "type": (lambda t: t.update({HEAD: t[HEAD].double()}), "layer 'head.weight' is torch.float64"),
    "missing": (lambda t: t.pop("varying.head.bias"), "layer 'head.bias' is missing"),
    "unknown": (lambda t: t.update({"varying.x": torch.zeros(1, 1)}), "layer 'x' is unknown"),
    "strange": (lambda t: t.update({"../x": torch.zeros(1, 1)}), "'../x' is no layer"),
    "twice": (
        lambda t: t.update({"shared.head.bias": t["varying.head.bias"][0].clone()}),
        "'head.bias' is no layer",
    ),
    "more members": (lambda t: t.update({HEAD: torch.cat([t[HEAD]] * 2)}), "the layers are those of [1, 2]"),
    "nobody's": (lambda t: t.clear() or t.update({"shared.a": torch.zeros(1)}), "no layer of victim"),
}


@pytest.mark.parametrize("kind", list(LAYERS))
def test_weights_that_do_not_fit_are_refused_by_their_layer(
    kind: str, changed, tmp_path: Path, capsys
) -> None:
    change, message = LAYERS[kind]

    line = refused(changed(with_layer(WEIGHTS, change)), tmp_path / "others", capsys)

    assert WEIGHTS in line and message in line


@pytest.mark.parametrize("raw", [b"", b"\x80\x04\x95.", b"\xff" * 100, b"\x02" + b"\0" * 7 + b"{}" * 2])
def test_a_pickle_in_the_place_of_weights_is_refused(raw: bytes, changed, tmp_path: Path, capsys) -> None:
    line = refused(changed(lambda members: members.update({WEIGHTS: raw})), tmp_path / "others", capsys)

    assert WEIGHTS in line


def in_run(**values: Any) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        whole = json.loads(members["run.json"])
        for name, value in values.items():
            *path, last = name.split("__")
            place = whole
            for part in path:
                place = place[part]
            place[last] = value
        members["run.json"] = json.dumps(whole).encode()

    return change


RUNS: dict[str, tuple[Callable[[Members], None], str]] = {
    "id": (in_run(run_id="../../x"), "is not a run id"),
    "state": (in_run(state="failed"), "only finished ones"),
    "dataset": (in_run(data="0" * 24), "another dataset digits than this machine has"),
    "no data": (in_run(data=None), "fingerprint none"),
    "a folder": (
        in_run(spec__dataset={"name": "folder", "params": {"path": "/etc"}}),
        "names a folder of another machine",
    ),
    "method": (in_run(spec__attack__name="evil"), "not installed here"),
    "attack": (in_run(spec__attack__params__poison_rate=1.0), "candidate images"),
    "range": (in_run(metrics__clean_accuracy=7.0), "clean_accuracy"),
    "victim": (in_run(spec__victim__params__width=64), "control.safetensors: layer"),
    "threat": (in_run(threat="targeted"), "the threat of 'badnets' is not 'targeted'"),
    "no threat": (in_run(threat=None), "the threat of 'badnets' is not 'none'"),
    "no defense": (in_run(spec__defense={"name": "none", "params": {}}), "'none' changes no victim"),
    "no attack": (in_run(spec__attack={"name": "none", "params": {}}), "'none' poisons nothing"),
    "text": (lambda members: members.update({"run.json": b"[" * 100_000}), "nested too deeply"),
    "list": (lambda members: members.update({"run.json": b"[]"}), "must be an object"),
}


@pytest.mark.parametrize("kind", list(RUNS))
def test_a_record_that_cannot_be_is_refused(kind: str, changed, tmp_path: Path, capsys) -> None:
    change, message = RUNS[kind]

    line = refused(changed(change), tmp_path / "others", capsys)

    assert message in line


def settings(**values: Any) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members["settings.json"] = json.dumps(json.loads(members["settings.json"]) | values).encode()

    return change


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image": [1, 8, 8]}, "settings.json speaks of other images"),
        ({"image": [3, 16, 16]}, "control.safetensors: layer"),
        ({"image": [1, 10**9, 8]}, "settings.json is not valid"),
        ({"classes": 3}, "control.safetensors: layer"),
        ({"more": 1}, "settings.json is not valid"),
        ({"control": {"weights": "../x", "shared_by": 1}}, "settings.json is not valid"),
        ({"defended": {"weights": "undefended", "shared_by": 1}}, "defended.safetensors is not used"),
        ({"control": {"weights": "control", "shared_by": 7}}, "those of 7 trials"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, message: str, changed, tmp_path: Path, capsys) -> None:
    assert message in refused(changed(settings(**values)), tmp_path / "others", capsys)


def test_an_archive_of_anything_else_is_refused(tmp_path: Path, capsys) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x05\x06" + b"\0" * 18)

    assert "missing" in refused(tmp_path / "x.zip", tmp_path / "others", capsys)
    assert "cannot be read" in refused(tmp_path / "none.zip", tmp_path / "others", capsys)
    assert "not a plain file" in refused(tmp_path, tmp_path / "others", capsys)


def test_a_verified_run_stands_on_the_board_with_a_word(
    made: tuple[RunRecord, Path], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(made[1], results, "--import")
    capsys.readouterr()

    assert main.main(["leaderboard", "--results", str(results)]) == 0
    header, _, row = capsys.readouterr().out.splitlines()
    assert "verified" in header.split() and "verified" in row.split()

    main.main(["leaderboard", "--results", str(results), "--json"])
    assert json.loads(capsys.readouterr().out)[0]["verified"] == 1
