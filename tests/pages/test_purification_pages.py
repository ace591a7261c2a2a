"""Energy, Langevin and Purification with several runs of the same poisons."""

import shutil
from pathlib import Path

import pytest
from core_helpers import TINY_TARGETED, tiny_spec
from page_helpers import Open, recorded, words

from poisonlab.runner import runtime
from poisonlab.spec.config import make_spec

OTHERS = {k: v for k, v in TINY_TARGETED.items() if not k.startswith("defense.")}


@pytest.fixture(scope="module")
def several(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The energy model's run, one with fewer steps and JPEG, all against the same poisons."""
    results = tmp_path_factory.mktemp("several")
    for part in ("runs", "cache"):
        shutil.copytree(filled / part, results / part)
    for name, overrides in (("puregen_ebm", TINY_TARGETED | {"defense.steps": 2}), ("jpeg", OTHERS)):
        spec = make_spec("digits", "bullseye_polytope", name, overrides=overrides)
        recorded(spec, results)
    return results


def ids() -> dict[str, str]:
    """What a run is called in short -> its id."""
    found = runtime.get().store.runs.find(attack="bullseye_polytope")["run_id"]
    params = {run_id: runtime.get().store.runs.record(run_id).spec.defense for run_id in found}
    return {f"{d.name} {d.params.steps or ''}".strip(): run_id for run_id, d in params.items()}


def rows_of_images(text: str) -> list[str]:
    return [
        line for line in text.splitlines() if line.startswith(("**After", "**What", "**Before", "**Original"))
    ]


def test_purifications_of_the_same_images_stand_below_each_other(open_page: Open, several: Path) -> None:
    open_page(several)
    known = ids()

    app = open_page(
        several, "purification", run=known["puregen_ebm 4"], beside=[known["jpeg"], known["puregen_ebm 2"]]
    )

    headings = rows_of_images(words(app))
    assert headings[:3] == [
        "**Original**",
        "**Before purification**",
        r"**After purification by puregen\_ebm \(steps 4\)**",
    ]
    assert sum(line.startswith("**After") for line in headings) == 3
    table = app.dataframe[0].value
    assert table["defense"].tolist() == ["puregen_ebm (steps 4)", "jpeg", "puregen_ebm (steps 2)"]
    assert all(share.endswith(" %") for share in table["surviving"])
    assert app.query_params["beside"] == [known["jpeg"], known["puregen_ebm 2"]]
    app.multiselect[0].set_value([known["jpeg"]]).run()
    assert not app.exception and app.query_params["beside"] == known["jpeg"]


def test_a_link_with_other_runs_beside_is_explained(open_page: Open, several: Path) -> None:
    open_page(several)

    app = open_page(several, "purification", run=ids()["jpeg"], beside=["nonsense"])

    assert "not among those that purified the same images" in "\n".join(w.value for w in app.warning)
    assert len(app.dataframe[0].value) == 1


def test_strengths_are_drawn_and_the_missing_ones_queued(
    open_page: Open, several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(several / "runs", tmp_path / "runs")
    open_page(tmp_path)
    asked = ids()["puregen_ebm 4"]

    app = open_page(tmp_path, "purification", run=asked, values_steps="2, 4, 16")
    monkeypatch.setattr(runtime.get().store.jobs, "claim", lambda *asked: None)

    assert len(app.get("plotly_chart")) == 1  # two values of steps were measured
    command = app.code[0].value
    assert command.startswith("for steps in 2 4 16; do") and '--set "defense.steps=$steps"' in command
    assert "--set defense.updates=2" in command and "defense.steps=4" not in command
    next(b for b in app.button if b.label == "Queue 1 missing run").click().run()
    jobs = runtime.get().store.jobs.find()
    assert not app.exception and len(jobs) == 1


def test_a_single_strength_offers_others(open_page: Open, several: Path) -> None:
    open_page(several)

    app = open_page(several, "purification", run=ids()["jpeg"])

    assert "Only one value of quality was measured" in words(app)
    assert app.text_input(key="values_quality").value == "12, 25, 50, 100"


def test_walks_of_two_runs_stand_side_by_side(open_page: Open, several: Path) -> None:
    open_page(several)
    known = ids()

    app = open_page(several, "langevin", run=known["puregen_ebm 4"], beside=known["puregen_ebm 2"], image="3")

    assert len(app.get("plotly_chart")) == 2 + 8
    assert app.segmented_control(key="image").value == 3
    said = words(app)
    assert said.count("The paths of image 3 in a plane") == 2 and said.count("In the run of") == 2
    assert "Walks of 9 poisoned training images were recorded" in said  # three targets of three poisons
    assert "it purified with 4 steps" in said and "it purified with 2 steps" in said


def test_a_run_alone_says_that_no_other_met_its_poisons(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "langevin")

    assert "No other defense has met the same poisons" in words(app)
    assert len(app.get("plotly_chart")) == 1 + 4


def test_energies_come_with_both_aurocs_and_the_models_health(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "energy")

    shown = {metric.label: metric.value for metric in app.metric}
    for name in ("poisoned", "purified"):
        assert 0 <= float(shown[f"AUROC, {name} against clean"]) <= 1
    assert shown["PSNR of poisoned images"].endswith("dB") and "Noise AUROC" in shown
    for zoom in app.segmented_control(key="zoom").options:
        app.segmented_control(key="zoom").set_value(zoom).run()
        assert not app.exception and len(app.get("plotly_chart")) == 1
    assert "Is the generative model sound?" in {heading.value for heading in app.subheader}


def test_a_defense_without_an_energy_model_is_named_as_such(open_page: Open, tmp_path: Path) -> None:
    few = {"ddpm_updates": 2, "ddpm_batch_size": 8, "ddpm_steps": 2, "ddpm_levels": 4, "weights": "train"}
    spec = tiny_spec(
        "puregen_ddpm", dataset__public_images=130, **{f"defense__{k}": v for k, v in few.items()}
    )
    record = recorded(spec, tmp_path)

    app = open_page(tmp_path, "energy", run=record.run_id)

    assert "has no energy model" in words(app) and not app.get("plotly_chart")
    assert "Validation loss" in {metric.label for metric in app.metric}
