"""The buttons of a figure on a page."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_camera_saves_a_drawing_and_nothing_uploads(page: Any, address: str) -> None:
    page.goto(f"{address}/leaderboard")
    figure = page.locator(".st-key-tradeoff")
    figure.scroll_into_view_if_needed()
    figure.locator(".main-svg").first.wait_for()
    figure.hover()
    with page.expect_download() as saved:
        figure.locator(".modebar-btn[data-title='Download plot']").click()

    assert saved.value.suggested_filename == "poisonlab_tradeoff.svg"
    assert Path(saved.value.path()).read_text().startswith("<svg")
    assert page.locator(".modebar-btn[data-title^='Share']").count() == 0
