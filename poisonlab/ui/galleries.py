"""Rows of images that belong together, a page of them at a time."""

from collections.abc import Sequence

import streamlit as st
import torch

from poisonlab.figures.pixels import amplified, usual_factor
from poisonlab.measure.metrics import psnr
from poisonlab.records.artifacts import (
    PoisonGallery,
    PurificationTrace,
    TargetGallery,
    TriggerReconstruction,
    TriggerTruth,
)
from poisonlab.ui import glossary
from poisonlab.ui.images import strip
from poisonlab.ui.wording import escape

AT_ONCE = 8  # columns that stay readable on a 1280 pixel screen
AMPLIFY_HELP = (
    "How strongly the difference is amplified; gray means no change, lighter is brighter, darker is darker."
)


def turn(count: int, key: str) -> slice:
    """Which images to show: pages of ``AT_ONCE``, the page number in the URL."""
    pages = -(-count // AT_ONCE)
    if pages <= 1:
        return slice(0, count)
    number = st.pagination(pages, key=key, bind="query-params")
    return slice((number - 1) * AT_ONCE, min(count, number * AT_ONCE))


def controls(factor: int, count: int) -> tuple[int, slice]:
    """Amplification of differences, and which images to show, side by side."""
    left, right = st.columns(2, vertical_alignment="bottom", gap="large")
    chosen = left.slider(
        "Amplify the difference", 1, 32, factor, key="amplify", help=AMPLIFY_HELP, bind="query-params"
    )
    with right:
        return chosen, turn(count, "images")


def poisons(gallery: PoisonGallery) -> None:
    """Clean, poisoned, amplified difference."""
    factor, part = controls(usual_factor(gallery.clean, gallery.poisoned), len(gallery.clean))
    clean = gallery.clean[part]
    poisoned = gallery.poisoned[part]
    true = [escape(gallery.classes[int(i)]) for i in gallery.true_labels[part]]
    given = [escape(gallery.classes[int(i)]) for i in gallery.given_labels[part]]
    change = (poisoned.float() - clean.float()).abs().flatten(1).max(1).values
    strip(
        "Clean",
        clean,
        true,
        [f"clean image of class {t}" for t in true],
        "What the image was, and its true label.",
    )
    strip(
        "Poisoned",
        poisoned,
        [f"labeled {g}" if g != t else f"still {g}" for g, t in zip(given, true, strict=True)],
        [f"poisoned image labeled {g}" for g in given],
        "What the victim trains on, and the label it is given.",
    )
    strip(
        f"Difference × {factor}",
        amplified(clean, poisoned, factor),
        [f"up to {int(c)}" for c in change],
        [f"amplified difference of an image of class {t}" for t in true],
        AMPLIFY_HELP,
    )


def amount(gallery: PoisonGallery) -> str:
    """In words: how much of the images shown was changed."""
    shown = len(gallery.clean)
    largest = int((gallery.poisoned.float() - gallery.clean.float()).abs().max())
    relabeled = int((gallery.true_labels != gallery.given_labels).sum())
    return (
        f"A sample of {shown} poisoned training images. The largest change of a pixel is {largest} of 255; "
        f"{relabeled} of {shown} labels were changed, too. Dirty-label attacks do that, clean-label attacks leave "
        "every label true."
    )


def targets(gallery: TargetGallery) -> None:
    """Every target with the answer of each model."""
    part = turn(len(gallery.images), "targets")

    def name(label: torch.Tensor) -> str:
        return escape(gallery.classes[int(label)])

    rows = zip(
        gallery.images[part],
        gallery.true_labels[part],
        gallery.adversarial_labels[part],
        gallery.predicted_control[part],
        gallery.predicted_undefended[part],
        gallery.predicted_defended[part],
        strict=True,
    )
    captions = []
    alts = []
    for _, true, wish, control, undefended, defended in rows:
        verdict = (
            ":red[**fooled**]" if defended == wish else (":green[right]" if defended == true else "wrong")
        )
        lines = [
            f"is **{name(true)}**, adversarial class **{name(wish)}**",
            f"control says {name(control)}",
            f"undefended says {name(undefended)}" + (" :red[**fooled**]" if undefended == wish else ""),
            f"defended says {name(defended)} {verdict}",
        ]
        captions.append("  \n".join(lines))
        alts.append(f"target of class {name(true)}; the defended model says {name(defended)}")
    strip(
        "Target images and what each model says of them", gallery.images[part], captions, alts, colored=True
    )


def triggers(truth: TriggerTruth, defended: bool) -> None:
    """Test images without and with the real trigger, and what the victim says of them where the record tells.

    Args:
        defended: whether there was a defense, whose model has an answer of its own.
    """
    pictures = st.container()
    part = turn(len(truth.clean), "images")
    numbers = range(part.start + 1, part.stop + 1)
    captions = [_answers(truth, i, defended) for i in range(part.start, part.stop)]
    with pictures:
        strip(
            "Test image",
            truth.clean[part],
            [before for before, _ in captions],
            [f"test image {i}" for i in numbers],
            colored=bool(len(truth.true_labels)),
        )
        strip(
            "With the true trigger",
            truth.triggered[part],
            [after for _, after in captions],
            [f"test image {i} with trigger" for i in numbers],
            colored=bool(len(truth.true_labels)),
        )


def _answers(truth: TriggerTruth, image: int, defended: bool) -> tuple[str, str]:
    """What the victim says of an image, and of the same image with the trigger, before and after the defense."""
    if not len(truth.true_labels):
        return "", ""
    true = int(truth.true_labels[image])

    def said(labels: torch.Tensor) -> str:
        answer = int(labels[image])
        name = escape(truth.classes[answer])
        return f":green[{name}]" if answer == true else f":red[**{name}**]"

    lines = [f"victim: {said(truth.triggered_undefended)}"]
    if defended:
        lines.append(f"defended: {said(truth.triggered_defended)}")
    return f"victim: {said(truth.clean_undefended)}", "  \n".join(lines)


def reading(trigger: TriggerReconstruction, round_: int, target: int | None) -> str:
    """In words: what a class histogram says about the backdoor."""
    counts = trigger.class_histogram[round_]
    top = int(counts.argmax())
    share = float(counts.max() / counts.sum().clamp_min(1))
    if share < 0.5:
        return (
            f"In round {round_ + 1} no class takes more than {share:.0%} of the images: this pattern "
            "changes little, so the search has not found a backdoor here, or it is gone by now."
        )
    top_class = escape(trigger.classes[top])
    named = f"In round {round_ + 1} this one pattern sends {share:.0%} of the images to **{top_class}**"
    if target is None:
        return f"{named}."
    if top == target:
        return f"{named}, the attacker's class: a defender who knows nothing of the attack can read the target here."
    return f"{named}, which is not the attacker's class: the search ended at another weakness of the model."


def purified(runs: Sequence[tuple[str, PurificationTrace]]) -> None:
    """Original, as given, purified by each run, and what each changed.

    Args:
        runs: name of the defense and its record, all of the same images.
    """
    first = runs[0][1]
    factor, part = controls(4, len(first.before))
    original = first.original[part]
    before = first.before[part]
    numbers = range(part.start + 1, part.stop + 1)
    if first.poisoned[part].any():
        strip(
            "Original",
            original,
            [""] * len(original),
            [f"training image {i} before it was poisoned" for i in numbers],
            "What the image was before the attacker came. No defense gets to see it.",
        )
    strip(
        "Before purification",
        before,
        [_decibels(v) for v in psnr(before, original)],
        [f"training image {i} before purification" for i in numbers],
        "What the defense was given. The number is the PSNR against the original.",
    )
    for name, trace in runs:
        after = trace.after[part]
        left = trace.surviving[part] if len(trace.surviving) else torch.full((len(after),), torch.nan)
        strip(
            f"After purification by {escape(name)}",
            after,
            [
                _decibels(value) + (f"  \n{share:.0%} left" if share == share else "")
                for value, share in zip(psnr(after, original), left.tolist(), strict=True)
            ],
            [f"training image {i} after purification by {name}" for i in numbers],
            "What the victim trains on instead. The number is the PSNR against the original. Left is the share of the "
            "perturbation that survives: " + glossary.help_for("surviving_share"),
        )
    for name, trace in runs:
        after = trace.after[part]
        strip(
            f"What {escape(name)} changed × {factor}",
            amplified(before, after, factor),
            [f"PSNR {_decibels(v)}" for v in psnr(after, before)],
            [f"amplified change of training image {i} by {name}" for i in numbers],
            AMPLIFY_HELP,
        )


def _decibels(value: torch.Tensor) -> str:
    return f"{float(value):.1f} dB" if torch.isfinite(value) else "identical"
