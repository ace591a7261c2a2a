"""Lesson: a few wrong points move the boundary of a network at one place and leave the rest as it was."""

import streamlit as st

from poisonlab.figures import digits, plane
from poisonlab.figures.style import CLEAN, POISONED
from poisonlab.lessons import planting
from poisonlab.lessons.plane import axis
from poisonlab.ui import charts, lesson
from poisonlab.ui.wording import percent

ANSWERS = {"few": "1 to 3", "some": "5 to 12", "many": "20 to 40", "never": "Even 40 are not enough"}

lesson.begin(
    "lesson_poison",
    "A network learns to tell two clouds of points apart. An attacker may add a few points of their own choice to "
    "the training set, with labels of their own choice.",
    "They want one place, the star, to be taken for class 1. Nobody should notice: on all other points the network "
    "should be as good as before.",
)
with st.container(border=True):
    columns = st.columns(3)
    budget = lesson.slider(
        columns[0],
        "Poisons",
        planting.BUDGETS,
        8,
        "poisons",
        "How many points the attacker adds to the 200 clean ones. This is the attacker's budget.",
    )
    spread = lesson.slider(
        columns[1],
        "Spread of the poisons",
        (0.1, 0.2, 0.3, 0.45, 0.6),
        0.3,
        "spread",
        "Standard deviation of the poisons around the star. The clouds themselves have 0.6.",
    )
    draw = lesson.slider(columns[2], "Random draw", lesson.DRAWS, 0, "draw", "Other points, another start.")

scene = st.container()
guess = lesson.predict(
    f"The star lies among 100 clean points of class 0. With a spread of {spread:g}, how many poisons does it take "
    "until the network gives it to class 1?",
    ANSWERS,
    (spread, draw),
)
if guess is None:
    train, _ = planting.clean_points(draw)
    charts.show(
        charts.drawn(
            plane.scene,
            (train.x.numpy(), train.y.numpy()),
            planting.place(spread, draw)[:budget].numpy(),
            planting.TARGET,
            float(axis()[-1]),
        ),
        key="scene",
        alt="The clean points of both classes, the star among those of class 0, and the poisons around it",
        place=scene,
    )
else:
    planted = lesson.cached(planting.plant, "Training ten networks")(spread, draw)
    needed = planted.needed
    truth = "never" if needed is None else "few" if needed <= 3 else "some" if needed <= 12 else "many"
    lesson.compare(
        guess,
        truth,
        "even 40 poisons are not enough."
        if needed is None
        else f"it takes {needed} of them (tried were {', '.join(map(str, planting.BUDGETS[1:]))}).",
    )
    place = planting.BUDGETS.index(budget)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        charts.show(
            charts.drawn(
                plane.boundaries,
                axis().numpy(),
                {
                    "boundary without": planted.landscapes[:, 0].numpy(),
                    f"with {budget} poisons": planted.landscapes[:, place].numpy(),
                },
                planted.steps,
                (planted.train.x.numpy(), planted.train.y.numpy()),
                planted.poisons[:budget].numpy(),
                planting.TARGET,
            ),
            key="boundaries",
            alt="The points, the poisons, and the boundaries of the networks trained with and without them",
        )
        st.caption("Play shows both networks while they learn. They start from the same random weights.")
    with right:
        lesson.numbers(
            (
                "Star as class 1",
                percent(planted.target[-1, place]),
                "The probability that the network gives; above one half, the attacker has won.",
            ),
            (
                "Test accuracy",
                percent(planted.accuracy[place]),
                f"On 1,000 clean points that were not trained on. Without poison: {percent(planted.accuracy[0])}.",
            ),
        )
        charts.show(
            charts.drawn(
                digits.shares,
                [str(b) for b in planting.BUDGETS],
                {
                    "Star as class 1": (planted.target[-1].numpy(), POISONED),
                    "Test accuracy": (planted.accuracy.numpy(), CLEAN),
                },
                "poisons",
                str(budget),
            ),
            key="budgets",
            alt="Probability of class 1 at the star, and test accuracy, against the number of poisons",
        )
    lesson.explain(
        "Training makes the mean loss over all points small, and it does not ask where a point came from. Near the "
        "star there are few clean points. A few poisons outvote them *there*. The closer the poisons lie together, "
        "the fewer are needed and the smaller is the dent in the boundary. Accuracy counts the clean points "
        "everywhere, so it hardly sees the dent: **a good accuracy does not say that nobody tampered with the data.**",
        r"\min_\theta \; \frac{1}{n+b}\Big(\sum_{i=1}^{n} \ell(x_i, y_i; \theta) "
        r"+ \sum_{j=1}^{b} \ell(\tilde x_j, \text{class 1}; \theta)\Big)",
    )
    st.markdown(
        r"Here $\ell$ is the loss of one point, the $n$ points are clean, and the budget $b$ counts the poisons."
    )
lesson.end("lesson_poison")
