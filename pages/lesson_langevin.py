"""Lesson: a network learns where data lies, and a noisy walk downhill carries moved points back there."""

import streamlit as st

from poisonlab.figures import plane
from poisonlab.generative.langevin import LangevinConfig
from poisonlab.lessons import energy
from poisonlab.lessons.plane import axis
from poisonlab.ui import charts, lesson, link

ANSWERS = {
    "soon": "Within 10 steps",
    "later": "After 11 to 50",
    "late": "After more than 50",
    "never": "Not at all",
}
MOMENTS = 21  # of the animation

lesson.begin(
    "lesson_langevin",
    "A network learns an energy: low where data lies, high elsewhere. Then points that a poison has pushed away from "
    "the data walk downhill, with a bit of noise at every step.",
    "This is how PureGen cleans training images without knowing the attack: it walks every image, poisoned or not, "
    "and what the poison added gets lost on the way.",
)
with st.container(border=True):
    columns = st.columns(5)
    shape = link.choice(
        columns[0], "Data", energy.SHAPES, str, key="shape", help="What the energy is learned from."
    )
    steps = lesson.slider(
        columns[1], "Steps", (20, 50, 100, 200), 100, "walk", "T: how many steps a point walks."
    )
    noise = lesson.slider(
        columns[2],
        "Step size",
        (0.02, 0.05, 0.1, 0.2),
        0.1,
        "stride",
        "ε: standard deviation of the noise in a step. The way downhill grows with its square.",
    )
    temperature = lesson.slider(
        columns[3],
        "Temperature",
        (0.01, 0.03, 0.1, 0.3, 1.0),
        0.1,
        "heat",
        "τ: how little the energy counts against the noise. The energy was learned at 0.1.",
    )
    draw = lesson.slider(columns[4], "Random draw", lesson.DRAWS, 0, "draw", "Other data, another network.")

scene = st.container()
guess = lesson.predict(
    f"Each point is pushed outwards by {energy.POISON}. With step size {noise:g} and temperature {temperature:g}: when "
    "will the poisoned points be about as near to the data as their clean twins, which walk too?",
    ANSWERS,
    (shape, noise, temperature, steps, draw),
)
if guess is None:
    data = energy.draw(shape, draw)
    clean = data[: energy.CHAINS]
    charts.show(
        charts.drawn(
            plane.twins, data[:200].numpy(), clean.numpy(), energy.poisoned(clean).numpy(), energy.SIDE
        ),
        key="scene",
        alt="The data, and the points that will walk, each joined with its poisoned twin",
        place=scene,
    )
else:
    learned = lesson.cached(energy.learn, "Learning the energy")(shape, draw)
    walks = energy.walk(learned, noise, temperature, steps, draw)
    returned = walks.returned
    truth = (
        "never" if returned is None else "soon" if returned <= 10 else "later" if returned <= 50 else "late"
    )
    lesson.compare(
        guess,
        truth,
        f"not within {steps} steps."
        if returned is None
        else f"after {returned} step{'s' if returned != 1 else ''} (their mean distance is then at most a quarter "
        "larger than that of the twins).",
    )
    lesson.numbers(
        (
            "Poisoned, distance to the data",
            f"{walks.distances[1, -1]:.2f}",
            f"At the end, on average, to the nearest data point. It was {walks.distances[1, 0]:.2f} at the start.",
        ),
        (
            "Clean, distance to the data",
            f"{walks.distances[0, -1]:.2f}",
            "The price: clean points walk as well, and noise moves them. At the start it was 0.",
        ),
        (
            "Between the twins",
            f"{walks.apart[-1]:.2f}",
            f"Mean distance of a poisoned point and its clean twin at the end. It was {walks.apart[0]:.2f}. Near 0, "
            "nobody can tell any more which of the two was poisoned.",
        ),
    )
    left, right = st.columns(2, gap="medium")
    places = axis(energy.SIDE, energy.CELLS).numpy()
    with left:
        kept = sorted({round(steps * k / (MOMENTS - 1)) for k in range(MOMENTS)})
        charts.show(
            charts.drawn(
                plane.walks,
                places,
                learned.maps[-1].numpy(),
                walks.clean[kept].numpy(),
                walks.poisoned[kept].numpy(),
                kept,
            ),
            key="walks",
            alt="Clean and poisoned points walking over the energy landscape",
        )
        st.caption("Press Play. A thin line joins a poisoned point with its clean twin.")
    with right:
        charts.show(
            charts.drawn(
                plane.landscape_learned,
                places,
                learned.maps.numpy(),
                learned.data[:200].numpy(),
                learned.walkers.numpy(),
                learned.updates,
            ),
            key="learned",
            alt="The energy while it is learned, with the data and the walkers that teach it",
        )
        st.caption("How the energy was learned: lowered at the data, raised where its own walkers go.")
    left, right = st.columns(2, gap="medium")
    charts.show(
        charts.drawn(
            plane.falling,
            {
                "clean": walks.distances[0].numpy(),
                "poisoned": walks.distances[1].numpy(),
                "twins": walks.apart.numpy(),
            },
            "Langevin step",
            "distance",
            returned,
        ),
        key="distances",
        alt="Mean distance to the data of clean and poisoned points, and between twins, against the step",
        place=left,
    )
    charts.show(
        charts.drawn(
            plane.falling,
            {"clean": walks.energies[0].numpy(), "poisoned": walks.energies[1].numpy()},
            "Langevin step",
            "energy",
        ),
        key="energies",
        alt="Mean energy of clean and poisoned points against the step",
        place=right,
    )
    scale = LangevinConfig(noise=noise, temperature=temperature).gradient_scale
    lesson.explain(
        f"Each step goes downhill, by {scale:.3g} times the slope of the energy, and adds noise. The pull brings "
        "points back to the data. The noise makes them forget where they started. A low temperature pulls hard: "
        "points fall into the nearest valley, and clean ones are pushed to its bottom. A high temperature lets the "
        "noise win: all points spread, and the clean ones suffer. A step that is too large jumps over the valley. Too "
        "few steps leave the poison in, too many cost clean data.",
        r"x_{k+1} = x_k - \frac{\varepsilon^2}{2\tau} \nabla E(x_k) + \varepsilon\, \xi_k, \qquad "
        r"\xi_k \sim \mathcal{N}(0, I)",
        r"\min_\theta \; \frac1n \sum_{\text{data}} E_\theta(x) - \frac1n \sum_{\text{walkers}} E_\theta(x)",
    )
    st.markdown(
        r"Here $E_\theta$ is the energy, $\varepsilon$ the step size, $\tau$ the temperature and $\xi$ the noise. "
        "A very small term on squared energies keeps their level fixed; only differences mean something. The page "
        "*Langevin* shows the same walk on images."
    )
lesson.end("lesson_langevin")
