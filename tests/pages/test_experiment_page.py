"""The forms follow from the configuration classes, and what they hold is what gets queued."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pytest
from core_helpers import rest_slow
from page_helpers import Open, words
from streamlit.testing.v1 import AppTest

from poisonlab import registry
from poisonlab.attacks.base import Attack
from poisonlab.registry import Card
from poisonlab.runner import runtime
from poisonlab.spec.config import (
    Config,
    ExperimentSpec,
    FineTuneConfig,
    HeadConfig,
    TrainingConfig,
    make_spec,
    param,
)
from poisonlab.ui.offered import offered


def shown_keys(app: AppTest) -> list[str]:
    kinds = (app.number_input, app.selectbox, app.checkbox, app.text_input)
    return [str(widget.key) for kind in kinds for widget in kind]


def assert_shows(app: AppTest, part: str, names: list[str]) -> None:
    keys = shown_keys(app)
    missing = [name for name in names if not any(key.endswith(f".{part}.{name}") for key in keys)]
    assert not missing, f"{part}: {missing} not in the form"


@pytest.fixture
def page(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The Experiment page of a program whose worker takes no job."""
    app = open_page(tmp_path, "experiment")
    monkeypatch.setattr(runtime.get().store.jobs, "claim", lambda *asked: None)
    return app


def assert_form_shows_methods(page: AppTest, kind: str, names: Iterable[str]) -> None:
    """Choose one method after the other: each brings all its parameters."""
    for name in names:
        page.selectbox(key=f"new_{kind}").set_value(name).run()
        assert not page.exception, name
        assert_shows(page, kind, list(registry.KINDS[kind][name].Config.model_fields))


# Together they have a parameter of every kind of widget.
FEW_METHODS = {
    "attack": ["metapoison", "bullseye_polytope", "none"],
    "defense": ["puregen_filt", "abl", "rnp"],
    "dataset": ["cifar10", "digits"],
}


@pytest.mark.parametrize("kind", FEW_METHODS)
def test_every_parameter_of_a_method_is_in_the_form(page: AppTest, kind: str) -> None:
    assert_form_shows_methods(page, kind, FEW_METHODS[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", FEW_METHODS)
def test_every_parameter_of_every_method_is_in_the_form(page: AppTest, kind: str) -> None:
    assert_form_shows_methods(page, kind, offered(kind))


def test_an_attack_from_one_new_file_gets_its_form(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    class ToyConfig(Config):
        strength: float = param(0.5, "How much", ge=0, le=1, source="nowhere")
        word: str = param("hello", "Any text")
        shade: Literal["dark", "light"] = param("dark", "Which")
        twice: bool = param(False, "Do it again")
        count: int = param(3, "How many", quick=2, ge=1, unit="images")

    class Toy(Attack):
        Config = ToyConfig
        card = Card("Toy", "Nobody 2026", "It does nothing.", "Knows nothing.", ("Is a toy.",))

    registry.attack["badnets"]  # all files are imported by now
    monkeypatch.setitem(registry.attack._items, "toy", Toy)
    page.run()
    page.selectbox(key="new_attack").set_value("toy").run()

    assert not page.exception
    assert_shows(page, "attack", ["strength", "word", "shade", "twice", "count"])
    assert "It does nothing." in words(page)
    next(w for w in page.text_input if w.label == "Word").set_value("a b").run()
    assert "--attack toy" in page.code[0].value
    assert "--set 'attack.word=a b'" in page.code[0].value


@pytest.mark.parametrize("name", rest_slow(["convnet", *(v for v in registry.victim if v != "convnet")]))
def test_every_parameter_of_every_victim_is_in_the_form(page: AppTest, name: str) -> None:
    box = next(b for b in page.selectbox if b.label == "Victim")
    box.set_value(name).run()

    assert not page.exception
    assert_shows(page, "victim", list(registry.victim[name].Config.model_fields))


def test_training_and_run_parameters_are_in_the_form(page: AppTest) -> None:
    assert_shows(page, "training", list(TrainingConfig.model_fields))
    assert_shows(page, "run", ["clean_images", "protocol", "precision", "public_poison"])

    page.selectbox(key="new_attack").set_value("bullseye_polytope").run()

    assert_shows(page, "head", list(HeadConfig.model_fields))
    assert_shows(page, "fine_tune", list(FineTuneConfig.model_fields))
    protocol = next(box for box in page.selectbox if box.label == "Protocol")
    assert protocol.options == ["linear_transfer", "fine_tune_transfer"]


def test_every_field_of_a_spec_can_be_chosen() -> None:
    """A new field of the spec must find its place on this page."""
    chosen_outside = {"dataset", "attack", "defense", "victim", "preset", "seed"}
    in_form = {
        "training",
        "head",
        "fine_tune",
        "clean_images",
        "protocol",
        "precision",
        "weights",
        "public_poison",
    }

    assert set(ExperimentSpec.model_fields) == chosen_outside | in_form


def test_help_says_meaning_bounds_paper_value_and_source(page: AppTest) -> None:
    rate = next(n for n in page.number_input if n.label == "Poison rate")

    said = rate.help.replace("\\", "")
    for part in (
        "`attack.poison_rate`",
        "Share of the training images",
        "Allowed: > 0 and ≤ 1",
        "Paper: 0.1",
        "BackdoorBench",
    ):
        assert part in said


def test_changed_value_reaches_command_and_queue(page: AppTest) -> None:
    next(n for n in page.number_input if n.label == "Poison rate").set_value(0.05)
    next(b for b in page.button if b.label == "Launch").click().run()

    assert not page.exception
    job = runtime.get().store.jobs.find().iloc[0]
    spec = runtime.get().store.jobs.get(job["run_id"]).spec
    assert spec.experiment() == make_spec("digits", "badnets", "awm", overrides={"attack.poison_rate": 0.05})
    assert "--set attack.poison_rate=0.05" in words(page)


def test_repeats_queue_one_run_a_seed(page: AppTest) -> None:
    page.number_input(key="seed").set_value(3)
    page.number_input(key="repeats").set_value(2).run()

    next(b for b in page.button if b.label == "Launch").click().run()

    assert sorted(runtime.get().store.jobs.find()["seed"]) == [3, 4]


def test_impossible_value_shows_the_line_of_the_spec_and_queues_nothing(page: AppTest) -> None:
    next(n for n in page.number_input if n.label == "Poison rate").set_value(0.0)

    next(b for b in page.button if b.label == "Launch").click().run()

    assert "attack.poison_rate: Input should be greater than 0" in page.error[0].value.replace("\\", "")
    assert runtime.get().store.jobs.find().empty


def test_matrix_counts_and_queues_every_combination(page: AppTest) -> None:
    page.segmented_control(key="mode").set_value("matrix").run()
    page.multiselect(key="many_defense").set_value(["none", "awm"]).run()
    page.number_input(key="many_seeds").set_value(2).run()
    assert "**4 runs, time" in words(page)
    assert page.code[0].value == (
        "python -m poisonlab sweep --dataset digits --attack badnets --defense none,awm --seed 0,1 --preset quick"
    )

    next(b for b in page.button if b.label == "Queue 4 runs").click().run()

    assert not page.exception
    assert len(runtime.get().store.jobs.find()) == 4


def test_matrix_of_nothing_says_what_to_choose(page: AppTest) -> None:
    page.segmented_control(key="mode").set_value("matrix").run()
    page.multiselect(key="many_attack").set_value([]).run()

    assert "Choose at least one" in page.info[0].value


def test_a_run_can_be_changed_and_run_again(open_page: Open, filled: Path) -> None:
    open_page(filled)
    store = runtime.get().store
    like = str(store.runs.find(defense="puregen_ebm")["run_id"].iloc[0])

    app = open_page(filled, "experiment", like=like)

    assert app.selectbox(key="new_attack").value == "bullseye_polytope"
    assert next(n for n in app.number_input if n.label.startswith("Targets")).value == 3
    assert "--set attack.targets=3" in app.code[0].value


def test_a_link_to_change_a_run_beats_what_was_chosen_before(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "experiment")
    app.selectbox(key="new_attack").set_value("bullseye_polytope").run()
    like = str(runtime.get().store.runs.find(defense="awm")["run_id"].iloc[0])
    app.switch_page("../../pages/home.py").run()

    app.query_params["like"] = like
    app.switch_page("../../pages/experiment.py").run()

    assert app.selectbox(key="new_attack").value == "badnets"
    assert next(n for n in app.number_input if n.label == "Rounds").value == 2
    assert not app.warning, [w.value for w in app.warning]


def test_estimate_comes_from_past_runs(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "experiment")

    assert "**one run, time" in words(app) and "time unknown" not in words(app)


def test_classes_are_called_by_their_names(page: AppTest) -> None:
    page.selectbox(key="new_dataset").set_value("cifar10").run()

    box = next(b for b in page.selectbox if b.label == "Target class")
    assert box.options[8] == "8: ship" and box.value == 0
    box.set_value(8).run()
    assert "--set attack.target_class=8" in page.code[0].value


def test_a_value_that_cannot_be_run_disables_the_launch(page: AppTest) -> None:
    next(n for n in page.number_input if n.label == "Poison rate").set_value(0.0).run()

    assert next(b for b in page.button if b.label == "Launch").disabled
