"""Which pages there are, in which order, and links between them."""

from typing import Any

import streamlit as st
from PIL import Image

import poisonlab
from poisonlab.words import pages

# A dark square with the white patch of a backdoor: made here, because named icons are fetched from the internet.
ICON = Image.new("RGB", (32, 32), (0, 60, 100))
ICON.paste((255, 255, 255), (21, 21, 29, 29))

# what somebody wants -> (name, title, icon)
PAGES = {
    "Start": [("home", "Home", ":material/home:")],
    "Run it": [
        ("experiment", "Experiment", ":material/science:"),
        ("jobs", "Jobs", ":material/list_alt:"),
        ("own_pictures", "Your pictures", ":material/add_photo_alternate:"),
        ("check_data", "Check a data set", ":material/search_check:"),
        ("check_model", "Check a network", ":material/troubleshoot:"),
    ],
    "See the poison": [
        ("poisons", "Poisons", ":material/coronavirus:"),
        ("triggers", "Triggers", ":material/my_location:"),
        ("crafting", "Crafting", ":material/handyman:"),
    ],
    "See the defense": [
        ("purification", "Purification", ":material/water_drop:"),
        ("langevin", "Langevin", ":material/timeline:"),
        ("energy", "Energy", ":material/bar_chart:"),
        ("neurons", "Neurons", ":material/hub:"),
        ("lens", "Lens", ":material/frame_inspect:"),
        ("unlearning", "Unlearning", ":material/trending_down:"),
        ("repair", "Repair", ":material/build:"),
        ("screening", "Screening", ":material/policy:"),
    ],
    "Compare": [
        ("leaderboard", "Leaderboard", ":material/leaderboard:"),
        ("claims", "Claims", ":material/fact_check:"),
        ("trials", "Trials", ":material/casino:"),
        ("budget", "Budget", ":material/savings:"),
        ("methods", "Methods", ":material/menu_book:"),
    ],
    "Learn": [
        ("lessons", "Lessons", ":material/school:"),
        ("lesson_poison", "What a poison does", ":material/scatter_plot:"),
        ("lesson_backdoor", "Plant a backdoor", ":material/door_open:"),
        ("lesson_crafting", "Learning to craft", ":material/arrow_outward:"),
        ("lesson_langevin", "Energy and walks", ":material/landscape:"),
        ("lesson_trigger", "Finding the trigger", ":material/search:"),
        ("multilevel", "Three players", ":material/groups_3:"),
        ("lesson_cleaning", "Cleaning the data", ":material/cleaning_services:"),
        ("lesson_adaptive", "Adaptive attackers", ":material/swap_horiz:"),
    ],
}

SHOWS = pages.SHOWS
LENS = pages.LENS

# Pages that stand before torch is there, which takes seconds at the start of a server; "" is Home.
WITHOUT_TORCH = ("", "leaderboard", "lessons")


def title(name: str) -> str:
    """What the page is called."""
    return next(t for section in PAGES.values() for n, t, _ in section if n == name)


def page(name: str) -> Any:
    """The page object: equal each time it is made, so it can be built wherever a link is needed."""
    icon = next(i for section in PAGES.values() for n, _, i in section if n == name)
    return st.Page(
        poisonlab.app_folder() / "pages" / f"{name}.py",
        title=title(name),
        icon=icon,
        url_path=name,
        default=name == "home",
    )


def sections() -> dict[str, list[Any]]:
    return {section: [page(name) for name, _, _ in entries] for section, entries in PAGES.items()}


def link(name: str, label: str | None = None, **query: str) -> None:
    """A link to another page, with the view it should open in."""
    st.page_link(page(name), label=label, query_params=query or None)


def go(name: str, **query: str) -> None:
    """Leave for another page."""
    st.switch_page(page(name), query_params=query or None)
