"""Lessons: the scene before the prediction, then everything; a link restores both; a slider is answered."""

from pathlib import Path

import pytest
from core_helpers import rest_slow
from page_helpers import Open, words

from poisonlab.ui import navigation
from poisonlab.ui.lesson import COURSE

# page -> (a prediction, settings in the link, how many figures the answer has)
LESSONS: dict[str, tuple[str, dict[str, str], int]] = {
    "lesson_poison": ("some", {"poisons": "20", "spread": "0.1"}, 2),
    "lesson_backdoor": ("few", {"poisoned": "50", "side": "3", "class": "4"}, 2),
    "lesson_crafting": ("all", {"eps": "0.6", "moved": "40"}, 3),
    "lesson_langevin": ("soon", {"shape": "four clouds", "walk": "50", "stride": "0.2"}, 4),
    "lesson_trigger": ("yes", {"patch": "2", "size": "10"}, 2),
    "lesson_cleaning": ("drop", {"flagged": "2"}, 2),
    "lesson_adaptive": ("larger", {"side": "8", "strength": "1", "class": "2"}, 2),
}


def figures(app: object) -> int:
    return len(app.get("plotly_chart"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", LESSONS)
def test_the_answer_appears_after_the_prediction(open_page: Open, tmp_path: Path, name: str) -> None:
    guess, _, shown = LESSONS[name]
    app = open_page(tmp_path, name)
    assert not app.get("latex") and "Choose an answer" in app.info[0].value
    assert figures(app) + bool(app.image) == 1  # the scene: what there is before anything was trained

    app.radio[0].set_value(guess).run()

    assert not app.exception and figures(app) == shown
    assert "s you predicted:" in words(app) and len(app.get("latex")) > 0
    assert app.query_params["guess"] in (guess, [guess])


@pytest.mark.parametrize("name", rest_slow(LESSONS))
def test_a_link_restores_settings_prediction_and_answer(open_page: Open, tmp_path: Path, name: str) -> None:
    guess, settings, shown = LESSONS[name]

    app = open_page(tmp_path, name, guess=guess, **settings)

    assert app.radio[0].value == guess and figures(app) == shown and not app.warning
    held = {slider.key: f"{slider.value:g}" for slider in app.select_slider}
    held["shape"] = app.selectbox[0].value if app.selectbox else ""
    assert {key: held[key] for key in settings} == settings


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_a_moved_slider_is_answered(open_page: Open, tmp_path: Path, name: str) -> None:
    guess, settings, shown = LESSONS[name]
    app = open_page(tmp_path, name, guess=guess)
    slider = app.select_slider(key=list(settings)[-1])

    slider.set_value(type(slider.value)(settings[slider.key])).run()

    assert not app.exception and figures(app) == shown
    assert f"{slider.value:g}" == settings[slider.key]


def test_a_prediction_holds_for_its_settings_and_can_be_made_again(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "lesson_poison", guess="some")
    app.select_slider(key="poisons").set_value(20).run()  # the question does not depend on it
    assert "s you predicted:" in words(app)

    app.select_slider(key="spread").set_value(0.1).run()
    assert "s you predicted:" not in words(app) and "With these settings:" in words(app)
    app.button[0].click().run()

    assert app.radio[0].value is None and figures(app) == 1 and "guess" not in app.query_params
    app.radio[0].set_value("some").run()
    assert "s you predicted:" in words(app) and figures(app) == 2


def test_a_link_that_asks_for_what_cannot_be_gets_the_usual_value(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "lesson_poison", guess="<script>", poisons="-1", spread="inf")

    assert app.radio[0].value is None and len(app.warning) == 2
    assert {s.key: s.value for s in app.select_slider}["poisons"] == 8


def test_the_index_names_every_lesson_and_the_course_is_in_its_order(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "lessons")

    assert len(app.get("page_link")) == len(COURSE) == 8
    learn = [name for name, _, _ in navigation.PAGES["Learn"]]
    assert learn == ["lessons", *(lesson.name for lesson in COURSE)]
    assert all(lesson.teaches in words(app) for lesson in COURSE)


@pytest.mark.parametrize(
    ("draw", "target", "said", "not_said"),
    [
        ("0", "4", "which hides it.", "Smaller helps"),
        ("3", "1", "Smaller helps you here, too, at a price", "still named"),  # 41 % at 3 x 3, 62 % at 2 x 2
        ("4", "8", "which is still named.", "hides it"),  # 46 % at 8 x 8
    ],
)
def test_what_is_said_of_changed_marks_holds_in_the_draw_that_is_shown(
    open_page: Open, tmp_path: Path, draw: str, target: str, said: str, not_said: str
) -> None:
    app = open_page(tmp_path, "lesson_adaptive", guess="larger", draw=draw, **{"class": target})

    assert said in words(app) and not_said not in words(app)
