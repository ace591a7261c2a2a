"""Three players: a hyperparameter, a learner and an attacker who poisons its data, against the game without him."""

from dataclasses import replace

import streamlit as st

from poisonlab.figures import multilevel as figures
from poisonlab.multilevel.comparison import comparisons
from poisonlab.ui import charts, lesson, multilevel, sweeps
from poisonlab.ui.wording import escape

lesson.begin(
    "multilevel",
    "A regression that learns while somebody moves its training data, beside one that learns undisturbed.",
    "Expecting an enemy costs something on clean data and may pay when inputs turn out noisy; the curves show where.",
)
for column, (name, says, formula) in zip(
    st.columns(3),
    (
        (
            "Hyperparameter",
            "chooses how strongly weights are penalised, judged on untouched validation rows.",
            r"\min_\lambda\; f_1 = \tfrac1a\lVert y_v - X_v\theta\rVert^2",
        ),
        (
            "Attacker",
            "moves the training inputs by P to make the learner's fit worse, and pays for every move.",
            r"\begin{aligned}\max_P\;& \tfrac1n\lVert y-(X+P)\theta\rVert^2\\"
            r"& - \tfrac{c}{nd}\lVert P\rVert^2\end{aligned}",
        ),
        (
            "Learner",
            "fits its weights to the moved data, with the penalty it was given.",
            r"\begin{aligned}\min_\theta\;& \tfrac1n\lVert y-(X+P)\theta\rVert^2\\"
            r"& + \tfrac{e^\lambda}{d}\lVert\theta\rVert_{1,\mu}\end{aligned}",
        ),
    ),
    strict=True,
):
    with column.container(border=True, height="stretch"):
        st.markdown(f"**{name}** {says}")
        st.latex(formula)
st.markdown(
    "**Trilevel** is the game of all three. **Bilevel** is the game without the attacker (P = 0). Each player takes a "
    "few steps of gradient descent, foreseeing those below: a K-step unrolled game, not its exact solution."
)
table = multilevel.choose_table()
settings = multilevel.choose_settings()

guess = lesson.predict(
    f"The trilevel model was trained against an adversary with penalty {settings.penalty:g}. On fresh test rows, will "
    "its mean error be lower than that of the bilevel model?",
    multilevel.GUESSES,
    (table.name, table.target, replace(settings, noise=0.0)),
)
if guess is not None:
    with st.spinner("Playing"):
        played = multilevel.both(table, settings)
    outcomes = [*played["bilevel"].outcomes, *played["trilevel"].outcomes]
    (compared,) = comparisons(outcomes)
    if compared.warning():
        st.warning(escape(compared.warning()))
    if compared.verdict != "diverged":
        lesson.compare(guess, compared.verdict, multilevel.verdict(compared))
    else:
        st.markdown(multilevel.verdict(compared))
    bands = multilevel.bands(outcomes, multilevel.NOISES, paired=False)
    if "trilevel" in bands and "bilevel" in bands:
        left, right = st.columns([3, 2], gap="medium")
        with left:
            charts.show(
                charts.drawn(
                    figures.noise_curves, multilevel.NOISES, bands, settings.noise, compared.crossing
                ),
                key="curves",
                alt="Test error of both models against noise on the test inputs, with intervals over splits",
            )
            st.caption("Lines are means over random splits, shaded 95 % intervals of the mean.")
        with right:
            multilevel.at_noise(outcomes, settings.noise)
        multilevel.ways(table, played)
    lesson.explain(
        r"Noise of deviation $\sigma$ on the inputs adds $\sigma^2$ times the squared length of the weights $\theta$ "
        "to the expected error, so each curve is a parabola, and the model with the shorter weights rises less. Moved "
        "inputs, too, hurt long weights most, so a learner who expects an attacker tends to keep its weights short: it "
        "mostly loses a little on clean inputs, and wins where the noise is large.",
        r"\mathbb{E}\,(y-(x+\sigma z)^\top\theta)^2 = (y-x^\top\theta)^2 + \sigma^2\lVert\theta\rVert^2, "
        r"\qquad z \sim \mathcal{N}(0, I)",
    )

st.subheader("All penalties at once", anchor=False)
all_kept, record = sweeps.kept()
if st.button("Play every penalty from 6 and keep the result", icon=":material/save:"):
    sweeps.keep(table, settings)
if record is not None:
    sweeps.show(record)
sweeps.links(all_kept, record)
st.caption("The same from a shell: `python -m poisonlab multilevel --help`.")
lesson.end("multilevel")
