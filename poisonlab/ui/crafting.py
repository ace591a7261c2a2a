"""Poisons that were crafted through unrolled training, in images and words."""

from poisonlab.figures.pixels import amplified
from poisonlab.records.artifacts import Crafting
from poisonlab.ui.images import strip
from poisonlab.ui.wording import percent


def images(trace: Crafting) -> None:
    """Base, poison, amplified difference, and what the shift of colors alone does."""
    count = len(trace.base)
    factor = max(1, int(127 / max(1.0, trace.eps)))
    change = (trace.poisoned.float() - trace.base.float()).abs().flatten(1).max(1).values
    blank = [""] * count
    strip("Base", trace.base, blank, [f"training image {i + 1} before" for i in range(count)])
    strip("Poison", trace.poisoned, blank, [f"training image {i + 1} as a poison" for i in range(count)])
    strip(
        f"Difference × {factor}",
        amplified(trace.base, trace.poisoned, factor),
        [f"up to {int(c)}" for c in change],
        [f"amplified difference of training image {i + 1}" for i in range(count)],
    )
    if len(trace.grids):
        strip(
            f"Shift of colors × {factor}",
            amplified(trace.base, trace.recolored, factor),
            [f"up to {s:.3f}" for s in trace.grids.abs().flatten(1).max(1).values.tolist()],
            [f"amplified shift of colors of training image {i + 1}" for i in range(count)],
            "What the color grid does without the offsets; the number is the largest shift in brightness or chroma, "
            f"of [0, 1], bounded by {trace.color:g}.",
        )


def outcome(trace: Crafting) -> str:
    """How much more probable the adversarial class of the target is after training with the poisons."""
    before, after = trace.path_probability[:, -1].tolist()
    won = trace.path_loss[1, -1].item() < 0
    verdict = (
        "the target is given the adversarial class"
        if won
        else "the target is not given the adversarial class"
    )
    return (
        f"At the end of the training without poison the class that the attacker wishes for has a probability of "
        f"**{percent(before)}** on the target, with poison **{percent(after)}**: {verdict}."
    )


def held_back(trace: Crafting) -> str:
    """How much of the bound is used."""
    share = trace.changes[-1] / trace.changes.sum().clamp_min(1)
    changed = f"**{percent(share.item())}** of all pixels and channels"
    return f"{changed} change by nearly the whole bound of {trace.eps:g}/255."
