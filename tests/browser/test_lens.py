"""Points of the lens are chosen, and their pictures appear."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from browser_helpers import expect_no_exception, finalize, nothing_is_cut_off, open_link, settled_box
from page_helpers import recorded, tiny_backdoor

pytestmark = [pytest.mark.browser, pytest.mark.slow]
COLD = 120_000  # milliseconds: the first page of a server imports every method before it opens a network
PLANE = ".st-key-plane-PCA"
UNDEFENDED = f"{PLANE} .draglayer .x2y2 .nsewdrag"  # the second of three planes


@pytest.fixture(scope="module")
def with_a_run(
    serve: Callable[[Path], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server that has one run, whose networks are kept."""
    folder = tmp_path_factory.mktemp("lens")
    record = recorded(tiny_backdoor(), folder / "results")
    with serve(folder) as url:
        yield f"{url}/lens?run={record.run_id}"


def test_a_box_over_points_shows_their_pictures(page: Any, with_a_run: str) -> None:
    open_link(page, with_a_run, "Lens")
    page.locator(f"{PLANE} .main-svg").first.wait_for(timeout=COLD)
    finalize(page)
    plane = settled_box(page, UNDEFENDED)
    assert page.get_by_text("chosen", exact=False).count() == 0

    page.mouse.move(plane["x"] + 2, plane["y"] + 2)
    page.mouse.down()
    page.mouse.move(plane["x"] + plane["width"] - 2, plane["y"] + plane["height"] - 2, steps=8)
    page.mouse.up()

    page.get_by_text(" chosen", exact=False).first.wait_for()
    finalize(page)
    pictures = page.get_by_test_id("stMain").locator("img")
    pictures.first.wait_for()
    assert 1 <= pictures.count() <= 8
    assert all(pictures.nth(i).get_attribute("alt") for i in range(pictures.count()))
    expect_no_exception(page)


@pytest.mark.parametrize("view", ["Features", "Attention", "Frequencies", "Classes"])
def test_no_view_is_cut_off(page: Any, with_a_run: str, view: str) -> None:
    open_link(page, f"{with_a_run}&view={view}", "Lens")
    page.get_by_text("Reproduce", exact=True).wait_for(timeout=COLD)
    finalize(page)

    expect_no_exception(page)
    for width in (1280, 1920):
        nothing_is_cut_off(page, width)
