"""The pages of an unlearning defense: its curves, the class it names, and whether it blamed the right channels."""

from pathlib import Path

import pytest
import torch
from core_helpers import tiny_spec
from page_helpers import Open, recorded, words

from poisonlab.records.artifacts import PredictionHistogram, RepairTrace
from poisonlab.ui.unlearning import named, path


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A results folder with a run of TSBD, and its id."""
    results = tmp_path_factory.mktemp("unlearned")
    spec = tiny_spec("tsbd", clean_images=20, defense__unlearn_epochs=2, defense__epochs=1)
    record = recorded(spec, results)
    return results, record.run_id


def test_unlearning_shows_curves_histogram_and_command(open_page: Open, unlearned: tuple[Path, str]) -> None:
    results, run_id = unlearned

    app = open_page(results, "unlearning", run=run_id)

    assert [h.value for h in app.subheader][:2] == ["On the way", "What the model says of clean images"]
    assert len(app.get("plotly_chart")) == 2
    assert "of unlearning clean accuracy went from" in words(app) and "ASR from" in words(app)
    assert "**Unlearning**: gradient ascent" in words(app) and "**Fine\\-tuning**" in words(app)
    assert "attacker's class. A defender can take this" in words(app)
    assert app.code[-1].value.startswith(
        "python -m poisonlab run --dataset digits --attack badnets --defense tsbd"
    )


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (
            [2, 8, 0, 0, 0],
            "reads 80.0 % of the clean images as **b**, which is not the attacker's class. A defender can",
        ),
        (
            [3, 3, 3, 3, 3],
            "reads 20.0 % of the clean images as **a**, the attacker's class. That is no collapse",
        ),
    ],
)
def test_the_answers_of_an_unlearned_model_name_a_class_only_where_it_collapsed(
    after: list[int], says: str
) -> None:
    before = torch.tensor([2, 2, 2, 2, 2])

    assert says in named(PredictionHistogram(before, torch.tensor(after), list("abcde")), 0)


def test_neurons_show_drive_and_weight_change_of_a_layer_in_the_link(
    open_page: Open, unlearned: tuple[Path, str]
) -> None:
    results, run_id = unlearned

    app = open_page(results, "neurons", run=run_id)
    assert {"Scores by layer", "Right or wrong"} <= {h.value for h in app.subheader}
    assert "**Activation drive**" in words(app) and "**Weight change**" in words(app)
    last = app.selectbox(key="layer").options[-1]

    other = open_page(results, "neurons", run=run_id, layer=last)

    assert other.selectbox(key="layer").value == last != "all layers"
    assert "Correlation" in words(other)


def test_a_run_that_unlearns_nothing_is_not_offered(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "unlearning")

    assert "fills the page" in app.info[0].value


@pytest.mark.parametrize(
    ("accuracy", "asr", "verdict"),
    [
        ((0.9, 0.2), (1.0, 0.99), "the backdoor outlives the task."),
        ((0.9, 0.2), (1.0, 0.1), "the backdoor was forgotten, too."),
        ((0.9, 0.85), (1.0, 1.0), "the model has hardly forgotten its task."),
        ((0.9, 0.2), (0.01, 0.0), "ASR from 1.0 % to 0.0 %."),
        ((0.9, 0.2), (float("nan"), float("nan")), "clean accuracy went from 90.0 % to 20.0 %."),
    ],
)
def test_the_words_follow_the_curves(
    accuracy: tuple[float, float], asr: tuple[float, float], verdict: str
) -> None:
    trace = RepairTrace(
        ["unlearning"],
        torch.zeros(2).long(),
        torch.tensor([0, 5]),
        torch.tensor(accuracy),
        torch.tensor(asr),
        100,
    )

    assert path(trace).endswith(verdict)
