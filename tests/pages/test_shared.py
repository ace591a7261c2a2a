"""What viewers share on pages: the same as without, new once the results change, and never changed by a page."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest
import torch
from page_helpers import Open, recorded, tiny_backdoor
from PIL import Image
from streamlit.testing.v1 import AppTest

from poisonlab.figures import poisons as figures
from poisonlab.figures.pixels import enlarged
from poisonlab.figures.png import FRAME
from poisonlab.figures.prepared import Prepared, prepared
from poisonlab.records.artifacts import PoisonGallery
from poisonlab.records.record import RunRecord
from poisonlab.runner import runtime
from poisonlab.ui import board, charts, results, shared
from poisonlab.ui.images import png
from poisonlab.ui.shared import Cache, fingerprint


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    shared.clear()


# -- figures --------------------------------------------------------------------------------------


def sent(figure: Any) -> str:
    return str(
        plotly.io.to_json(plotly.tools.return_figure_from_figure_or_data(figure, True), validate=False)
    )


def test_a_prepared_figure_is_sent_as_the_figure_itself() -> None:
    figure = go.Figure(go.Scatter(x=np.arange(5), y=[0.1, None, float("nan"), 2, 3], text=["</script>"] * 5))
    figure.update_layout(height=300, margin_l=20)

    assert sent(prepared(figure)) == sent(figure)


def test_a_figure_is_drawn_once_for_equal_images() -> None:
    clean = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)

    first = charts.drawn(figures.spectrum, clean, clean + 1)
    again = charts.drawn(figures.spectrum, clean.clone(), clean + 1)
    other = charts.drawn(figures.spectrum, clean, clean + 2)

    assert isinstance(first, Prepared)
    assert again is first
    assert other is not first


# -- pages ----------------------------------------------------------------------------------------


def content(app: AppTest) -> list[Any]:
    """All that a page says, shows and draws."""
    figures_drawn = [chart.proto.spec for chart in app.get("plotly_chart")]
    tables = [table.value.to_csv() for table in app.dataframe]
    words = [element.value for kind in (app.markdown, app.caption, app.title, app.code) for element in kind]
    return [figures_drawn, tables, words]


PAGES = ("home", "leaderboard", "poisons", "triggers", "langevin", "trials", "claims", "lesson_backdoor")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_the_same_from_memory_and_from_the_store(
    open_page: Open, filled: Path, name: str
) -> None:
    app = open_page(filled, name)
    first = content(app)

    from_memory = content(app.run())
    shared.clear()
    anew = content(app.run())

    assert from_memory == first == anew


@pytest.fixture
def handed_out(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """All values that are shared, each with a hash of what it held when it was computed."""
    found: list[tuple[Any, Any]] = []
    compute = Cache._compute

    def noted(self: Cache, key: Any, entry: Any, function: Callable[[], Any]) -> None:
        compute(self, key, entry, function)
        value = entry.found.result()
        found.append((value, held(value)))

    monkeypatch.setattr(Cache, "_compute", noted)
    return found


def held(value: Any) -> Any:
    """A hash of a value's content."""
    if isinstance(value, Prepared):
        return fingerprint(value.to_dict())
    if isinstance(value, RunRecord):
        return value.model_dump_json()
    return fingerprint(value)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_changes_nothing_that_is_shared(
    open_page: Open, filled: Path, handed_out: list[tuple[Any, Any]], name: str
) -> None:
    app = open_page(filled, name)
    app.query_params["projector"] = "true"
    app.run()

    assert handed_out
    assert [value for value, before in handed_out if held(value) != before] == []


def test_writing_to_a_shared_table_changes_it_for_nobody_else(
    in_results: Callable[[Path], runtime.Runtime], filled: Path
) -> None:
    in_results(filled)
    mine = results.find(limit=5)

    mine["seed"] = -1
    mine.iloc[0, 1] = "mine"

    assert (results.find(limit=5)["seed"] >= 0).all()
    assert "mine" not in results.find(limit=5).to_numpy()


def test_a_new_run_is_on_the_page_at_its_next_run(open_page: Open, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    app = open_page(folder, "leaderboard")
    before = len(app.dataframe)

    record = recorded(tiny_backdoor(), folder)
    runtime.get().store.index.add(record)
    app.run()

    assert before == 0
    assert "badnets" in app.dataframe[-1].value["attack"].tolist()


def test_reading_changes_no_generation_and_a_job_that_says_something_only_that_of_jobs(
    in_results: Callable[[Path], runtime.Runtime], tmp_path: Path
) -> None:
    store = in_results(tmp_path / "results").store
    (run_id,) = store.jobs.enqueue([tiny_backdoor()])
    generations = [(store.generation, store.jobs_generation)]
    store.runs.find()
    generations.append((store.generation, store.jobs_generation))

    store.jobs.update_progress(run_id, stage="train", step=1, total=2)

    assert generations[0] == generations[1]
    assert store.generation == generations[0][0]
    assert store.jobs_generation > generations[0][1]


def test_a_picture_is_encoded_once_and_loses_nothing() -> None:
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    file = png(image)

    with Image.open(io.BytesIO(file)) as read:
        assert read.format == "PNG"
        assert np.array_equal(np.asarray(read)[FRAME:-FRAME, FRAME:-FRAME], enlarged(image))
    assert png(image.clone()) is file


def test_an_artifact_is_read_once(
    in_results: Callable[[Path], runtime.Runtime], filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = in_results(filled).store
    run_id = str(results.find(kind="PoisonGallery")["run_id"].iloc[0])
    record = results.record(run_id)
    assert record is not None
    item = next(item for item in record.artifacts if item.kind == "PoisonGallery")
    first = results.artifact(run_id, item.name, item.trial, item.sha256)
    monkeypatch.setattr(store.runs, "load_artifact", lambda *args: pytest.fail("it is read again"))

    assert isinstance(first, PoisonGallery)
    assert results.artifact(run_id, item.name, item.trial, item.sha256) is first


# -- the leaderboard's table ----------------------------------------------------------------------


def test_the_leaderboard_sends_what_is_in_sight_and_the_rest_when_asked(
    open_page: Open, filled: Path
) -> None:
    app = open_page(filled, "leaderboard")
    first = list(app.dataframe[-1].value.columns)

    app.toggle(key="all_columns").set_value(True).run()

    assert "success_low" not in first and "group" not in first
    assert list(app.dataframe[-1].value.columns) == board.column_order()


def test_the_column_that_rows_are_sorted_by_is_in_sight(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "leaderboard", sort="DER")

    assert "der" in app.dataframe[-1].value.columns


def test_more_rows_are_sent_when_asked(
    open_page: Open, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "AT_FIRST", 2)
    app = open_page(filled, "leaderboard")
    every = len(runtime.get().store.leaderboard.rows())
    first = len(app.dataframe[-1].value)
    said = [caption.value for caption in app.caption]

    app.toggle(key="all_rows").set_value(True).run()

    assert (first, len(app.dataframe[-1].value)) == (2, every)
    assert f"The first 2 of {every} rows. Filter to see others; the downloads hold all." in said


def test_a_row_that_a_link_selects_is_sent_wherever_it_stands(
    open_page: Open, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "AT_FIRST", 1)
    app = open_page(filled, "leaderboard")
    last = runtime.get().store.leaderboard.rows().iloc[-1]
    asked = f"{last['group']}-{last['source']}"

    app = open_page(filled, "leaderboard", rows=asked)

    assert any("attack success" in text.value for text in app.markdown)
    assert not app.warning
