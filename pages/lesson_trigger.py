"""Lesson: a defender searches for what fools the model, and turns down what reacts to it."""

import streamlit as st
import torch

from poisonlab.figures import digits
from poisonlab.lessons import masking
from poisonlab.ui import charts, images, lesson
from poisonlab.ui.wording import percent

ANSWERS = {
    "yes": "Yes, more than half of it",
    "part": "Partly, a quarter to a half",
    "no": "No, less than a quarter",
}
SHOWN = 10

lesson.begin(
    "lesson_trigger",
    "You are given a trained network that reads digits, and 30 clean images. It may hide a backdoor: a mark that "
    "makes it read everything as one class. You know neither the mark nor the class.",
    "Adversarial weight masking works in rounds: search for one pattern that changes the network's mind on all your "
    "images, then turn down the weights that react to it, then search again.",
)
with st.container(border=True):
    columns = st.columns(4)
    patch = lesson.slider(
        columns[0],
        "Side of the attacker's square",
        (2, 3),
        3,
        "patch",
        "In pixels, in the lower right corner. 80 of 1,000 training images wore it. The defender does not know.",
    )
    budget = lesson.slider(
        columns[1],
        "Size of the pattern",
        (5.0, 10.0, 20.0, 30.0),
        20.0,
        "size",
        "τ: the sum of all changes in the recovered pattern, in white pixels.",
    )
    alpha = lesson.slider(
        columns[2],
        "Weight of clean images",
        (0.5, 0.8, 0.9, 0.95, 0.99),
        0.9,
        "alpha",
        "α: how much right answers on clean images count; the rest counts right answers under the pattern.",
    )
    draw = lesson.slider(
        columns[3], "Random draw", lesson.DRAWS, 0, "draw", "Another network, other clean images."
    )

scene = st.container()
guess = lesson.predict(
    f"The attacker's square covers {patch * patch} of 64 pixels. Will the pattern recovered in the first round lie "
    "where the square is? (Spread evenly, "
    f"{percent(patch * patch / 64)} of it would.)",
    ANSWERS,
    (patch, budget, alpha, draw),
)
if guess is None:
    trusted = masking.trusted_images(draw)
    labels = [f"label {label}" for label in trusted.y[:SHOWN].tolist()]
    with scene:
        images.strip(
            "Ten of your 30 clean images", trusted.x[:SHOWN], labels, [f"Digit, {word}" for word in labels]
        )
        st.caption("None of them wears the mark. What else could you find out about the network with these?")
else:
    loop = lesson.cached(masking.recover_and_mask, "Training a network and masking it")(
        patch, budget, alpha, draw
    )
    inside = loop.inside[0]
    fooled = loop.rounds[0].answers
    lesson.compare(
        guess,
        "yes" if inside > 0.5 else "part" if inside >= 0.25 else "no",
        f"{percent(inside)} of the first pattern lies there. With it, {int(fooled.max())} of the 30 clean images are "
        f"read as {int(fooled.argmax())}; the attacker's class is {masking.TARGET}.",
    )
    clean = torch.tensor([loop.before[0], *(r.clean_accuracy for r in loop.rounds)])
    asr = torch.tensor([loop.before[1], *(r.asr for r in loop.rounds)])
    lesson.numbers(
        (
            "ASR before",
            percent(asr[0]),
            "Attack success rate: marked test images read as the attacker's class.",
        ),
        ("ASR after 10 rounds", percent(asr[-1]), "Lower is better."),
        ("Clean accuracy before", percent(clean[0]), "On test images without a mark."),
        ("Clean accuracy after", percent(clean[-1]), "What the repair costs."),
    )
    left, right = st.columns([2, 3], gap="medium")
    with left:
        charts.show(
            charts.drawn(digits.patterns, torch.stack([r.trigger for r in loop.rounds]).numpy(), patch),
            key="patterns",
            alt="The pattern recovered in each round, with a frame around the place of the attacker's square",
        )
        st.caption(
            "What is added to an image, first in round 1: red brightens, blue darkens. The black frame is the "
            "attacker's square. Step shows the next round."
        )
    with right:
        charts.show(
            charts.drawn(digits.rounds, clean.numpy(), asr.numpy()),
            key="rounds",
            alt="Clean accuracy and attack success rate after each round",
        )
        off = float((loop.rounds[-1].masks < 0.5).float().mean())
        st.caption(
            f"After 10 rounds {percent(off)} of the {len(loop.rounds[-1].masks):,} weights in convolutions are turned "
            "down to less than half."
        )
    lesson.explain(
        "A backdoor is a shortcut: a small change that moves every image to one class. So a search for *any* small "
        "change that fools the network often runs into it. Not always: every network has other weak spots, and a "
        "pattern that leads to another class than the attacker's is one of those. Masking a weak spot makes the "
        "network more robust in general, and the backdoor fades with it. Weights that clean images need are protected "
        "by the first term. With a larger pattern, or a smaller α, the backdoor mostly goes sooner, and accuracy "
        "suffers.",
        r"\min_{m \in [0,1]} \; \alpha\, L\big(f(x;\, m \odot \theta),\, y\big) + (1-\alpha) "
        r"\max_{\lVert \Delta \rVert_1 \le \tau} L\big(f(x + \Delta;\, m \odot \theta),\, y\big)",
    )
    st.markdown(
        r"Each weight $\theta$ of a convolution has one mask $m$ between 0 and 1; $\Delta$ is the pattern, the same "
        r"for all images, and $L$ the loss of the network $f$ on clean images $x$ with labels $y$. As in the paper, "
        r"$\Delta$ is searched for against the network's own answers, and the masks are learned with the true labels. "
        "A very small term that shrinks the masks is left out here."
    )
lesson.end("lesson_trigger")
