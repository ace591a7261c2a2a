"""Every metric that a run can measure, once.

Columns of the store and the leaderboard, their order and direction, the heat map, the glossary, exports and the tables
of the command line follow from these entries: a new metric is one entry here and the code that computes it.
"""

import re
from collections.abc import Iterable, Mapping

from poisonlab.measure.metric import CONTROL, FAMILIES, ORACLE, UNDEFENDED, Metric, Unit
from poisonlab.spec.threats import ThreatKind

BACKDOOR: frozenset[ThreatKind] = frozenset({"backdoor"})
TARGETED: frozenset[ThreatKind] = frozenset({"targeted"})
CORRUPTION: frozenset[ThreatKind] = frozenset({"corruption"})
DETECTABLE = BACKDOOR | CORRUPTION  # threats under which detectors and flags are measured

# The success of an attack under one name, whatever its kind of threat: the headline metric of that kind.
SUCCESS = "success"
MOST = 1e9  # of what has no natural bound: larger is no measurement, and no table can show it
ROUNDING = 1e-6  # by which a mean of shares may leave its range

_ENTRIES = (
    Metric(
        "clean_accuracy",
        "Clean accuracy",
        "ACC: share of untouched test images given their true class.",
        better="higher",
        families=(UNDEFENDED, CONTROL, ORACLE),
        summary=True,
        column="first",
        interval=True,
    ),
    Metric(
        "clean_accuracy_undefended",
        "Accuracy undefended",
        "Clean accuracy of the poisoned model before any defense: what the defense may lose.",
        column="more",
    ),
    Metric(
        "clean_accuracy_control",
        "Clean accuracy, control",
        "Clean accuracy of a model trained without any poison and without a defense.",
        column="hidden",
    ),
    Metric(
        SUCCESS,
        "Attack success",
        "ASR for backdoors, poison success for targeted poisons, lost accuracy for wrong labels and damaged images.",
        better="lower",
        short="Attack success ↓",
        stands_for="",
        column="first",
        interval=True,
        pooled_by="targets",
    ),
    Metric(
        "success_undefended",
        "Success undefended",
        "Attack success on the model trained on the poison with no defense.",
        stands_for=UNDEFENDED.suffix,
        column="more",
        pooled_by="targets",
    ),
    Metric(
        "control",
        CONTROL.label,
        "The same measure of success on a model trained without any poison: what chance alone gives. A defense cannot "
        "be expected to go below it.",
        stands_for=CONTROL.suffix,
        column="first",
        pooled_by="targets",
    ),
    Metric(
        "asr",
        "Attack success (ASR)",
        "Attack success rate: share of triggered test images (those of the target class left out, or all but those of "
        "the source class where an attack has one) that are given the attacker's class.",
        better="lower",
        short="ASR",
        threats=BACKDOOR,
        families=(UNDEFENDED, CONTROL, ORACLE),
        headline=True,
        summary=True,
    ),
    Metric(
        "poison_success",
        "Poison success",
        "Targeted poisons: share of the chosen target images that are given the attacker's class.",
        better="lower",
        threats=TARGETED,
        families=(UNDEFENDED, CONTROL),
        headline=True,
        summary=True,
        pooled_by="targets",
    ),
    Metric(
        "accuracy_loss",
        "Lost accuracy",
        "Wrong labels and damaged images: clean accuracy of a model trained on the same images before they were "
        "corrupted, minus that of this model. Below 0 the model is better than that control.",
        better="lower",
        threats=CORRUPTION,
        families=(UNDEFENDED, CONTROL),
        lowest=-1.0,
        headline=True,
        control="clean_accuracy_control",  # the loss of the control is 0 by definition
        summary=True,
    ),
    Metric(
        "robust_accuracy",
        "Robust accuracy",
        "RA: share of triggered test images still given their true class. A low ASR with a low RA means that the model "
        "is broken, not repaired.",
        better="higher",
        threats=BACKDOOR,
        families=(UNDEFENDED, CONTROL, ORACLE),
        short="RA",
        summary=True,
        column="more",
    ),
    Metric(
        "der",
        "Effectiveness (DER)",
        "Defense effectiveness rating: (drop in success - drop in accuracy + 1) / 2, drops counted from 0. 50 % means "
        "no effect, 100 % is best.",
        better="higher",
        short="DER",
        threats=BACKDOOR,
        column="more",
    ),
    Metric(
        "targets",
        "Targets",
        "Number of target images, each an independent trial with its own poisons.",
        Unit.COUNT,
        threats=TARGETED,
        summary=True,
        column="more",
        total=True,
        highest=MOST,
    ),
    Metric(
        "adversarial_probability",
        "Probability of the adversarial label",
        "The softmax output of a network for the attacker's class on the target image.",
        better="lower",
        threats=TARGETED,
        families=(UNDEFENDED, CONTROL),
    ),
    Metric(
        "clean_accuracy_retrained",
        "Accuracy retrained",
        "Clean accuracy of a model trained from scratch on the images that are not corrupted and on the defender's "
        "trusted ones. Only the experimenter knows which these are: what perfect flagging would allow.",
        threats=CORRUPTION,
        summary=True,
    ),
    Metric(
        "corrupted",
        "Corrupted",
        "Share of the training images whose label or pixels are wrong.",
        threats=CORRUPTION,
    ),
    Metric("flagged", "Flagged", "Share of the training images that the repair suspects."),
    Metric(
        "flag_auroc",
        "Flag AUROC",
        "Probability that a corrupted or poisoned training image has a higher score than a clean one. 0.5 is chance, 1 "
        "is best.",
        Unit.NUMBER,
        "higher",
    ),
    Metric(
        "flag_precision",
        "Flag precision",
        "Share of the flagged images that are corrupted or poisoned; the others are there by mistake.",
        better="higher",
    ),
    Metric(
        "flag_recall",
        "Flag recall",
        "Share of the corrupted or poisoned images that are flagged.",
        better="higher",
    ),
    Metric(
        "returned_clean",
        "Rightly returned",
        "Share of the images taken back that are clean.",
        better="higher",
    ),
    Metric(
        "relabeled_right",
        "Rightly relabeled",
        "Share of the relabeled images whose most likely new label is the true one.",
        better="higher",
    ),
    Metric(
        "detected",
        "Detected",
        "Whether the defense says that the victim holds a backdoor: 1 or 0, a rate over seeds. Worth nothing without "
        "the same for the control, which holds none.",
        better="higher",
        threats=BACKDOOR,
        families=(CONTROL,),
    ),
    Metric(
        "detected_control",
        "False alarm",
        "Whether the defense says that a model trained without any poison holds a backdoor: 1 or 0, a rate over seeds.",
        better="lower",
        threats=BACKDOOR,
    ),
    Metric(
        "target_found",
        "Target found",
        "Whether the class that the defense names is the attacker's: 1 or 0.",
        better="higher",
        threats=BACKDOOR,
    ),
    Metric(
        "sample_auroc",
        "Sample AUROC",
        "Probability that a poisoned training image has a higher score of suspicion than a clean one. 0.5 is chance, 1 "
        "is best.",
        Unit.NUMBER,
        "higher",
        DETECTABLE,
    ),
    Metric(
        "samples_caught",
        "Poisons caught",
        "Share of the poisoned training images that the defense flags.",
        better="higher",
        threats=DETECTABLE,
    ),
    Metric(
        "samples_flagged",
        "Clean images flagged",
        "Share of the clean training images that the defense flags.",
        better="lower",
        threats=DETECTABLE,
        families=(CONTROL,),
    ),
    Metric(
        "screen_auroc",
        "Screening AUROC",
        "Probability that a test input with the trigger has a higher score of suspicion than an untouched one. 0.5 is "
        "chance, 1 is best. In the control, which holds no backdoor, it should be 0.5.",
        Unit.NUMBER,
        "higher",
        BACKDOOR,
        families=(CONTROL,),
    ),
    Metric(
        "screen_auroc_working",
        "AUROC of what works",
        "The same for untouched inputs that are read rightly and triggered ones that are given the attacker's class "
        "alone: what papers report. It says nothing where the attack fails.",
        Unit.NUMBER,
        "higher",
        BACKDOOR,
    ),
    Metric(
        "screen_false_alarms",
        "False alarms at 95 %",
        "Share of the untouched inputs that the lowest threshold which stops 95 % of the triggered ones stops as well. "
        "No defender could choose it: it needs inputs that are known to carry the trigger.",
        better="lower",
        threats=BACKDOOR,
    ),
    Metric(
        "screen_caught",
        "Triggers stopped",
        "Share of the triggered inputs that score above the defender's threshold, which 95 % of trusted images do not "
        "exceed. Some of these are of the attacker's class, which the defender does not know, and can be as suspicious "
        "as triggers.",
        better="higher",
        threats=BACKDOOR,
    ),
    Metric(
        "screen_stopped",
        "Untouched stopped",
        "Share of the untouched inputs that the same threshold stops: 5 % is what it was set for.",
        better="lower",
        threats=BACKDOOR,
        families=(CONTROL,),
    ),
    Metric(
        "screen_stopped_target",
        "Untouched of the target stopped",
        "Share of the untouched inputs of the attacker's class that are stopped, where false alarms gather.",
        better="lower",
        threats=BACKDOOR,
    ),
    Metric(
        "screen_caught_published",
        "Triggers stopped, paper's threshold",
        "Share of the triggered inputs that score above the threshold that the paper names.",
        better="higher",
        threats=BACKDOOR,
    ),
    Metric(
        "screen_stopped_published",
        "Untouched stopped, paper's threshold",
        "Share of the untouched inputs that score above the threshold that the paper names.",
        better="lower",
        threats=BACKDOOR,
    ),
    Metric(
        "screened_accuracy",
        "Accuracy behind the screen",
        "Share of all untouched inputs that are let through and read rightly: a stopped one counts as an error.",
        better="higher",
        threats=BACKDOOR,
    ),
    Metric(
        "screened_asr",
        "Success behind the screen",
        "Share of all triggered inputs that are let through and given the attacker's class.",
        better="lower",
        threats=BACKDOOR,
    ),
    Metric(
        "isolation_precision",
        "Isolation precision",
        "Share of the images set aside in training that are poisoned. Compare with the share of poison in the whole "
        "set.",
        better="higher",
    ),
    Metric(
        "isolation_recall",
        "Isolation recall",
        "Share of the poisoned images that are set aside in training: few suffice to unlearn.",
        better="higher",
    ),
    Metric(
        "recovered_asr",
        "ASR of the recovered trigger",
        "Share of the test images under attack that the trigger recovered by the defense sends to the attacker's "
        "class, on the undefended model. Higher means that the defender has recovered a trigger that works.",
        better="higher",
        threats=BACKDOOR,
    ),
    Metric(
        "recovered_iou",
        "Overlap with the true trigger",
        "Intersection over union of the pixels that the recovered trigger changes at least half as much as its "
        "strongest, and those that the true one changes. 1 is best; a trigger that covers the whole image overlaps "
        "with anything large.",
        Unit.NUMBER,
        "higher",
        BACKDOOR,
    ),
    Metric(
        "surviving_share",
        "Surviving share",
        "How much of the perturbation d is left after purification Psi: ||Psi(x+d) - Psi(x)|| / ||d||, both purified "
        "with the same noise, averaged over the poisons shown. 100 % means that purification did nothing to it, above "
        "100 % that it made the two images more different.",
        better="lower",
        highest=MOST,
    ),
    Metric(
        "setting",
        "Setting",
        "The value of the defense's one free setting, such as the number of channels pruned. It is chosen from the "
        "defender's clean images alone.",
        Unit.NUMBER,
        threats=BACKDOOR,
        families=(ORACLE,),
        lowest=-MOST,
        highest=MOST,
    ),
)

_NAME = re.compile(r"[a-z0-9_]{1,64}")
METRICS: dict[str, Metric] = {}


def register(metric: Metric) -> None:
    """Add a metric to the catalogue.

    Raises:
        ValueError: there is one of this name, or the name is none that records and tables can hold.
    """
    if not _NAME.fullmatch(metric.name):
        raise ValueError(f"metric {metric.name[:80]!r} must be named by up to 64 of a-z, 0-9 and _")
    if metric.name in METRICS:
        raise ValueError(f"metric {metric.name!r} is in the catalogue already; choose another name")
    METRICS[metric.name] = metric


for _metric in _ENTRIES:
    register(_metric)


def find(name: str) -> Metric | None:
    """The metric of a name, which may end in the suffix of one of its families; ``None`` for an unknown one."""
    if name in METRICS:
        return METRICS[name]
    for suffix, family in FAMILIES.items():
        metric = METRICS.get(name.removesuffix(suffix))
        if name.endswith(suffix) and metric is not None and family in metric.families:
            return metric.on(family)
    return None


def check_range(name: str, values: Iterable[float | None]) -> None:
    """Compare what a record says of a metric with the range that it has; what is unknown here has none.

    Raises:
        ValueError: a value is outside; names the metric and its range.
    """
    metric = find(name)
    if metric is None:
        return
    for value in values:
        if value is not None and not metric.lowest - ROUNDING <= value <= metric.highest + ROUNDING:
            raise ValueError(f"{name} must be from {metric.lowest:g} to {metric.highest:g}, and is {value:g}")


# -- by kind of threat --------------------------------------------------------------------------------


def headline(threat: str | None) -> Metric:
    """The metric that tells how far an attack succeeded; of an unknown kind of threat, that of backdoors."""
    asked = threat or "backdoor"
    return next(metric for metric in METRICS.values() if metric.headline and asked in metric.threats)


def summary(threat: str | None) -> list[str]:
    """Names of the numbers that sum up a run, the control of its headline metric behind that."""
    asked = threat or "backdoor"
    names: list[str] = []
    for metric in METRICS.values():
        if not metric.summary or asked not in metric.threats:
            continue
        names.append(metric.name)
        if metric.headline:
            names.append(metric.control or f"{metric.name}{CONTROL.suffix}")
    return names


# -- columns ------------------------------------------------------------------------------------------


def columns() -> list[Metric]:
    """Metrics of which the store keeps a column."""
    return [metric for metric in METRICS.values() if metric.column is not None]


def board() -> list[Metric]:
    """Metrics of which the leaderboard has a column, in the order of the catalogue."""
    return [metric for metric in METRICS.values() if metric.on_board]


def comparable() -> list[Metric]:
    """Rates of the leaderboard that compare defenses: for the heat map, and to sort by."""
    return [metric for metric in board() if metric.rate and not metric.name.endswith(UNDEFENDED.suffix)]


def values(measured: Mapping[str, float | None], threat: str | None) -> dict[str, float | None]:
    """The column values of a run.

    Args:
        measured: the metrics of its record. threat: its kind of threat.
    """
    success = headline(threat).name
    found: dict[str, float | None] = {}
    for metric in columns():
        name = metric.name if metric.stands_for is None else f"{success}{metric.stands_for}"
        found[metric.name] = measured.get(name)
    return found


def largest_first(name: str) -> bool:
    """Whether a column is read from its largest value down: those whose large values are good."""
    metric = find(name)
    return metric is not None and metric.better == "higher"
