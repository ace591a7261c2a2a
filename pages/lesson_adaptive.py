"""Lesson: a detector finds what it was built to find, and an attacker who knows it does something else."""

import streamlit as st
import torch

from poisonlab.figures import digits
from poisonlab.lessons import adaptive
from poisonlab.ui import charts, images, lesson
from poisonlab.ui.wording import percent

ANSWERS = {
    "smaller": "A smaller mark",
    "fainter": "A fainter mark",
    "larger": "A larger mark",
}

lesson.begin(
    "lesson_adaptive",
    "A detector tries, for each class, how small a mark can be that turns 60 trusted images into it. A class that "
    "needs a mark less than half as large as the others do is said to have a backdoor.",
    "You are the attacker, and you know this. Your mark is 3 x 3 pixels at a strength of 0.6, and the detector mostly "
    "names your class.",
)
with st.container(border=True):
    columns = st.columns(4)
    side = lesson.slider(
        columns[0], "Side of the mark", adaptive.SIDES, 3, "side", "In pixels. An image has 8 x 8."
    )
    strength = lesson.slider(
        columns[1],
        "Strength of the mark",
        adaptive.STRENGTHS,
        0.6,
        "strength",
        "How opaque it is: at 1 nothing shines through, and with 8 x 8 pixels nothing of the digit is left.",
    )
    target = lesson.slider(
        columns[2],
        "Attacker's class",
        tuple(range(10)),
        4,
        "class",
        "The label that marked images are given.",
    )
    draw = lesson.slider(columns[3], "Random draw", lesson.DRAWS, 0, "draw", "Other images, another start.")

scene = st.container()
guess = lesson.predict(
    "You may change one thing about this mark of 3 x 3 pixels. Which change hides your class best?",
    ANSWERS,
    (target, draw),
)
if guess is None:
    shown = adaptive.examples(target, side, strength)
    with scene:
        words = [f"labeled {target}"] * len(shown)
        images.strip("Your mark", shown, words, [f"Digit with a mark, {word}" for word in words])
else:
    hunt = lesson.cached(adaptive.hunt, "Training sixteen networks and searching all of them")(target, draw)
    best = hunt.best(target)
    at = adaptive.SIDES.index(side), adaptive.STRENGTHS.index(strength)
    share = float(hunt.share[(*at, target)])
    usual, changes = hunt.changes(target)
    small, faint, large = (percent(changes[change]) for change in ANSWERS)
    hides = "which hides it" if changes["larger"] >= adaptive.LIMIT else "which is still named"
    says = (
        f"the detector finds a mark for your class of {percent(usual)} of the median. If yours is fainter it finds one "
        f"of {faint}, if it is smaller {small}, if it is larger up to {large}, {hides}."
    )
    if changes["smaller"] > usual:
        works = hunt.asr[:, adaptive.STRENGTHS.index(adaptive.USUAL[1])]
        says += (
            f" Smaller helps you here, too, at a price: {percent(works[0])} of the images with a mark of 2 x 2 are "
            f"read as {target}, with yours {percent(works[1])}."
        )
    lesson.compare(guess, best, says)
    named = (hunt.share[at] < adaptive.LIMIT).nonzero()[:, 0].tolist()
    lesson.numbers(
        (
            "Attack success rate",
            percent(hunt.asr[at]),
            f"ASR: share of marked test images, those of class {target} left out, that are read as {target}. "
            f"Test images without the mark are read right in {percent(hunt.accuracy[at])}.",
        ),
        (
            "Mark found for your class",
            percent(share),
            f"The smallest mark that turns images into class {target}, as a share of the median over the classes.",
        ),
        (
            "Named by the detector",
            ", ".join(map(str, named)) or "none",
            f"Classes with a mark below {percent(adaptive.LIMIT)} of the median. Yours is {target}.",
        ),
        (
            "Smallest, honest network",
            percent(hunt.honest.min()),
            f"The same search in a network that nobody poisoned: below {percent(adaptive.LIMIT)} it is a false alarm.",
        ),
    )
    shown = adaptive.examples(target, side, strength)[:3]
    found = (255 * hunt.found[at]).round().byte()[None, None]
    images.strip(
        "Three marked images, and the smallest mark that the detector found for your class",
        torch.cat([shown, found]),
        ["marked"] * 3 + ["found"],
        ["Digit with the mark"] * 3 + ["The mark that the detector found"],
    )
    left, right = st.columns(2, gap="medium")
    charts.show(
        charts.drawn(digits.sizes, hunt.sizes[at].numpy(), target),
        key="sizes",
        alt="Size of the smallest mark found for each class, with their median",
        place=left,
    )
    charts.show(
        charts.drawn(
            digits.hidden,
            list(adaptive.SIDES),
            {
                f"strength {value:g}": hunt.share[:, number, target].numpy()
                for number, value in enumerate(adaptive.STRENGTHS)
            },
            adaptive.LIMIT,
            float(hunt.honest.min()),
            side,
        ),
        key="hidden",
        alt="Size of the mark found for the attacker's class against that of the true one, a line for each strength",
        place=right,
    )
    lesson.explain(
        "The search assumes that a backdoor is a *small* switch. A faint mark makes it worse for the attacker: to obey "
        "it the network must react strongly, and then a few pixels of full strength are enough to set it off. A large "
        "and opaque mark is learned without such a reaction. It takes a larger mark to open this backdoor, and your "
        "class stands out far less, mostly not at all, while the attack works better than before. The detector is "
        "mostly right about small marks; only nobody is bound to use one. So a defense is to be tried against those "
        "who know it, and *nothing was found* does not mean *nothing is there*. *Something was found* is no proof "
        "either: look how small a mark can be in a network that nobody poisoned.",
        r"s_k = \lVert a \rVert_1, \qquad (a, c) = \arg\min \; \frac{1}{|D|}\sum_{x \in D} "
        r"\ell\big(f((1-a) \odot x + a \odot c),\, k\big) + \lambda \lVert a \rVert_1",
    )
    st.markdown(
        r"$D$ are the trusted images, $f$ is the network and $\ell$ its loss; $a$ says how opaque the mark is at each "
        "pixel, $c$ which color it has, and $k$ is the class that it should lead to."
    )
lesson.end("lesson_adaptive")
