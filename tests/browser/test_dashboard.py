"""What a newcomer does: open, choose, launch, watch, cancel, compare, look, share."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser_helpers import (
    EXPERIMENTS,
    choose,
    click_button,
    expect_title,
    fill,
    finalize,
    go_to,
    open_link,
    progress,
    settled_box,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def launch(page: Any, address: str, epochs: str) -> str:
    """Choose digits x badnets x awm with few rounds, launch it, and return the job's id."""
    open_link(page, f"{address}/experiment", "Experiment")
    for label, option in (("Dataset", "digits"), ("Attack", "badnets"), ("Defense", "awm")):
        choose(page, label, option)
    page.get_by_role("tab", name="Defense").click()
    fill(page, "Rounds", "2")
    page.get_by_role("tab", name="Training").click()
    fill(page, "Epochs", epochs)
    click_button(page, "Launch")
    expect_title(page, "Jobs")
    page.wait_for_url(re.compile(r"job=[0-9a-f-]{36}"))
    return str(re.search(r"job=([0-9a-f-]{36})", page.url)[1])  # type: ignore[index]


# -- tests, in the order of a first visit ----------------------------------------------------------------


def test_first_deep_link_after_a_start_opens_its_page_with_the_menu(address: str, page: Any) -> None:
    open_link(page, f"{address}/leaderboard", "Leaderboard")

    menu = page.get_by_test_id("stSidebarNav").inner_text()
    assert [word for word in ("Home", "Experiment", "Jobs", "Purification") if word not in menu] == []
    assert urlsplit(page.url).path == "/leaderboard"
    assert page.title() == "Leaderboard · PoisonLab"


def test_launch_watch_cancel_compare_look_and_share(address: str, page: Any) -> None:
    run_id = launch(page, address, epochs="6")

    page.get_by_test_id("stProgress").first.wait_for()
    first = progress(page)
    page.wait_for_function(
        "before => document.querySelector('[data-testid=stProgress]')?.innerText !== before", arg=first
    )
    badge = page.get_by_text("done", exact=True).locator("visible=true")  # the table says so, too, but hidden
    badge.first.wait_for(timeout=120_000)

    cancelled = launch(page, address, epochs="900")
    page.get_by_text(re.compile(r"step \d+ of")).first.wait_for()
    click_button(page, "Cancel")
    page.get_by_text("Somebody cancelled this job").wait_for()
    page.get_by_role("button", name="Resume").wait_for()
    assert cancelled != run_id

    go_to(page, "Leaderboard")
    choose(page, "Source", "local")  # the program ships with runs of its own
    page.locator(EXPERIMENTS).first.wait_for()
    page.get_by_role("gridcell", name="awm", include_hidden=True).first.wait_for(state="attached")
    table = settled_box(page, EXPERIMENTS)
    page.mouse.click(table["x"] + 17, table["y"] + 54)  # the tick box of the first row, drawn on a canvas
    page.get_by_role("link", name="seed 0").click()

    expect_title(page, "Triggers")
    page.get_by_text("The true trigger", exact=True).wait_for()
    assert f"run={run_id}" in page.url
    page.reload()
    expect_title(page, "Triggers")
    page.get_by_role("heading", name="The recovered trigger").wait_for()
    page.get_by_text(f"run {run_id}").wait_for()
    page.get_by_role("img", name="test image 1 with trigger").wait_for()


def test_filters_travel_in_the_link(address: str, page: Any) -> None:
    open_link(page, f"{address}/leaderboard", "Leaderboard")

    choose(page, "Defense", "awm")

    page.wait_for_url(re.compile(r"defense=awm"))
    page.reload()
    expect_title(page, "Leaderboard")
    page.get_by_text("python -m poisonlab leaderboard --defense awm").wait_for()


def test_entered_values_travel_in_the_link_and_come_back_with_the_back_button(
    address: str, page: Any
) -> None:
    open_link(page, f"{address}/experiment?new_defense=none&set=clean_images%3D20", "Experiment")
    fill(page, "Poison rate", "0.05")
    fill(page, "First seed", "3")  # stands outside of the form: what is entered there must survive it

    entered = "--defense none --preset quick --seed 3 --set attack.poison_rate=0.05 --set clean_images=20"
    page.get_by_text(entered).wait_for()
    page.wait_for_url(re.compile(r"seed=3&set=attack.poison_rate%3D0.05&set=clean_images%3D20"))
    page.reload()
    page.get_by_text(entered).wait_for()
    page.go_back()
    page.get_by_text("--set clean_images=20").wait_for()
    page.get_by_text("poison_rate=0.05").wait_for(state="detached")


def test_selected_rows_travel_in_the_link(address: str, page: Any) -> None:
    open_link(page, f"{address}/leaderboard", "Leaderboard")
    for row in range(2):
        table = settled_box(page, EXPERIMENTS)
        page.mouse.click(table["x"] + 17, table["y"] + 54 + 36 * row)
        finalize(page)
    page.get_by_text("What differs", exact=True).wait_for()
    page.wait_for_url(re.compile(r"rows=[0-9a-f]+-\w+&rows=[0-9a-f]+-\w+"))

    page.reload()

    page.get_by_text("What differs", exact=True).wait_for()


def test_unknown_run_in_a_link_is_explained(address: str, page: Any) -> None:
    open_link(page, f"{address}/triggers?run=no-such-run", "Triggers")

    page.get_by_text("not among the results here").wait_for()
