"""Reports as somebody opens them who got them by mail: from a file, with no network."""

from pathlib import Path
from typing import Any

import pytest

from poisonlab.cli import main
from poisonlab.store import Store

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one report of each kind, of the shipped runs."""
    folder = tmp_path_factory.mktemp("reports")
    store = Store(folder / "results")
    shown = sorted(store.runs.shipped.showcase)
    store.close()
    wanted = {"board": [], "run": shown[4:5], "compare": [shown[4], shown[-2]]}
    for what, run_ids in wanted.items():
        to = ["--to", str(folder / f"{what}.html"), "--results", str(folder / "results")]
        assert main.main(["report", what, *run_ids, *to]) == 0
    return folder


@pytest.mark.parametrize("what", ["board", "run", "compare"])
def test_a_report_opens_without_a_request_and_draws_its_figures(what: str, reports: Path, page: Any) -> None:
    path = reports / f"{what}.html"
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.context.set_offline(True)

    page.goto(path.as_uri())
    page.wait_for_load_state("load")

    figures = page.locator(".drawing")
    assert figures.count() > 2
    for place in range(figures.count()):
        figures.nth(place).locator(".main-svg").first.wait_for()
    pictures = page.locator("img").evaluate_all("all => all.map(one => one.complete && one.naturalWidth > 0)")
    assert all(pictures) and (what == "board" or len(pictures) > 10)
    requests = [url for url in asked if not url.startswith("data:")]  # pictures inside of the file
    assert requests == [path.as_uri()] and not said
    assert page.locator(".modebar-btn[data-title^='Share']").count() == 0  # would upload the figure


def test_a_report_allows_neither_requests_nor_scripts_of_others(reports: Path, page: Any) -> None:
    page.goto((reports / "run.html").as_uri())

    outcome = page.evaluate(
        """async () => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            const reached = await fetch("http://127.0.0.1:9/").then(() => true, error => error.message);
            return [window.ran === true, reached];
        }"""
    )

    assert outcome == [False, "Failed to fetch"]


def test_the_camera_of_a_figure_saves_a_drawing(reports: Path, page: Any) -> None:
    page.goto((reports / "board.html").as_uri())
    page.locator(".drawing .main-svg").first.hover()
    with page.expect_download() as saved:
        page.locator(".modebar-btn[data-title='Download plot']").first.click()

    assert saved.value.suggested_filename == "poisonlab_figure.svg"
    assert Path(saved.value.path()).read_text().startswith("<svg")


def test_figures_follow_the_dark_theme(reports: Path, page: Any) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto((reports / "board.html").as_uri())
    page.locator(".drawing .main-svg").first.wait_for()
    ink = "() => getComputedStyle(document.querySelector('.drawing .xtick text')).fill"

    dark = page.evaluate(ink)
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(500)

    assert dark == "rgb(232, 235, 238)" and page.evaluate(ink) == "rgb(27, 31, 36)"
