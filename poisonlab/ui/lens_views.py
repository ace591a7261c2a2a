"""The views of the lens: what each shows, and how it is read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
import torch
from torch import Tensor

from poisonlab.figures import lens as figures
from poisonlab.figures.png import as_png, framed
from poisonlab.lens.attention import LARGE, Attention
from poisonlab.lens.features import METHODS, Planes
from poisonlab.lens.per_class import PerClass
from poisonlab.lens.pictures import Pictures
from poisonlab.lens.spectra import Spectra, mean_spectrum
from poisonlab.ui import charts, galleries, glossary, lens, link, navigation, shared
from poisonlab.ui.images import png, strip
from poisonlab.ui.wording import escape, percent

AT_ONCE = galleries.AT_ONCE
MEAN = "mean of all"
NAMES = {
    "control": "Control, trained without poison",
    "undefended": "Undefended",
    "defended": "After the defense",
}


# -- features ------------------------------------------------------------------------------------------


def features_view(record: Any, trial: int, place: Any) -> None:
    """Pictures as points, a plane for each network; chosen points show their pictures.

    Args:
        place: beside the choice of the view, for what the view lets choose; so for all of them.
    """
    found = lens.look("features", record, trial)
    if found is None:
        return
    shown: Pictures = found[0]
    method = link.segments(place, "Projection", METHODS, key="projection", default=METHODS[0])
    plane = lens.plane_of(record.run_id, trial, method)
    st.markdown(
        "Each point is a picture, placed by what the network's last hidden layer makes of it: near points look alike "
        "to the network. **Click a point, or drag a box over some, to see the pictures.**"
    )
    rows = charts.chosen(
        charts.drawn(figures.feature_planes, plane, shown),
        key=f"plane-{method}",
        alt="Features of clean, poisoned and triggered pictures in each network of the run",
    )
    st.caption(reading(plane))
    _chosen(shown, sorted({int(np.ravel(row)[0]) for row in rows}))


def reading(plane: Planes) -> str:
    """In words: what the axes are, and which planes can be compared."""
    pair = " and ".join(plane.together)
    if plane.method == "PCA":
        axes = (
            f"PCA: the two directions along which the features of the {plane.together[0]} network vary most; the "
            f"planes of {pair} have the same axes, so that a point that moved was moved by the defense."
        )
    else:
        axes = (
            f"t-SNE: neighbors stay neighbors, while distances between groups and axes mean nothing; {pair} were "
            "embedded as one set, in the same plane."
        )
    if len(plane.together) == 1:
        axes = axes.split(";")[0] + "."
    own = " The control learned without poison, is another network, and has axes of its own."
    return axes + (own if "control" in plane.places and "control" not in plane.together else "")


def _chosen(shown: Pictures, rows: list[int]) -> None:
    """The pictures of the chosen points, some at a time."""
    if not rows:
        return
    st.markdown(f"**{len(rows)} chosen** " + ", ".join(_counts(shown, rows)))
    part = rows[galleries.turn(len(rows), "chosen")]
    words = [figures.picture_words(shown, row) for row in part]
    _row(shown.x[part], [escape(text) for text in words], words)


def _row(images: Tensor, captions: Sequence[str], alts: Sequence[str]) -> None:
    """Pictures as large as those of a full row, however few there are."""
    for column, image, caption, alt in zip(st.columns(AT_ONCE), images, captions, alts, strict=False):
        column.image(png(image), caption=caption, alt=alt, output_format="PNG", width="stretch")


def _counts(shown: Pictures, rows: list[int]) -> list[str]:
    numbers = shown.group[rows].bincount(minlength=len(shown.groups)).tolist()
    return [f"{n} {name}{'s' if n > 1 else ''}" for name, n in zip(shown.groups, numbers, strict=True) if n]


# -- attention -----------------------------------------------------------------------------------------


def attention_view(record: Any, trial: int, place: Any) -> None:
    """Class activation maps and input gradients of each network, on the same pictures."""
    found: Attention | None = lens.look("attention", record, trial)
    if found is None:
        return
    if len(found.names) == 1:
        st.info(
            "This network has no maps that keep the picture's layout, so there is no Grad-CAM, only gradients."
        )
    usual = found.names[found.usual]
    order = [usual, *(name for name in found.names if name != usual)]
    chosen = found.names.index(link.choice(place, "Map", order, str, key="map"))
    placed = found.even <= LARGE  # not where there is no trigger
    st.markdown(
        "Bright yellow is where a network looks for the answer it gives; the frame is where the trigger is. **A "
        "backdoored network looks at the trigger, the control at the thing itself.**"
        if placed
        else "Bright yellow is where a network looks for the answer it gives."
    )
    strip(
        "Pictures",
        found.x,
        [escape(found.classes[int(label)]) for label in found.true],
        [f"picture of class {found.classes[int(label)]} that the networks are shown" for label in found.true],
        "What the networks are shown, and what it is.",
    )
    for model, maps in found.maps.items():
        _attended(found, model, maps[chosen], found.shares[model][chosen] if placed else None)
    if placed:
        _shares(found)
    elif found.support.any():
        st.caption(
            f"The trigger changes {percent(found.even)} of the pixels: it has no place that could be looked at."
        )
    st.caption(WHICH)
    if any(item.kind in navigation.SHOWS["neurons"] for item in record.artifacts):
        navigation.link("neurons", "Which channels the trigger drives", run=record.run_id)


WHICH = (
    "Grad-CAM weights the channels of a layer by how much each speaks for the network's answer, HiResCAM each place "
    "of each channel; in the last layer both mostly agree. Input gradients say which pixels would change the answer's "
    "score most. First shown is HiResCAM of the deepest layer in which the trigger is two cells wide: deeper layers "
    "know more of the class and are too coarse to tell the trigger from what lies beside it. Without a trigger it is "
    "Grad-CAM of the last layer, as its authors use it."
)


def _attended(found: Attention, model: str, maps: Tensor, shares: Tensor | None) -> None:
    """A row of pictures under one network's maps.

    Args:
        shares: of each picture's map in the trigger; ``None`` where it has no place.
    """
    known = found.x[:0] if shares is None else shares[shares.isfinite()]
    mean = f": {percent(float(known.mean()))} in the trigger, on average" if len(known) else ""
    st.markdown(f"**{NAMES[model]}**{mean}")
    rows = zip(found.x, maps, found.support, found.true, found.answers[model], strict=True)
    for column, (image, seen, support, true, answer) in zip(st.columns(len(found.x)), rows, strict=True):
        said = escape(found.classes[int(answer)])
        right = int(answer) == int(true)
        column.image(
            attended_png(image, seen, support),
            alt=f"where the {model} network looks in a picture of class {found.classes[int(true)]}, which it reads as "
            f"{found.classes[int(answer)]}",
            output_format="PNG",
            width="stretch",
        )
        column.markdown(f":small[:green[{said}]]" if right else f":small[:red[**{said}**]]")


@shared.of_arguments
def attended_png(image: Tensor, seen: Tensor, support: Tensor) -> bytes:
    """A picture under its map, as the file that is sent."""
    return as_png(framed(figures.attended(image, seen, support)))


def _shares(found: Attention) -> None:
    """How much of the attention lies in the trigger, for every layer."""
    st.subheader("How much of it lies in the trigger", anchor=False)
    pictures = len(next(iter(found.shares.values()))[0])
    charts.show(
        charts.drawn(figures.trigger_shares, found),
        key="shares",
        alt="Share of each map inside the trigger, by network",
    )
    st.caption(
        f"Means over {pictures} test images with the trigger, for the answer that each network gives. The trigger "
        f"changes {percent(found.even)} of the pixels: a network that looked everywhere alike would be at the dotted "
        "line. A map that is zero everywhere does not count."
    )


# -- frequencies ---------------------------------------------------------------------------------------


def spectra_view(record: Any, trial: int, place: Any) -> None:
    """Spectra of the poisoned images, as they were, as the attacker made them, as the defense left them."""
    found: Spectra | None = lens.look("spectra", record, trial)
    if found is None:
        return
    st.markdown(
        "The middle of each map is what changes slowly over the picture, its rim what changes from pixel to pixel. "
        "**What an attack adds is red below: a wave as two spots, a patch over all frequencies, and either even where "
        "no eye sees it in the picture.**"
    )
    count = len(found.images["clean"])
    options = [MEAN, *(f"picture {i}" for i in range(1, count + 1))]
    chosen = link.choice(place, "Spectrum of", options, str, key="spectrum")
    single = None
    if chosen != MEAN:
        row = options.index(chosen) - 1
        one = [images[row : row + 1] for images in found.images.values()]
        single = torch.stack([mean_spectrum(image) for image in one])
        captions = list(found.images)
        _row(torch.cat(one), captions, [f"{name} training image" for name in captions])
    maps = figures.spectra_of(found, single)
    charts.show(
        charts.drawn(figures.spectrum_maps, maps),
        key="spectra",
        alt=f"Amplitude by frequency: {', '.join(maps)}",
    )
    if len(maps) > 1:
        charts.show(
            charts.drawn(figures.spectrum_changes, maps),
            key="spectrum-change",
            alt="Change of the amplitude of each frequency against the clean pictures",
        )
    st.caption(_averaged(found, chosen))


def _averaged(found: Spectra, chosen: str) -> str:
    """What the spectra are of, and what is missing."""
    of = f"the mean over {found.averaged} training images" if chosen == MEAN else f"of training {chosen}"
    text = f"Amplitudes of the gray pictures' Fourier transform, {of}"
    if "poisoned" not in found.images:
        return f"{text}. Nothing is poisoned in this run."
    text += ", before and after the poisoning."
    if "purified" not in found.images:
        return f"{text} The defense of this run changes no picture."
    return text


# -- classes -------------------------------------------------------------------------------------------


def classes_view(record: Any, trial: int, place: Any) -> None:
    """Rates and answers by class, and the images that the defense breaks."""
    found: PerClass | None = lens.look("classes", record, trial)
    if found is None:
        return
    st.markdown(
        "An average hides which class pays: **a defense that costs one point on average may cost one class ten.** "
        "Under the trigger, a class whose bar stays high is one that the attack still takes."
    )
    left, right = st.columns(2, gap="medium") if found.triggered else (st.container(), None)
    charts.show(
        charts.drawn(figures.class_rates, found, False),
        key="class-accuracy",
        alt="Accuracy of each class by network",
        place=left,
    )
    if right is not None:
        charts.show(
            charts.drawn(figures.class_rates, found, True),
            key="class-asr",
            alt="Attack success of each class by network",
            place=right,
        )
    st.caption(f"Measured on {found.tested:,} test images.")
    _confusion(found)
    _broken(found)


def _confusion(found: PerClass) -> None:
    st.subheader("Who is taken for whom", anchor=False, help=glossary.help_for("confusion"))
    models = list(found.confusion)
    asked = st.container(horizontal=True)
    model = link.segments(asked, "Network", models, key="network", default=models[-1])
    triggered = False
    if found.triggered:
        ways = ("without", "with")
        triggered = link.segments(asked, "Trigger", ways, key="trigger", default=ways[0]) == ways[1]
    charts.show(
        charts.drawn(figures.confusion, found, model, triggered),
        key="confusion",
        alt=f"Confusion matrix of the {model} network: true class by answer",
    )


def _broken(found: PerClass) -> None:
    """The images that were right before the defense and wrong after it."""
    if "defended" not in found.confusion:
        return
    st.subheader("What the defense breaks", anchor=False)
    before = "undefended" if "undefended" in found.confusion else "control"
    st.markdown(
        f"**{found.broken_count}** of {found.tested:,} test images, without any trigger, were read rightly by the "
        f"{before} network and are read wrongly after the defense; {found.mended_count} the other way round."
    )
    if not len(found.broken):
        return
    part = galleries.turn(len(found.broken), "broken")
    true = [escape(found.classes[int(label)]) for label in found.broken_true[part]]
    said = [escape(found.classes[int(label)]) for label in found.broken_answer[part]]
    _row(
        found.broken[part],
        [f"is {t}  \nread as {s}" for t, s in zip(true, said, strict=True)],
        [f"test image of class {t}, read as {s} after the defense" for t, s in zip(true, said, strict=True)],
    )
    if found.broken_count > len(found.broken):
        st.caption(f"{len(found.broken)} of them, evenly chosen.")


VIEWS = {
    "Features": features_view,
    "Attention": attention_view,
    "Frequencies": spectra_view,
    "Classes": classes_view,
}
