"""What one sees first: pictures in sight, nothing that a reader with a screen reader or weak eyes is kept from."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from browser_helpers import expect_no_exception, expect_title, finalize, nothing_is_cut_off, open_link

from poisonlab.ui import navigation

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WITH_PICTURES = [
    *(
        "poisons",
        "triggers",
        "crafting",
        "purification",
        "langevin",
        "energy",
        "neurons",
        "unlearning",
        "repair",
        "screening",
    ),
    *("leaderboard", "trials", "budget", "claims"),
]
IN_SIGHT = 500  # pixels from the top at 1280 x 800
# the first picture, figure or table of a page: where it begins
FIRST_PICTURE = """() => Math.min(...[...document.querySelectorAll(
    '[data-testid=stMain] :is(img, .js-plotly-plot, [data-testid=stDataFrame])')]
    .map(e => e.getBoundingClientRect()).filter(r => r.width > 40 && r.height > 40).map(r => r.top))"""
STREAMLITS_OWN = ("stSidebarNavItems", "<li")  # its menu puts a div between list and items
PAGES = [name for section in navigation.PAGES.values() for name, _, _ in section]


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, which finds what keeps people out of a page; empty where it cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        return ""
    folder = tmp_path_factory.mktemp("axe")
    fetched = subprocess.run([npm, "pack", "axe-core@4"], cwd=folder, capture_output=True, timeout=120)
    if fetched.returncode:
        return ""
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder)
    return Path(folder / "package" / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_keeps_nobody_out(address: str, page: Any, axe: str, name: str) -> None:
    """Its first picture is in sight, nothing is cut off at any width, and light and dark can be read by everybody."""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{address}/{'' if name == 'home' else name}")
    page.get_by_role("heading", level=1).first.wait_for()
    finalize(page)
    expect_no_exception(page)
    if name in WITH_PICTURES:
        page.wait_for_function(f"({FIRST_PICTURE})() <= {IN_SIGHT}", timeout=20_000)
    nothing_is_cut_off(page, 1280)
    nothing_is_cut_off(page, 1920)
    page.set_viewport_size({"width": 1280, "height": 800})
    assert serious(page, axe) == []

    page.emulate_media(color_scheme="dark")
    page.reload()  # a page knows the theme with which it was loaded
    page.get_by_role("heading", level=1).first.wait_for()
    finalize(page)
    assert serious(page, axe) == []
    nothing_is_cut_off(page, 820)
    if not axe:
        pytest.skip("axe-core cannot be fetched from npm; all else was looked at")


def serious(page: Any, axe: str) -> list[str]:
    """What axe-core holds against the page, the menu's markup left out, which is Streamlit's."""
    if not axe:
        return []
    page.evaluate(axe)
    page.locator("[aria-busy=true]").first.wait_for(state="detached")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
        if not (rule["id"] in ("list", "listitem") and any(mark in node["html"] for mark in STREAMLITS_OWN))
    ]


# ring and background of the element with the focus, each as [r, g, b]; the ring's width in pixels
FOCUS = """() => {
    const look = getComputedStyle(document.activeElement);
    const numbers = color => color.match(/[0-9.]+/g).slice(0, 3).map(Number);
    const page = getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor;
    return [numbers(look.outlineColor), numbers(page), parseFloat(look.outlineWidth)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_links_and_buttons_show_where_the_keyboard_is(address: str, page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    open_link(page, address, "PoisonLab")
    finalize(page)
    main = page.get_by_test_id("stMain")

    for element in (main.get_by_role("button").first, main.get_by_test_id("stPageLink-NavLink").first):
        page.keyboard.press("Shift")  # a key was pressed: the focus is one of the keyboard
        element.focus()
        ring, background, width = page.evaluate(FOCUS)
        assert width >= 2 and contrast(ring, background) >= 3


def contrast(one: list[float], other: list[float]) -> float:
    """WCAG's ratio of two colors."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(color: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_students_walk(address: str, page: Any) -> None:
    """Home, lesson, launch, watch, finished, its trigger, the board: in fewer than ten clicks."""
    clicks = []

    def click(what: Any) -> None:
        clicks.append(what)
        what.click()

    open_link(page, address, "PoisonLab")
    click(page.get_by_role("button", name="Start the five-minute lesson"))
    expect_title(page, navigation.title("lesson_backdoor"))
    menu = page.get_by_test_id("stSidebarNav")
    click(menu.get_by_role("link", name="Home"))
    expect_title(page, "PoisonLab")
    click(page.get_by_role("button", name="Run it live"))
    expect_title(page, "Jobs")
    page.get_by_test_id("stProgress").first.wait_for()
    other_pages = page.get_by_text("This run on other pages:")
    other_pages.wait_for(timeout=300_000)
    click(page.get_by_test_id("stMain").get_by_role("link", name="Triggers"))
    expect_title(page, "Triggers")
    page.get_by_role("heading", name="The recovered trigger").wait_for()
    page.get_by_text("victim:").first.wait_for()
    click(menu.get_by_role("link", name="Leaderboard"))
    expect_title(page, "Leaderboard")

    assert len(clicks) < 10
