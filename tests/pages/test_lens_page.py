"""The lens with runs whose networks are kept, with one whose networks are gone, and with a shipped one."""

import shutil
from pathlib import Path

import pytest
from page_helpers import Open, words

from poisonlab.runner import runtime
from poisonlab.ui import lens_views, shared


@pytest.fixture(autouse=True)
def nothing_is_known_yet() -> None:
    """What another test has looked at is not shown again."""
    shared.clear()


def run_id(defense: str) -> str:
    return str(runtime.get().store.runs.find(defense=defense)["run_id"].iloc[0])


@pytest.mark.parametrize("view", list(lens_views.VIEWS))
@pytest.mark.parametrize("defense", ["awm", "puregen_ebm"])
def test_every_view_says_how_it_is_read(open_page: Open, filled: Path, view: str, defense: str) -> None:
    open_page(filled)

    app = open_page(filled, "lens", run=run_id(defense), view=view)

    assert "again" not in [button.key for button in app.button]
    assert "**" in words(app) and len(app.get("plotly_chart")) + len(app.image) > 0


def test_attention_has_pictures_of_three_networks_and_their_shares(open_page: Open, filled: Path) -> None:
    open_page(filled)

    app = open_page(filled, "lens", run=run_id("awm"), view="Attention")

    shown = [image for element in app.image for image in element.proto.imgs]
    assert len(shown) == 8 * 4 and all(image.alt for image in shown)
    said = words(app)
    assert all(name in said for name in lens_views.NAMES.values())
    assert said.count("in the trigger, on average") == 3


def test_a_targeted_run_asks_for_the_trial(open_page: Open, filled: Path) -> None:
    open_page(filled)

    app = open_page(filled, "lens", run=run_id("puregen_ebm"), trial="3")

    assert app.number_input(key="trial").value == 3


def test_a_run_whose_networks_are_gone_offers_to_run_again(open_page: Open, filled: Path) -> None:
    open_page(filled)
    asked = run_id("awm")
    shutil.move(filled / "cache", filled / "elsewhere")
    try:
        app = open_page(filled, "lens", run=asked)
    finally:
        shutil.rmtree(filled / "cache", ignore_errors=True)
        shutil.move(filled / "elsewhere", filled / "cache")

    assert "no longer kept" in app.info[0].value
    assert "Run it again" in [button.label for button in app.button]


def test_other_pages_lead_to_the_lens(open_page: Open, filled: Path) -> None:
    open_page(filled)

    app = open_page(filled, "triggers", run=run_id("awm"))

    assert "lens" in [link.proto.page for link in app.get("page_link")]


def test_a_shipped_run_says_that_its_networks_are_not_here(
    open_page: Open, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page(filled)
    asked = run_id("awm")
    monkeypatch.setattr(type(runtime.get().store.runs), "own_ids", lambda self: frozenset())

    app = open_page(filled, "lens", run=asked)

    assert "came with the program" in app.info[0].value
    assert "Run it again" in [button.label for button in app.button]
    assert not app.get("plotly_chart")
