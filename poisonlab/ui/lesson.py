"""The frame of a lesson: its place in the course, a question, the reader's prediction, what happens, the paper."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from poisonlab.ui import link, navigation, page

DRAWS = tuple(range(5))  # seeds that a reader may try


@dataclass(frozen=True)
class Lesson:
    """``name`` is that of its page; ``teaches`` one sentence; ``paper`` is where the idea comes from."""

    name: str
    teaches: str
    minutes: int
    paper: str


COURSE = (
    Lesson(
        "lesson_poison",
        "A few wrong points move the boundary of a network at one place and leave the rest as it was.",
        5,
        "B. Biggio, B. Nelson, P. Laskov: *Poisoning Attacks against Support Vector Machines*, ICML 2012 "
        "(arXiv 1206.6389), for the idea; the points here are placed by hand, not optimized as in that paper.",
    ),
    Lesson(
        "lesson_backdoor",
        "A small mark on a few training images becomes a switch that the attacker can press at any time.",
        5,
        "T. Gu, B. Dolan-Gavitt, S. Garg: *BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply "
        "Chain*, 2017 (arXiv 1708.06733).",
    ),
    Lesson(
        "lesson_crafting",
        "Points with right labels can be moved so that training on them goes where the attacker wants.",
        10,
        "W. R. Huang, J. Geiping, L. Fowl, G. Taylor, T. Goldstein: *MetaPoison: Practical General-purpose Clean-label "
        "Data Poisoning*, NeurIPS 2020 (arXiv 2004.00225).",
    ),
    Lesson(
        "lesson_langevin",
        "A network can learn where data lies, and a noisy walk downhill carries moved points back there.",
        10,
        "S. Bhat, J. Jiang, O. Pooladzandi, A. Branch, G. Pottie: *PureGen: Universal Data Purification for Train-Time "
        "Poison Defense via Generative Model Dynamics*, NeurIPS 2024 (arXiv 2405.18627).",
    ),
    Lesson(
        "lesson_trigger",
        "A defender with thirty clean images searches for what fools the model, and turns down what reacts to it.",
        8,
        "S. Chai, J. Chen: *One-shot Neural Backdoor Erasing via Adversarial Weight Masking*, NeurIPS 2022 "
        "(arXiv 2207.04497).",
    ),
    Lesson(
        "multilevel",
        "Learning against an adversary is a game of three: each player foresees those below.",
        10,
        "R. Sato, M. Tanaka, A. Takeda: *A Gradient Method for Multilevel Optimization*, NeurIPS 2021 "
        "(arXiv 2105.13954).",
    ),
    Lesson(
        "lesson_cleaning",
        "What a detector flags is not all bad: sorting it beats throwing it away.",
        8,
        "Inspired by L. K. Huang, P. Zhao, J. Huang, S. J. Pan: *Retaining Beneficial Information from Detrimental "
        "Data for Neural Network Repair*, NeurIPS 2023; the algorithm here is ours. The score is that of R. Tanno et "
        "al.: *Repairing Neural Networks by Leaving the Right Past Behind*, NeurIPS 2022 (arXiv 2207.04806), with "
        "trusted images in the place of known failures.",
    ),
    Lesson(
        "lesson_adaptive",
        "A detector finds what it was built to find, and an attacker who knows it does something else.",
        8,
        "B. Wang et al.: *Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks*, IEEE S&P "
        "2019, for the search; F. Tramèr, N. Carlini, W. Brendel, A. Madry: *On Adaptive Attacks to Adversarial "
        "Example Defenses*, NeurIPS 2020 (arXiv 2002.08347), for trying a defense against those who know it.",
    ),
)


def begin(name: str, sees: str, matters: str) -> None:
    """The title of a lesson, two sentences, and where in the course it stands."""
    place = _place(name)
    page.header(navigation.title(name), sees, matters)
    st.caption(f"Lesson {place + 1} of {len(COURSE)} · about {COURSE[place].minutes} minutes")


def slider(
    place: Any,
    label: str,
    options: tuple[Any, ...],
    usual: Any,
    key: str,
    help: str,
    shown: Callable[[Any], str] = "{:g}".format,
) -> Any:
    """One of a few values, kept in the URL; a link that asks for another gets the usual one, and a hint."""
    known = [shown(option) for option in options]
    link.hint_choice(key, label.lower(), known)
    if st.query_params.get(key, known[0]) not in known:
        st.query_params.pop(key, None)
    return place.select_slider(
        label, options, value=usual, key=key, bind="query-params", format_func=shown, help=help
    )


@dataclass(frozen=True)
class Guess:
    """``answer`` is a key of the answers and ``said`` its words; ``here`` is false once the settings are others."""

    answer: str
    said: str
    here: bool


def predict(question: str, answers: Mapping[str, str], about: tuple[Any, ...]) -> Guess | None:
    """The reader's answer, kept in the URL; ``None``, and a hint, before there is one.

    Args:
        answers: key -> words.
        about: the settings that the answer depends on. A prediction holds for those at which it was made.
    """
    st.subheader("Predict first", anchor=False)
    asked, number = link.read("guess")
    keys = list(answers)
    before = keys.index(asked[0]) if asked and asked[0] in keys else None
    guess = st.radio(
        question,
        keys,
        index=before,
        format_func=lambda name: answers[name],
        key=f"guess_{number}",
        horizontal=True,
    )
    link.write("guess", [guess] if guess else [])
    if guess is None:
        st.info("Choose an answer to see what happens. Then move the sliders.")
        return None
    made = (tuple(keys), number, guess)
    if st.session_state.get("lesson_made") != made:
        st.session_state["lesson_made"] = made
        st.session_state["lesson_about"] = about
    return Guess(guess, answers[guess], st.session_state["lesson_about"] == about)


def compare(guess: Guess, truth: str, says: str) -> None:
    """Whether the prediction came true, and what happened; once the settings are others, what happens now."""
    if guess.here:
        st.markdown(f"**{'As you predicted:' if guess.answer == truth else 'Not as you predicted:'}** {says}")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**With these settings:** {says} You predicted *{guess.said.lower()}* for others.")
        st.button(
            "Predict again",
            on_click=_forget,
            help="Hides the answer for the settings that you have chosen now.",
        )


def _forget() -> None:
    """The next run asks anew: without its parameter and under a new key the question has no answer yet."""
    st.query_params.pop("guess", None)
    st.session_state["written_guess"] = None


def numbers(*shown: tuple[str, str, str]) -> None:
    """Numbers in a row: what each is called, what it is, and what that means."""
    for column, (name, value, help) in zip(st.columns(len(shown)), shown, strict=True):
        column.metric(name, value, help=help, border=True)


def explain(words: str, *formulas: str) -> None:
    """Why, in words and as a formula."""
    st.subheader("Why", anchor=False)
    st.markdown(words)
    for formula in formulas:
        st.latex(formula)


def end(name: str) -> None:
    """The paper, and the way on."""
    place = _place(name)
    st.caption(f"Paper: {COURSE[place].paper}")
    with st.container(horizontal=True):
        navigation.link("lessons", "All lessons")
        if place + 1 < len(COURSE):
            following = COURSE[place + 1].name
            navigation.link(following, f"Next lesson: {navigation.title(following)}")


def cached(function: Callable[..., Any], doing: str) -> Callable[..., Any]:
    """The function with a memory that all readers share: a setting that was seen before is answered at once."""
    return st.cache_resource(max_entries=32, show_spinner=doing)(function)


def index() -> None:
    """All lessons with what each teaches."""
    for number, lesson in enumerate(COURSE, 1):
        with st.container(border=True):
            navigation.link(lesson.name, f"{number}. {navigation.title(lesson.name)}")
            st.markdown(f"{lesson.teaches} About {lesson.minutes} minutes.")


def _place(name: str) -> int:
    return next(number for number, lesson in enumerate(COURSE) if lesson.name == name)
