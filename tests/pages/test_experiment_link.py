"""The Experiment page in a link: what was entered comes back, what cannot be is explained."""

from pathlib import Path
from typing import Any

import pytest
from page_helpers import Open, words
from streamlit.testing.v1 import AppTest

from poisonlab.runner import runtime
from poisonlab.runner.parts import Slot
from poisonlab.spec.config import make_spec


def said(app: AppTest) -> str:
    return "\n".join(str(w.value) for w in app.warning).replace("\\", "")


def number(app: AppTest, label: str) -> Any:
    return next(n for n in app.number_input if n.label.split(" (")[0] == label)


def check(app: AppTest) -> None:
    app.run()


def test_what_was_entered_is_in_the_link_and_opens_the_same_form(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "experiment")
    number(app, "Poison rate").set_value(0.05)
    number(app, "Clean images").set_value(20)
    check(app)
    link = app.query_params["set"]
    assert link == ["attack.poison_rate=0.05", "clean_images=20"]

    other = open_page(tmp_path, "experiment", set=link, seed="3", repeats="2")

    assert number(other, "Poison rate").value == 0.05
    assert number(other, "Clean images").value == 20
    assert other.code[0].value.count("--set attack.poison_rate=0.05 --set clean_images=20") == 2
    assert "--seed 3" in other.code[0].value and "--seed 4" in other.code[0].value
    assert not other.warning


def test_a_value_set_back_to_the_presets_leaves_the_link(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "experiment", set="attack.poison_rate=0.05")
    usual = make_spec("digits", "badnets", "awm").attack.params.poison_rate

    number(app, "Poison rate").set_value(usual)
    check(app)

    assert "set" not in app.query_params
    assert number(app, "Poison rate").value == usual


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("attack.poison_rate=7", "less than or equal to 1 (got 7): the preset's value"),
        ("attack.poison_rate=NaN", "attack.poison_rate"),
        ("attack.poison_rate=[[1]]", "attack.poison_rate"),
        ("attack.nothing=1", "choose one of: attack.target_class"),
        ("nonsense.x=1", "choose one of: attack."),
        ("head.epochs=2", "unknown parameter 'head.epochs'"),
        ("seed=4", "unknown parameter 'seed'"),
        ("dataset=cifar10", "unknown parameter 'dataset'"),
        ("attack.poison_rate", "a setting is part.param=value"),
        ("training.epochs=" + "9" * 5000, "training.epochs"),
        ("training.epochs=" + "[" * 5000, "training.epochs"),
    ],
)
def test_a_setting_that_cannot_be_is_explained_and_the_others_count(
    open_page: Open, tmp_path: Path, setting: str, hint: str
) -> None:
    app = open_page(tmp_path, "experiment", set=[setting, "clean_images=20"])

    assert hint in said(app)
    assert len(app.warning) == 1 and len(said(app)) < 600
    assert number(app, "Clean images").value == 20
    assert app.query_params["set"] == "clean_images=20"


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ({"seed": "-5"}, "allowed: whole numbers from 0 to 2147483647"),
        ({"seed": "2147483648"}, "allowed: whole numbers from 0 to"),
        ({"seed": "1.5"}, "allowed: whole numbers from 0 to"),
        ({"seed": "nan"}, "allowed: whole numbers from 0 to"),
        ({"seed": "9" * 5000}, "allowed: whole numbers from 0 to"),
        ({"repeats": "0"}, "allowed: whole numbers from 1 to 20"),
        ({"repeats": "99"}, "allowed: whole numbers from 1 to 20"),
        ({"new_attack": "<script>"}, "attack '<script>'; there is: badnets"),
        ({"new_preset": "fast"}, "preset 'fast'; there is: quick, full, paper"),
    ],
)
def test_a_choice_that_cannot_be_is_explained(
    open_page: Open, tmp_path: Path, query: dict[str, str], hint: str
) -> None:
    app = open_page(tmp_path, "experiment", **query)

    assert hint in said(app)
    assert "--attack badnets" in app.code[0].value and "--preset quick" in app.code[0].value
    assert len(app.code[0].value.splitlines()) <= 5
    app.run()
    assert not app.warning and not app.exception


def test_another_attack_drops_only_what_belonged_to_the_one_before(open_page: Open, tmp_path: Path) -> None:
    app = open_page(
        tmp_path,
        "experiment",
        set=["attack.poison_rate=0.05", "training.epochs=3", "defense.rounds=2", "clean_images=20"],
    )

    app.selectbox(key="new_attack").set_value("bullseye_polytope").run()

    assert not app.exception and not app.warning
    assert "attack.poison_rate=0.05, training.epochs=3" in words(app).replace("\\", "")
    assert app.query_params["set"] == ["defense.rounds=2", "clean_images=20"]
    assert number(app, "Rounds").value == 2


def test_another_dataset_or_preset_starts_from_its_own_values(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "experiment", set=["training.epochs=3", "clean_images=20"])

    app.selectbox(key="new_preset").set_value("paper").run()

    assert not app.exception
    assert "set" not in app.query_params
    assert "--set" not in app.code[0].value


def test_changing_a_run_becomes_a_link_that_needs_no_run(
    open_page: Open, filled: Path, tmp_path: Path
) -> None:
    open_page(filled)
    record = runtime.get().store.runs.record(
        str(runtime.get().store.runs.find(defense="puregen_ebm")["run_id"].iloc[0])
    )
    app = open_page(filled, "experiment", like=record.run_id)
    query = dict(app.query_params)
    assert "like" not in query

    elsewhere = open_page(tmp_path, "experiment", **query)

    assert elsewhere.code[0].value == app.code[0].value
    assert number(elsewhere, "Targets").value == 3


def test_a_failed_job_can_be_changed_and_run_again(open_page: Open, tmp_path: Path) -> None:
    open_page(tmp_path)
    spec = make_spec("digits", "badnets", "none", overrides={"attack.poison_rate": 0.07})
    (job,) = runtime.get().store.jobs.enqueue([spec], device="cuda:7")

    app = open_page(tmp_path, "experiment", like=job)

    assert app.selectbox(key="new_defense").value == "none"
    assert number(app, "Poison rate").value == 0.07


def test_a_run_to_start_from_that_is_not_here_is_explained(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "experiment", like="../../etc/passwd")

    assert "not among the results here" in said(app)


def test_one_device_is_named_and_not_asked_for(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "experiment")

    (device,) = runtime.get().runner.devices
    assert f"Runs on {device}." in words(app)
    assert not [box for box in app.selectbox if box.key == "device"]


@pytest.mark.parametrize("mode", ["one experiment", "matrix"])
def test_a_job_can_be_sent_to_one_of_several_devices(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    app = open_page(tmp_path, "experiment", mode=mode)
    monkeypatch.setattr(runtime.get().store.jobs, "claim", lambda *asked: None)
    slots = tuple(Slot(device, device) for device in ("cuda:0", "cuda:1"))
    monkeypatch.setattr(runtime.get().runner, "slots", slots)
    app.run()
    assert app.selectbox(key="device").options == ["any free device", "cuda:0", "cuda:1"]

    app.selectbox(key="device").set_value("cuda:1")
    next(b for b in app.button if b.label in ("Launch", "Queue 3 runs")).click().run()

    assert not app.exception
    assert set(runtime.get().store.jobs.find()["device"]) == {"cuda:1"}
    assert "For cuda:1 only." in words(app).replace("\\", "")
