"""What tests in a browser do again and again."""

from typing import Any

EXPERIMENTS = "[class*='st-key-board-']"  # the leaderboard's table of all experiments


def open_link(page: Any, url: str, title: str) -> None:
    page.goto(url)
    expect_title(page, title)


def expect_title(page: Any, title: str) -> None:
    page.get_by_role("heading", name=title, exact=True, level=1).wait_for()
    expect_no_exception(page)


def expect_no_exception(page: Any) -> None:
    assert page.get_by_test_id("stException").count() == 0


def nothing_is_cut_off(page: Any, width: int) -> None:
    """At a width, once the page has settled there."""
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(500)
    wide, seen = page.get_by_test_id("stMain").evaluate("e => [e.scrollWidth, e.clientWidth]")
    assert wide <= seen, width


def go_to(page: Any, name: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name).click()
    expect_title(page, name)


def choose(page: Any, label: str, option: str) -> None:
    finalize(page)  # a page that is still being drawn closes what is opened on it
    box = page.get_by_test_id("stSelectbox").filter(has=page.get_by_text(label, exact=True))
    wanted = page.get_by_role("option", name=option, exact=True)
    for _ in range(5):  # one that is drawn anew in this moment closes its list
        box.get_by_role("combobox").click()
        page.wait_for_timeout(1000)
        if wanted.count():
            break
        page.keyboard.press("Escape")
    wanted.click()
    finalize(page)


def fill(page: Any, label: str, value: str) -> None:
    field = page.get_by_role("spinbutton", name=label, exact=True)
    field.fill(value)
    field.press("Tab")


def click_button(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def finalize(page: Any) -> None:
    """Wait until the script has run."""
    page.wait_for_timeout(300)
    page.get_by_test_id("stStatusWidget").wait_for(state="hidden")


def progress(page: Any) -> str:
    return str(page.get_by_test_id("stProgress").first.inner_text())


def settled_box(page: Any, selector: str) -> dict[str, float]:
    """Where an element lies once the page has stopped drawing it anew; it is scrolled into sight."""
    before = None
    for _ in range(60):
        element = page.locator(selector).first
        element.scroll_into_view_if_needed()
        box = element.bounding_box()
        if box and box == before:
            return box
        before = box
        page.wait_for_timeout(500)
    raise AssertionError(f"{selector} never came to rest")
