"""The walks of one run on the Langevin page, alone or beside those of another."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from poisonlab.figures import purification as figures
from poisonlab.figures.film import walk_film
from poisonlab.records.artifacts import LangevinTrace
from poisonlab.ui import charts, glossary, link
from poisonlab.ui.wording import escape

# two by two where a run has the page for itself; one below the other, so that two runs stand level
ALONE = ("energy", "distances", "plane", "survival")
BESIDE = ("distances", "plane", "survival", "energy")


@dataclass(frozen=True)
class Walk:
    """What a run recorded; ``name`` is its defense, ``key`` ends the names of its widgets in the URL."""

    name: str
    record: Any
    trace: LangevinTrace
    key: str = ""

    @property
    def used(self) -> int | None:
        """Steps after which the run stopped, where it says so."""
        if self.trace.used >= 0:
            return self.trace.used
        steps = self.record.spec.defense.params.steps
        return steps if isinstance(steps, int) else None


def choose_image(trace: LangevinTrace, recorded: int) -> int:
    """Position of an image, in the URL.

    Args:
        recorded: images that the run on the page recorded, before those were left out that another run lacks.
    """
    count = trace.clean_images.shape[1]
    image = link.segments(
        st,
        "Image",
        list(range(1, count + 1)),
        default=1,
        key="image",
        help="The image whose paths are drawn below; the film shows it with its neighbors.",
    )
    text = f"Walks of {recorded} poisoned training images were recorded in this run, no others."
    if count < recorded:
        text += f" {count} of them were recorded by both runs."
    st.caption(text)
    return min(int(image), count) - 1


def film(walk: Walk, image: int, at_once: int) -> None:
    """The walks of the chosen image and its neighbors, to be played in the browser."""
    count = walk.trace.clean_images.shape[1]
    first = image - image % at_once
    charts.show(
        charts.drawn(walk_film, walk.trace, range(first, min(first + at_once, count)), image),
        key=f"film{walk.key}",
        alt="The images along their walks, one row from the clean and one from the poisoned images, with Play",
    )


def plots(walk: Walk, image: int, alone: bool) -> None:
    """What the walks do, with the step marked after which the run stopped."""
    steps = walk.trace.steps.tolist()
    stopped = min(range(len(steps)), key=lambda i: abs(steps[i] - (walk.used or 0)))
    order = ALONE if alone else BESIDE
    places = (
        [c for _ in range(2) for c in st.columns(2, gap="medium")]
        if alone
        else [st.container() for _ in order]
    )
    for name, place in zip(order, places, strict=True):
        with place:
            _PLOTS[name](walk, stopped, image)


@st.fragment  # the toggle redraws this plot alone
def _energy(walk: Walk, shown: int, image: int) -> None:
    st.markdown("**Energy along the walk**", help=glossary.help_for("energy"))
    if not walk.trace.clean_energy.isfinite().any():
        st.info("A diffusion model has no energy: it only knows which noise an image seems to hold.")
        return
    zoom = st.toggle("Zoom in on the end of the walk", key=f"zoom{walk.key}", bind="query-params")
    charts.show(
        charts.drawn(figures.chain_energies, walk.trace, shown, zoom),
        key=f"chain{walk.key}",
        alt="Mean energy of the chains from clean and from poisoned images over the steps, with their range",
    )


def _distances(walk: Walk, shown: int, image: int) -> None:
    st.markdown("**How far from where**", help=glossary.help_for("distance"))
    charts.show(
        charts.drawn(figures.distances, walk.trace, shown),
        key=f"distances{walk.key}",
        alt="Distance of the chain to its poisoned start and to the clean image over the steps",
    )


def _plane(walk: Walk, shown: int, image: int) -> None:
    st.markdown(
        f"**The paths of image {image + 1} in a plane**",
        help="Principal component analysis of the recorded states of one image. Hollow marks are the starts, large "
        "full ones where the run stopped. The distance between the starts is the poison.",
    )
    charts.show(
        charts.drawn(figures.pca_paths, walk.trace, shown, image),
        key=f"plane{walk.key}",
        alt=f"Paths of the two chains of image {image + 1} in the plane of largest variance",
    )


def _survival(walk: Walk, shown: int, image: int) -> None:
    st.markdown("**What is left of the perturbation**", help=glossary.help_for("surviving_share"))
    if not walk.trace.same_noise:
        st.info(
            "This older run gave the two walks of an image different noise, so what tells them apart is not the "
            "perturbation alone. Run it again to see how much of that survives."
        )
        return
    charts.show(
        charts.drawn(figures.survival, walk.trace, shown, image),
        key=f"survival{walk.key}",
        alt="Share of the perturbation that is left over the steps, the mean over images and the chosen image",
    )


_PLOTS = {"energy": _energy, "distances": _distances, "plane": _plane, "survival": _survival}


def rule(walk: Walk) -> str:
    """The paper's choice of the number of steps, read off a run, in words."""
    where = figures.crossing(walk.trace)
    if where is None:
        text = "it never happens within the recorded steps: the poison is not yet undone"
    else:
        text = f"that is at step **{where}**"
    stopped = f"; it purified with {walk.used} steps" if walk.used is not None else ""
    return f"In the run of {escape(walk.name)} {text}{stopped}."
