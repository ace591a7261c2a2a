"""Each kind of artifact as a section of a document."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from poisonlab.figures import detection, neurons, purification, repair, screening, unlearning
from poisonlab.figures.curves import curve
from poisonlab.figures.settings import settings_curve
from poisonlab.records import artifacts
from poisonlab.report import pictures
from poisonlab.report.parts import Section, drawing
from poisonlab.words.numbers import number, percent


def sections(found: Iterable[Any]) -> list[Section]:
    """A section for each artifact, in the order in which an experiment goes; unknown kinds are passed over."""
    kinds = list(SECTIONS)
    known = [artifact for artifact in found if type(artifact).__name__ in SECTIONS]
    known.sort(key=lambda artifact: kinds.index(type(artifact).__name__))
    return [SECTIONS[type(artifact).__name__](artifact) for artifact in known]


def _energies(found: artifacts.EnergyHistogram) -> Section:
    text = "Energies of clean, poisoned and purified training images; low looks natural to the model."
    return Section("Energies", drawings=(drawing(purification.energy_histogram(found), text),))


def _class_anomaly(found: artifacts.ClassAnomaly) -> Section:
    text = "Score of each class in the victim and in the control, which was trained without poison."
    return Section("Which class stands out", drawings=(drawing(detection.class_anomaly(found), text),))


def _suspicion(found: artifacts.SampleSuspicion) -> Section:
    flagged = (
        f"Flagged: {percent(found.flagged_poisoned)} of the poisoned images, {percent(found.flagged_clean)} of the "
        f"clean ones, {percent(found.flagged_control)} of the control's."
    )
    text = "Scores of clean and poisoned training images, and of the control."
    return Section("Which images stand out", flagged, (drawing(detection.suspicion(found), text),))


def _screening(found: artifacts.ScreeningReview) -> Section:
    drawings = (
        drawing(screening.scores(found, control=False), "Scores of the victim's inputs."),
        drawing(screening.scores(found, control=True), "Scores of the same inputs in the control."),
        drawing(screening.curves(found), "Share of triggered and of untouched inputs stopped, by threshold."),
    )
    return Section("Which inputs are stopped", "Test inputs without the trigger and with it.", drawings)


def _flags(found: artifacts.FlagReview) -> Section:
    images = len(found.clean) + len(found.bad)
    text = f"Flagged: {found.chosen} of {images} training images; {len(found.bad)} are truly corrupted or poisoned."
    drawings = (
        drawing(repair.score_histogram(found), "Scores of clean and of corrupted training images."),
        drawing(repair.precision_recall(found), "Precision and recall against the number of flagged images."),
        drawing(repair.ranks(found), "Scores of flagged images by rank, colored by what became of them."),
    )
    return Section("Who is flagged", text, drawings)


def _confusion(found: artifacts.ConfusionChange) -> Section:
    named = ((False, "before"), (True, "after"))
    drawings = [drawing(repair.confusion(found, after), f"{name} the repair") for after, name in named]
    return Section("Answers by true class", "Test images by true class and answer.", tuple(drawings))


def _neurons(found: artifacts.NeuronScores) -> Section:
    drawings = (
        drawing(neurons.mask_histogram(found), "Distribution of the scores of each layer between 0 and 1."),
        drawing(neurons.blamed(found), "Share of scores on the blamed side by layer."),
    )
    return Section("Scores by layer", "What the defense thinks of each part of the network.", drawings)


def _drive(found: artifacts.ActivationDrive) -> Section:
    text = (
        "Score of each channel against the change of its activation by the trigger, which no defender knows."
    )
    drawings = [drawing(neurons.drive_scatter(found, None), text)]
    if len(found.poison_change):
        text = "Weight change of each channel in unlearning clean images against that in unlearning triggered ones."
        drawings.append(drawing(neurons.change_scatter(found, None), text))
    return Section("Right or wrong", drawings=tuple(drawings))


def _repair(found: artifacts.RepairTrace) -> Section:
    text = f"Clean accuracy and attack success during the repair, on {found.images} test images."
    return Section("During the repair", drawings=(drawing(unlearning.repair_curves(found), text),))


def _predictions(found: artifacts.PredictionHistogram) -> Section:
    text = "Share of the defender's clean images given each class before and after unlearning."
    return Section("After unlearning", drawings=(drawing(unlearning.predictions(found), text),))


def _settings(found: artifacts.SettingsCurve) -> Section:
    chosen, oracle = (f"{float(found.settings[place]):g}" for place in (found.chosen, found.oracle))
    text = f"The defense used {chosen}; the oracle, which looks at the test set, would have chosen {oracle}."
    figure = drawing(settings_curve(found), f"Clean accuracy and attack success by {found.setting_name}.")
    return Section("How much to cut", text, (figure,))


def _curve(found: artifacts.Curve) -> Section:
    return Section(found.y_label, drawings=(drawing(curve(found), f"{found.y_label} by {found.x_label}."),))


def _health(found: artifacts.ModelHealth) -> Section:
    values = ", ".join(f"{name} {number(value)}" for name, value in found.values.items())
    return Section("The generative model", f"{found.verdict} ({values})" if values else found.verdict)


SECTIONS: Mapping[str, Callable[[Any], Section]] = {
    "PoisonGallery": pictures.poison_gallery,
    "Crafting": pictures.crafted,
    "TargetGallery": pictures.target_gallery,
    "TriggerTruth": pictures.trigger_truth,
    "PurificationTrace": pictures.purification_trace,
    "LangevinTrace": pictures.langevin_trace,
    "EnergyHistogram": _energies,
    "ModelHealth": _health,
    "TriggerReconstruction": pictures.trigger_reconstruction,
    "ClassAnomaly": _class_anomaly,
    "ClassTriggers": pictures.class_triggers,
    "SampleSuspicion": _suspicion,
    "ScreeningReview": _screening,
    "FlagReview": _flags,
    "ConfusionChange": _confusion,
    "NeuronScores": _neurons,
    "ActivationDrive": _drive,
    "SettingsCurve": _settings,
    "Curve": _curve,
    "RepairTrace": _repair,
    "PredictionHistogram": _predictions,
}
