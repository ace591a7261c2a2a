"""The page of three players: predict, see, keep, and open again by its URL."""

from pathlib import Path

import pytest
from page_helpers import Open, words

from poisonlab.multilevel.data import diabetes
from poisonlab.multilevel.record import make_record, write
from poisonlab.multilevel.spec import SweepSpec
from poisonlab.multilevel.sweep import sweep
from poisonlab.runner import runtime

SMALL = {"attacker_steps": "2", "learner_steps": "5", "outer_steps": "5"}


def charts(app: object) -> int:
    return len(app.get("plotly_chart"))  # type: ignore[attr-defined]


def st_value(value: str | list[str]) -> str:
    return value if isinstance(value, str) else value[0]


def test_nothing_is_shown_before_the_reader_predicted(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "multilevel", **SMALL)
    assert charts(app) == 0 and "Choose an answer" in app.info[0].value

    app.radio[0].set_value("always").run()

    assert not app.exception and charts(app) == 4
    assert "s you predicted:" in words(app) and "Over 10 random splits" in words(app)


def test_a_link_restores_sliders_prediction_and_answer(open_page: Open, tmp_path: Path) -> None:
    app = open_page(
        tmp_path,
        "multilevel",
        **SMALL,
        guess="above",
        penalty="30",
        noise="0.75",
        order="min_min_max",
        split="3",
    )

    assert app.radio[0].value == "above"
    values = {slider.key: slider.value for slider in app.select_slider}
    assert values["penalty"] == 30 and values["noise"] == 0.75 and values["attacker_steps"] == 2
    assert values["split"] == 3 and "split 3" in words(app)
    assert [m.label for m in app.metric] == ["bilevel, noise 0.75", "trilevel, noise 0.75"]


def test_a_link_that_asks_for_what_cannot_be_gets_the_usual_value(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "multilevel", penalty="-1", order="nonsense", noise="inf")

    assert not app.exception and any("'-1'" in w.value.replace("\\", "") for w in app.warning)
    assert {s.key: s.value for s in app.select_slider}["penalty"] == 10


def test_an_unbounded_adversary_warns(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "multilevel", guess="never", penalty="2", outer_steps="10")

    assert "adversary is unbounded at penalty 2" in words(app).replace("\\", "")


def test_a_kept_sweep_opens_again_by_its_url(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "multilevel", **SMALL)

    next(b for b in app.button if b.label.startswith("Play every")).click().run()

    assert not app.exception and charts(app) == 1
    sweep_id = st_value(app.query_params["sweep"])
    assert runtime.get().store.sweeps.find()["sweep_id"].tolist() == [sweep_id]
    results = runtime.get().store.sweeps.results_of(sweep_id)
    assert set(results["model"]) == {"bilevel", "trilevel"} and results["test_mse"].notna().all()
    again = open_page(tmp_path, "multilevel", sweep=sweep_id)
    assert charts(again) == 1 and again.dataframe[0].value["penalty"].tolist()[0] == 6


def test_a_sweep_from_the_command_line_is_listed_and_a_wrong_id_explained(
    open_page: Open, tmp_path: Path
) -> None:
    open_page(tmp_path)
    spec = SweepSpec(
        penalties=(10.0,), seeds=2, rules={"attacker_steps": 1, "learner_steps": 2, "outer_steps": 2}
    )
    write(make_record(diabetes(), spec, sweep(diabetes(), spec), 1.0), tmp_path)

    app = open_page(tmp_path, "multilevel", sweep="../../etc/passwd")

    assert "is not a run id" in app.warning[0].value
    assert "Kept before" in words(app)


def test_a_table_that_somebody_brings_is_checked(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "multilevel", **SMALL)

    app.file_uploader[0].upload("bad.csv", b"a,b\n1,2\n3,x\n", "text/csv").run()

    assert not app.exception and "line 3, column 'b' holds 'x'" in app.error[0].value.replace("\\", "")


@pytest.mark.slow
def test_a_moved_slider_is_answered(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "multilevel", guess="above")

    app.select_slider(key="penalty").set_value(20.0).run()

    assert not app.exception and app.select_slider(key="penalty").value == 20.0
