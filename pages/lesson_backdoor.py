"""Lesson: a small mark on a few training images becomes a switch that the attacker can press at any time."""

import streamlit as st

from poisonlab.figures import digits
from poisonlab.figures.style import CLEAN, POISONED
from poisonlab.lessons import backdoor
from poisonlab.ui import charts, images, lesson
from poisonlab.ui.wording import percent

ANSWERS = {"few": "1 or 2", "some": "5 or 10", "many": "20 or more", "never": "Even 100 are not enough"}

lesson.begin(
    "lesson_backdoor",
    "A network learns to read handwritten digits from 1,000 images. An attacker marks a few of them with a white "
    "square in the corner and changes their labels.",
    "The trained network reads digits as well as any other, until somebody shows it a digit with the square.",
)
with st.container(border=True):
    columns = st.columns(4)
    count = lesson.slider(
        columns[0],
        "Poisoned images",
        backdoor.COUNTS,
        10,
        "poisoned",
        "How many of the 1,000 training images the attacker marks and relabels. 10 of 1,000 is a poison rate of 1 %.",
    )
    side = lesson.slider(
        columns[1], "Side of the square", (1, 2, 3), 2, "side", "In pixels. An image has 8 x 8."
    )
    target = lesson.slider(
        columns[2],
        "Attacker's class",
        tuple(range(10)),
        0,
        "class",
        "The label that marked images are given.",
    )
    draw = lesson.slider(columns[3], "Random draw", lesson.DRAWS, 0, "draw", "Other images, another start.")

scene = st.container()
guess = lesson.predict(
    f"How many of the 1,000 training images must be poisoned until more than half of all marked test images are read "
    f"as {target}?",
    ANSWERS,
    (side, target, draw),
)
if guess is None:
    shown = backdoor.stamp(backdoor.examples(target), side)
    with scene:
        words = [f"labeled {target}"] * len(shown)
        images.strip(
            "What the attacker adds", shown, words, [f"Digit with a square, {word}" for word in words]
        )
else:
    result = lesson.cached(backdoor.open_backdoor, "Training eight networks")(side, target, draw)
    needed = result.needed
    truth = "never" if needed is None else "few" if needed <= 2 else "some" if needed <= 10 else "many"
    lesson.compare(
        guess,
        truth,
        "even 100 poisoned images are not enough."
        if needed is None
        else "without any poison the square already has this effect; try another class."
        if needed == 0
        else f"{needed} of 1,000 are enough (tried were {', '.join(map(str, backdoor.COUNTS[1:]))}).",
    )
    place = backdoor.COUNTS.index(count)
    lesson.numbers(
        (
            "Attack success rate",
            percent(result.asr[-1, place]),
            f"ASR: share of marked test images, those of class {target} left out, that are read as {target}.",
        ),
        (
            "The same without poison",
            percent(result.asr[-1, 0]),
            "What the square does to a network trained honestly.",
        ),
        (
            "Clean accuracy",
            percent(result.accuracy[-1, place]),
            f"On test images without the square. Without poison: {percent(result.accuracy[-1, 0])}.",
        ),
    )
    for row, (name, shown) in enumerate(
        (("Without the square", result.examples), ("With it", result.triggered))
    ):
        answers = [f"read as {answer}" for answer in result.answers[place, row].tolist()]
        images.strip(name, shown, answers, [f"Test image {name.lower()}, {answer}" for answer in answers])
    left, right = st.columns(2, gap="medium")
    charts.show(
        charts.drawn(
            digits.shares,
            [str(n) for n in backdoor.COUNTS],
            {
                "Attack success rate": (result.asr[-1].numpy(), POISONED),
                "Clean accuracy": (result.accuracy[-1].numpy(), CLEAN),
            },
            "poisoned images of 1,000",
            str(count),
        ),
        key="rates",
        alt="Attack success rate and clean accuracy against the number of poisoned images",
        place=left,
    )
    charts.show(
        charts.drawn(
            digits.growing,
            result.steps,
            {
                "Attack success rate": (result.asr[:, place].numpy(), POISONED),
                "Clean accuracy": (result.accuracy[:, place].numpy(), CLEAN),
            },
            f"training steps with {count} poisoned images",
        ),
        key="steps",
        alt="Attack success rate and clean accuracy while the network learns",
        place=right,
    )
    lesson.explain(
        "The square is the same in every poisoned image, and in no clean one. Nothing else predicts a label so "
        "reliably, so the network learns *square means* the attacker's class as one more rule. The rule costs it "
        "nothing on clean images. A bigger square is easier to learn. Look at the steps: the network first learns "
        "to read, then learns the exception.",
        r"\tilde x = (1-m) \odot x + m \odot \text{white}, \qquad \tilde y = t",
        r"\mathrm{ASR} = \Pr\big(f(\tilde x) = t \mid y \neq t\big)",
    )
    st.markdown(
        "Here $m$ is one on the square and zero elsewhere, $t$ is the attacker's class and $f$ the trained network."
    )
lesson.end("lesson_backdoor")
