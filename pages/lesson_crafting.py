"""Lesson: points with right labels can be moved so that training on them goes where the attacker wants."""

import streamlit as st

from poisonlab.figures import digits, plane
from poisonlab.figures.style import CATEGORICAL
from poisonlab.lessons import crafting
from poisonlab.lessons.plane import axis
from poisonlab.ui import charts, lesson

ANSWERS = {"none": "None of the 8", "some": "1 to 7 of the 8", "all": "All 8"}
NAMES = {
    "clean": "not moved",
    "random": "moved at random",
    "collision": "moved straight at the star",
    "crafted": "crafted",
}

lesson.begin(
    "lesson_crafting",
    "This attacker may not change any label. They may only move some points of class 1, each by a little.",
    "They let small networks train, look a few steps ahead, and ask: which way should my points move so that "
    "*training* takes the star for class 1? The star itself is never trained on.",
)
with st.container(border=True):
    columns = st.columns(3)
    eps = lesson.slider(
        columns[0],
        "Budget of a move",
        (0.2, 0.4, 0.6, 0.8, 1.0),
        0.8,
        "eps",
        "ε: how far each coordinate of a point may move. The clouds have a standard deviation of 0.6.",
    )
    poisons = lesson.slider(
        columns[1],
        "Points that may move",
        (10, 20, 40, 60, 80),
        60,
        "moved",
        "Of 100 points of class 1, and 200 in all.",
    )
    draw = lesson.slider(columns[2], "Random draw", lesson.DRAWS, 0, "draw", "Other points, other networks.")

scene = st.container()
guess = lesson.predict(
    f"{poisons} points of class 1 may move by {eps:g} along each axis. Then 8 new networks are trained, from starts "
    "that the attacker has never seen. How many will give the star to class 1?",
    ANSWERS,
    (eps, poisons, draw),
)
if guess is None:
    clean, movable = crafting.clean_points(poisons, draw)
    charts.show(
        charts.drawn(
            plane.reach,
            (clean.x.numpy(), clean.y.numpy()),
            clean.x[movable].numpy(),
            crafting.TARGET,
            eps,
            float(axis()[-1]),
        ),
        key="scene",
        alt="The points of both classes, those that may be moved, how far one of them may go, and the star",
        place=scene,
    )
else:
    crafted = lesson.cached(crafting.craft, "Crafting, then training 32 networks")(eps, poisons, draw)
    fooled = [round(crafting.VICTIMS * share) for share in crafted.success.tolist()]
    truth = "none" if fooled[-1] == 0 else "all" if fooled[-1] == crafting.VICTIMS else "some"
    counts = dict(zip(crafting.WAYS, fooled, strict=True))
    lesson.compare(
        guess,
        truth,
        f"{counts['crafted']} of 8 are fooled by the crafted points. Without any move it is {counts['clean']}, with "
        f"random moves of the same budget {counts['random']}, with every point moved straight at the star "
        f"{counts['collision']}.",
    )
    left, right = st.columns(2, gap="medium")
    with left:
        charts.show(
            charts.drawn(
                plane.arrows,
                (crafted.points.x.numpy(), crafted.points.y.numpy()),
                crafted.points.x[crafted.rows].numpy(),
                crafted.moves.numpy(),
                crafting.TARGET,
                axis().numpy(),
                {
                    "clean boundary": crafted.landscapes[0].numpy(),
                    "after crafting": crafted.landscapes[-1].numpy(),
                },
            ),
            key="arrows",
            alt="Arrows from each movable point to where crafting has put it, and both boundaries",
        )
        st.caption(
            "Play shows the moves after each crafting step; step 0 is a random start within the budget."
        )
    with right:
        charts.show(
            charts.drawn(
                plane.paths,
                {
                    "clean training": crafted.paths[0].numpy(),
                    "training on crafted points": crafted.paths[1].numpy(),
                },
                crafted.map_axes.numpy(),
                crafted.loss_map.numpy(),
            ),
            key="paths",
            alt="The weights of one network on clean and on crafted points, over a map of the adversarial loss",
        )
        st.caption(
            "One network, trained twice from the same start. Its 1,218 weights are seen in the plane in which the two "
            "paths spread most; dark is where the star is given to class 1. Crafting bends the path there."
        )
    history = crafted.adversarial.mean(1).numpy()
    epochs = list(range(0, crafting.VICTIM_EPOCHS + 1, 2))
    charts.show(
        charts.drawn(
            digits.shares,
            [str(epoch) for epoch in epochs],
            {
                NAMES[way]: (history[number, epochs], CATEGORICAL[(6, 4, 3, 1)[number]])
                for number, way in enumerate(crafting.WAYS)
            },
            "epochs of the new networks",
            ytitle="star as class 1, mean percent",
        ),
        key="epochs",
        alt="Probability of class 1 at the star against the epochs, for four ways to move the points",
    )
    lesson.explain(
        "The goal stands on top: the star should have a small loss with the attacker's label. It depends on the moves "
        "Δ only *through training*. Nobody can train to the end for every tiny move, so MetaPoison trains K = 2 steps "
        "ahead and differentiates through them. It does so for 12 networks of different ages at once, because a victim "
        "passes through all ages.",
        r"\min_{\Delta} \; \frac1K \sum_{k=1}^{K} L_{\mathrm{adv}}\big(x_\star, \text{class 1}; "
        r"\theta_k(\Delta)\big), \qquad \theta_1 = \theta_0 - \eta \nabla L_{\mathrm{train}}(\theta_0; X + \Delta), "
        r"\qquad |\Delta_{ij}| \le \varepsilon",
    )
    st.markdown(
        r"Here $x_\star$ is the star, $X + \Delta$ the moved points, $\eta$ the learning rate. The first step, "
        r"from $\theta_0$ to $\theta_1$, trains on the moved points; the steps after it on other batches."
        "\n\n"
        "**Be fair to the simple way.** In the plane everybody sees the direction to the star, so moving straight at "
        "it (a *collision*) works as well as crafting, or better. What is remarkable is that crafting *finds* "
        "the direction without being told. The paper is about photographs that change too little to be seen, where the "
        "right direction is not obvious at all."
    )
lesson.end("lesson_crafting")
