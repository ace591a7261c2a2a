"""Every kind of artifact has a page, and a run of several trials shows the trial that the reader chooses."""

import ast
from pathlib import Path

import pytest
from core_helpers import TINY_DATA
from page_helpers import Open, recorded

from poisonlab.records.artifacts import KINDS
from poisonlab.spec.config import make_spec
from poisonlab.ui import navigation

PAGES = Path(__file__).resolve().parents[2] / "pages"
SEVERAL = ("unlearning", "neurons")  # pages of what rnp records of each trial
FEW = TINY_DATA | {
    "training.epochs": 1,
    "clean_images": 20,
    "victim.width": 8,
    "attack.targets": 3,
    "attack.poisons": 3,
    "attack.steps": 2,
    "defense.unlearn_epochs": 1,
    "defense.recover_epochs": 1,
    "defense.repeats": 1,
    "defense.rounds": 1,
    "defense.search_batch": 4,
}


def loaded_by(page: Path) -> set[str]:
    """The kinds of artifacts that a page loads."""
    calls = [node for node in ast.walk(ast.parse(page.read_text())) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) in ("page.load", "page.load_all")]
    constants = [argument for call in loads for argument in call.args if isinstance(argument, ast.Constant)]
    return {str(constant.value) for constant in constants}


def test_every_kind_of_artifact_is_shown_by_a_page() -> None:
    loaded = set().union(*(loaded_by(page) for page in PAGES.glob("*.py")))

    assert loaded == set(KINDS)


@pytest.mark.parametrize("name", list(navigation.SHOWS))
def test_a_page_loads_what_makes_a_run_appear_on_it(name: str) -> None:
    assert set(navigation.SHOWS[name]) <= loaded_by(PAGES / f"{name}.py")


@pytest.fixture(scope="module")
def three_trials(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A results folder with a targeted attack of three trials, each victim repaired; and the run's id."""
    results = tmp_path_factory.mktemp("trials")
    spec = make_spec("digits", "gradient_matching", "rnp", overrides=FEW)
    record = recorded(spec, results)
    trials = [item.trial for item in record.artifacts if item.name == "unlearned_predictions"]
    assert trials == [0, 1, 2]
    return results, record.run_id


@pytest.mark.parametrize("name", SEVERAL)
def test_the_trial_is_chosen_in_the_link_and_the_first_is_usual(
    open_page: Open, three_trials: tuple[Path, str], name: str
) -> None:
    results, run_id = three_trials
    app = open_page(results, name, run=run_id)
    assert (app.number_input(key="trial").value, app.number_input(key="trial").max) == (1, 3)

    linked = open_page(results, name, run=run_id, trial="3")

    assert linked.number_input(key="trial").value == 3


def test_another_page_of_the_run_shows_the_same_trial(
    open_page: Open, three_trials: tuple[Path, str]
) -> None:
    results, run_id = three_trials
    app = open_page(results, "unlearning", run=run_id, trial="2")

    app.query_params["run"] = run_id
    app.switch_page("../../pages/neurons.py").run()

    assert not app.exception and app.number_input(key="trial").value == 2
