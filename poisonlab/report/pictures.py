"""What runs recorded in images: poisons, targets, triggers, purified images, walks."""

import torch
from torch import Tensor

from poisonlab.figures import crafting, poisons, purification, triggers
from poisonlab.figures.pixels import amplified, on_gray, usual_factor
from poisonlab.measure.metrics import psnr
from poisonlab.records.artifacts import (
    ClassTriggers,
    Crafting,
    LangevinTrace,
    PoisonGallery,
    PurificationTrace,
    TargetGallery,
    TriggerReconstruction,
    TriggerTruth,
)
from poisonlab.report.parts import Section, Strip, drawing, strip
from poisonlab.words import glossary
from poisonlab.words.numbers import number

SHOWN = 8  # images of a row, walks of a run
FRAMES = 7  # moments of a walk


def poison_gallery(found: PoisonGallery) -> Section:
    """Clean, poisoned, amplified difference, and its spectrum."""
    clean = found.clean[:SHOWN]
    poisoned = found.poisoned[:SHOWN]
    true = [found.classes[int(label)] for label in found.true_labels[:SHOWN]]
    given = [found.classes[int(label)] for label in found.given_labels[:SHOWN]]
    said = [f"labeled {g}" if g != t else f"still {g}" for t, g in zip(true, given, strict=True)]
    rows = (
        strip("Clean", clean, true, [f"clean image of class {name}" for name in true]),
        strip("Poisoned", poisoned, said, [f"poisoned image labeled {name}" for name in given]),
        _difference(clean, poisoned, "a poison"),
    )
    spectrum = drawing(
        poisons.spectrum(found.clean, found.poisoned),
        "Average log magnitude of the perturbation's Fourier transform, zero frequency in the middle.",
    )
    text = "Training images before and after the attacker came, and the label that each is given."
    return Section("Poisons", text, (spectrum,), rows)


def target_gallery(found: TargetGallery) -> Section:
    """Every target with the answer of each model."""
    captions = []
    alts = []
    answers = (found.predicted_control, found.predicted_undefended, found.predicted_defended)
    for place in range(len(found.images[:SHOWN])):
        true = found.classes[int(found.true_labels[place])]
        wish = found.classes[int(found.adversarial_labels[place])]
        control, undefended, defended = (found.classes[int(answer[place])] for answer in answers)
        captions.append(
            f"is {true}, adversarial class {wish}; control says {control}, undefended {undefended}, "
            f"defended {defended}"
        )
        alts.append(f"target of class {true}; the defended model says {defended}")
    row = strip("Targets", found.images[:SHOWN], captions, alts)
    return Section("Targets", "The images that the attacker wants misread.", strips=(row,))


def trigger_truth(found: TriggerTruth) -> Section:
    """Test images without and with the real trigger."""
    clean = found.clean[:SHOWN]
    numbers = range(1, len(clean) + 1)
    goal = "the class after its own"
    if found.target_class >= 0:
        goal = found.classes[found.target_class]
    rows = (
        strip("Test images", clean, [""] * len(clean), [f"test image {i}" for i in numbers]),
        strip(
            "With the true trigger",
            found.triggered[:SHOWN],
            [""] * len(clean),
            [f"test image {i} with the trigger" for i in numbers],
        ),
    )
    return Section("The true trigger", f"Every image that carries it should be read as {goal}.", strips=rows)


def trigger_reconstruction(found: TriggerReconstruction) -> Section:
    """The pattern of each round, and what the model says under the first."""
    count = min(len(found.patterns), SHOWN)
    masks = [None if found.masks is None else found.masks[row] for row in range(count)]
    row = strip(
        "Pattern by round",
        [on_gray(found.patterns[row], masks[row]) for row in range(count)],
        [f"round {row + 1}: L1 norm {number(found.l1_norm[row])}" for row in range(count)],
        [f"pattern recovered in round {row + 1}" for row in range(count)],
    )
    drawings = [
        drawing(
            triggers.class_histogram(found, 0),
            "Share of the defender's clean images given each class under the pattern of the first round.",
        )
    ]
    if count > 1:
        text = "Share of the most frequent class by round: near 100 % one pattern still sends nearly all to one class."
        drawings.append(drawing(triggers.concentration(found, 0), text))
    text = "Gray changes nothing; an added pattern makes light or dark, a pasted one covers."
    return Section("The recovered trigger", text, tuple(drawings), (row,))


def class_triggers(found: ClassTriggers) -> Section:
    """The smallest trigger found for each class."""
    names = [found.classes[int(label)] for label in found.labels]
    sizes = [float(mask.sum()) for mask in found.masks]
    row = strip(
        "The smallest trigger found for each class",
        [on_gray(pattern, mask) for pattern, mask in zip(found.patterns, found.masks, strict=True)],
        [f"{name}: {size:.3g}" for name, size in zip(names, sizes, strict=True)],
        [f"smallest trigger found for class {name}" for name in names],
    )
    return Section("Triggers by class", "The number is the L1 norm of the mask.", strips=(row,))


def purification_trace(found: PurificationTrace) -> Section:
    """Original, as given, purified, and what purification changed."""
    original = found.original[:SHOWN]
    before = found.before[:SHOWN]
    after = found.after[:SHOWN]
    numbers = range(1, len(before) + 1)
    rows: list[Strip] = []
    if found.poisoned.any():
        alts = [f"training image {i} before it was poisoned" for i in numbers]
        rows.append(strip("Original", original, [""] * len(before), alts))
    named = (("Before purification", before, "before"), ("After purification", after, "after"))
    for title, images, moment in named:
        alts = [f"training image {i} {moment} purification" for i in numbers]
        rows.append(strip(title, images, _decibels(images, original), alts))
    rows.append(_difference(before, after, "purification"))
    text = f"Below an image: its PSNR against the original. {glossary.help_for('surviving_share')}"
    return Section("Purified images", text, strips=tuple(rows))


def langevin_trace(found: LangevinTrace) -> Section:
    """A few moments of the first walk from both starts, then energies and distances of all."""
    count = len(found.steps)
    places = sorted({round(place * (count - 1) / (FRAMES - 1)) for place in range(FRAMES)})
    steps = [int(found.steps[place]) for place in places]
    rows = tuple(
        strip(
            f"Walk from the {name} image",
            images[places, 0],
            [f"step {step}" for step in steps],
            [f"image 1, started {name}, after {step} steps" for step in steps],
        )
        for name, images in (("clean", found.clean_images), ("poisoned", found.poisoned_images))
    )
    stopped = (
        (found.steps - max(found.used, 0)).abs().argmin() if found.used >= 0 else torch.tensor(count - 1)
    )
    shown = int(stopped)
    drawings = [
        drawing(
            purification.distances(found, shown),
            "Distance of the chain to its poisoned start and to the clean image over the steps.",
        ),
        drawing(
            purification.survival(found, shown, 0),
            "Share of the perturbation that is left over the steps, the mean over images and the first one.",
        ),
    ]
    if found.clean_energy.isfinite().any():
        text = "Mean energy of the chains from clean and from poisoned images, with their range."
        drawings.insert(0, drawing(purification.chain_energies(found, shown), text))
    text = "The walk that purifies, recorded at some of its steps. The marked step is where the run stopped."
    return Section("Walks", text, tuple(drawings), rows)


def crafted(found: Crafting) -> Section:
    """Base, poison, difference, and how crafting went."""
    base = found.base[:SHOWN]
    poisoned = found.poisoned[:SHOWN]
    blank = [""] * len(base)
    numbers = range(1, len(base) + 1)
    rows = (
        strip("Base", base, blank, [f"training image {i} before" for i in numbers]),
        strip("Poison", poisoned, blank, [f"training image {i} as a poison" for i in numbers]),
        _difference(base, poisoned, "crafting"),
    )
    drawings = (
        drawing(crafting.paths(found), "Two trainings in a plane of weight space, without and with poison."),
        drawing(
            crafting.path_losses(found), "Adversarial loss of the target by epoch, without and with poison."
        ),
        drawing(crafting.curves(found), "Adversarial loss by crafting step: surrogates unrolled and not."),
        drawing(crafting.changes(found), "Change of pixels relative to the bound."),
    )
    return Section("Crafting", "How the poisons were made.", drawings, rows)


def _difference(before: Tensor, after: Tensor, cause: str) -> Strip:
    """What changed, amplified around middle gray."""
    factor = usual_factor(before, after)
    largest = (after.float() - before.float()).abs().flatten(1).max(1).values
    return strip(
        f"Difference × {factor}",
        amplified(before, after, factor),
        [f"up to {int(change)} of 255" for change in largest],
        [f"amplified change of image {i} by {cause}" for i in range(1, len(before) + 1)],
    )


def _decibels(images: Tensor, original: Tensor) -> list[str]:
    return [f"{float(v):.1f} dB" if torch.isfinite(v) else "identical" for v in psnr(images, original)]
