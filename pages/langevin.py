"""Langevin: the walk that purifies an image, step by step; a diffusion model's way into noise and back, too."""

import streamlit as st

from poisonlab.figures import purification as figures
from poisonlab.ui import glossary, page, selector
from poisonlab.ui.images import strip

page.header(
    "Langevin",
    "Noisy walks, downhill in energy or into noise and back, from clean images and from their poisoned versions.",
    "One walk too short leaves the poison in, one too long makes another image: the art is where to stop.",
)
record = selector.choose_run("langevin", "Here you would follow the walk that purifies an image.", page.TARGETED_DEMO)
if record is None:
    st.stop()
page.headline(record.metrics)
trace = page.load(record, "LangevinTrace").get("LangevinTrace")
if trace is None:
    st.info("The chains of this run cannot be read; its numbers are above.")
    page.reproduce(record)
    st.stop()

used = trace.used if trace.used >= 0 else getattr(record.spec.defense.params, "steps", None)
has_energy = bool(trace.clean_energy.isfinite().any())


@st.fragment  # moving the slider redraws only what depends on the step
def walk() -> None:
    steps = trace.steps.tolist()
    nearest = min(range(len(steps)), key=lambda i: abs(steps[i] - (used or 0)))
    step = st.select_slider(
        "Step", steps, value=steps[nearest], key="step", bind="query-params",
        help="Moves all images and marks the step in every plot. It starts where this run stopped.",
    )  # fmt: skip
    shown = steps.index(step)
    count = trace.clean_images.shape[1]
    if trace.moments:
        st.caption(f"Step {step}: {trace.moments[shown]}.")
    for name, images in (("clean", trace.clean_images), ("poisoned", trace.poisoned_images)):
        strip(
            f"Walk from the {name} images, after {step} steps",
            images[shown],
            [""] * count,
            [f"image {i + 1}, started {name}, after {step} steps" for i in range(count)],
        )
    left, right = st.columns(2, gap="medium")
    left.markdown("**Energy along the walk**", help=glossary.help_for("energy"))
    if has_energy:
        zoom = left.toggle("Zoom in on the end of the walk", key="zoom", bind="query-params")
        left.plotly_chart(
            figures.chain_energies(trace, shown, zoom),
            key="chain",
            alt="Mean energy of the chains from clean and from poisoned images over the steps, with their range",
        )
    else:
        left.info("A diffusion model has no energy: it only knows which noise an image seems to hold.")
    right.markdown("**How far from where**", help=glossary.help_for("distance"))
    right.plotly_chart(
        figures.distances(trace, shown),
        key="distances",
        alt="Distance of the chain to its poisoned start and to the clean image over the steps",
    )
    left, right = st.columns([3, 2], gap="medium")
    with right:
        image = st.segmented_control(
            "Image", list(range(1, count + 1)), default=1, required=True, key="image", bind="query-params"
        )
        st.markdown(
            "Hollow marks are the starts, large full ones the chosen step. The distance between the starts "
            "is the poison. Where the two walks of an image come together, the walk has forgotten which one "
            "was poisoned; where they stay apart, the poison survives."
        )
    left.markdown("**The paths in a plane**", help="Principal component analysis of the recorded states of one image.")
    left.plotly_chart(
        figures.pca_paths(trace, shown, image - 1),
        key="plane",
        alt=f"Paths of the two chains of image {image} in the plane of largest variance",
    )


def rule() -> None:
    """The paper's choice of the number of steps, read off this run."""
    where = figures.crossing(trace)
    st.subheader("How many steps?", anchor=False)
    st.latex(r"\lVert (x+\delta) - \Psi_T(x+\delta) \rVert_2 \;>\; \lVert x - \Psi_T(x+\delta) \rVert_2")
    if where is None:
        said = "In this run it never happens within the recorded steps: the poison is not yet undone."
    else:
        said = f"In this run that is at step **{where}**."
    stopped = f" This run purified with {used} steps." if used is not None else ""
    st.markdown(
        "PureGen (section 3.4) takes the first step T at which the walk Ψ is farther from the poisoned "
        f"image x+δ it started from than from the clean image x it should return to. {said}{stopped}"
    )


walk()
rule()
page.other_views(record, here="langevin")
page.reproduce(record)
