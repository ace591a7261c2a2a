"""What the experimenter, who knows everything, records for the pages. Nothing here decides a number."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.measure.detection import recovered_trigger, with_trigger
from poisonlab.measure.screening import Inputs, threshold
from poisonlab.models.base import Classifier, predict
from poisonlab.records import artifacts
from poisonlab.types import (
    Backdoor,
    ChannelScores,
    Detection,
    ImageSet,
    Poison,
    Screening,
    SettingSweep,
    Targeted,
)

SHOWN = 24  # images of a gallery


def examples(poison: Poison, count: int) -> tuple[Tensor, Tensor]:
    """``(trial, position)`` of up to ``count`` poisons, spread over the trials."""
    per_trial = max(1, count // poison.trials)
    trial = torch.arange(poison.trials).repeat_interleave(min(per_trial, poison.budget))
    position = torch.arange(min(per_trial, poison.budget)).repeat(poison.trials)
    return trial[:count], position[:count]


def show_poison(train: ImageSet, poison: Poison, ctx: Context) -> None:
    """Some poisoned images beside what they were; nothing where nothing is poisoned."""
    if poison.budget == 0:
        return
    trial, position = examples(poison, SHOWN)
    rows = poison.index[trial, position]
    ctx.artifact(
        "poison",
        artifacts.PoisonGallery(
            train.x[rows],
            poison.images[trial, position],
            train.y[rows],
            poison.labels[trial, position],
            list(train.classes),
        ),
    )


def show_trigger(
    test: ImageSet,
    threat: Backdoor,
    undefended: Callable[[Tensor], Tensor],
    defended: Callable[[Tensor], Tensor],
    ctx: Context,
) -> None:
    """The true trigger on test images it would be used on, and what the first victim says of them.

    Args:
        undefended, defended: uint8 images ``(n, c, h, w)`` -> classes ``(trials, n)``.
    """
    images = test[threat.attacked(test.y)][:SHOWN]
    triggered = threat.trigger(images.x)
    ctx.artifact(
        "true_trigger",
        artifacts.TriggerTruth(
            images.x,
            triggered,
            -1 if threat.target_class is None else threat.target_class,
            list(test.classes),
            true_labels=images.y,
            clean_undefended=undefended(images.x)[0],
            triggered_undefended=undefended(triggered)[0],
            triggered_defended=defended(triggered)[0],
        ),
    )


def show_targets(
    threat: Targeted,
    predicted: dict[str, Tensor],
    probability: dict[str, Tensor],
    classes: tuple[str, ...],
    ctx: Context,
) -> None:
    """Every target with the answers of the models ``_control``, ``_undefended`` and ``""``.

    Args:
        predicted: the class that each gives its target. probability: what it gives the attacker's class, in [0, 1].
    """
    ctx.artifact(
        "targets",
        artifacts.TargetGallery(
            threat.images,
            threat.true_labels,
            threat.adversarial_labels,
            predicted["_control"],
            predicted["_undefended"],
            predicted[""],
            list(classes),
            torch.stack([probability["_control"], probability["_undefended"], probability[""]]).float(),
        ),
    )


def show_setting_sweep(
    sweep: SettingSweep,
    accuracy: Sequence[float | None],
    asr: Sequence[float | None],
    oracle: int,
    ctx: Context,
) -> None:
    """What every setting of a defense's sweep would have given, with the rule's and the oracle's choice.

    What is undefined is drawn as a gap.
    """

    def curve(values: Sequence[float | None]) -> Tensor:
        return torch.tensor([math.nan if v is None else v for v in values], dtype=torch.float32)

    ctx.artifact(
        "settings",
        artifacts.SettingsCurve(
            settings=sweep.settings,
            accuracy=curve(accuracy),
            asr=curve(asr),
            clean_score=sweep.clean_score,
            chosen=sweep.chosen,
            oracle=oracle,
            setting_name=sweep.setting_name,
            stand_in=sweep.stand_in,
            by_rule=sweep.by_rule,
        ),
    )


def activation_drive(
    model: Classifier, modules: Sequence[str], clean: Tensor, triggered: Tensor
) -> list[Tensor]:
    """Mean activation of each channel on triggered images minus on clean ones, ``(channels,)`` for each module.

    Args:
        clean, triggered: uint8 ``(n, c, h, w)``.
    """
    means: dict[str, list[Tensor]] = {name: [] for name in modules}
    parts = dict(model.named_modules())

    def keep(name: str, output: Tensor) -> None:
        means[name].append(output.float().mean((0, 2, 3)) * len(output))

    hooks = [parts[n].register_forward_hook(lambda _m, _i, out, name=n: keep(name, out)) for n in modules]
    try:
        totals = []
        for images in (clean, triggered):
            predict(model, images)
            totals.append([torch.stack(means[name]).sum(0) / len(images) for name in modules])
            for sums in means.values():
                sums.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return [after - before for before, after in zip(*totals, strict=True)]


def show_drive(scores: ChannelScores, drive: Sequence[Tensor], change: Tensor | None, ctx: Context) -> None:
    """What the trigger does to each channel beside its score.

    Args:
        drive: ``(channels,)`` of each scored module.
        change: ``(channels,)``, how much unlearning triggered images changes each; ``None`` where that is not known.
    """
    relative = torch.zeros(0)
    if change is not None:
        relative = change / change.max().clamp_min(torch.finfo(change.dtype).tiny)
    ctx.artifact(
        "drive",
        artifacts.ActivationDrive(
            [module.removeprefix("body.") for module in scores.modules],
            torch.arange(len(drive)).repeat_interleave(torch.tensor([len(part) for part in drive])),
            scores.values.cpu(),
            torch.cat(list(drive)).cpu(),
            relative.cpu(),
            scores.score,
            scores.low_is_blamed,
        ),
    )


def show_detection(
    victim: Detection,
    control: Detection,
    target_class: int | None,
    classes: tuple[str, ...],
    ctx: Context,
) -> None:
    """Scores of classes, the victim's beside the control's."""

    def number(label: int | None) -> int:
        return -1 if label is None else label

    ctx.artifact(
        "class_anomaly",
        artifacts.ClassAnomaly(
            victim.class_scores,
            control.class_scores,
            victim.threshold,
            number(victim.target),
            number(control.target),
            number(target_class),
            victim.score,
            list(classes),
        ),
    )


def show_suspicion(victim: Detection, control: Detection, poisoned: Tensor, ctx: Context) -> None:
    """Scores of training images, the victim's beside the control's. ``poisoned`` is bool ``(n,)``."""
    scores = victim.sample_scores
    flagged = victim.flagged
    if scores is None or flagged is None or control.sample_scores is None or control.flagged is None:
        return
    shares = [a.double().mean().item() for a in (flagged[~poisoned], flagged[poisoned], control.flagged)]
    ctx.artifact(
        "suspicion",
        artifacts.SampleSuspicion(scores[~poisoned], scores[poisoned], control.sample_scores, *shares),
    )


def show_screening(
    victim: Screening,
    control: Screening,
    inputs: Inputs,
    answers: Tensor,
    classes: tuple[str, ...],
    ctx: Context,
) -> None:
    """Scores of inputs, the victim's beside the control's, and some of the inputs: of each kind and fate as many.

    Args:
        answers: int64 ``(n,)``, what the victim says of the inputs.
    """
    limit = threshold(victim.trusted)
    stopped = victim.scores > limit
    untouched = inputs.untouched
    kinds = [inputs.triggered == kind for kind in (True, False)]
    groups = [kind & fate for kind in kinds for fate in (stopped, ~stopped)]
    rows = torch.cat([group.nonzero().squeeze(1)[: SHOWN // len(groups)] for group in groups])
    ctx.artifact(
        "screening",
        artifacts.ScreeningReview(
            victim.scores[untouched],
            victim.scores[inputs.triggered],
            control.scores[untouched],
            control.scores[inputs.triggered],
            limit if math.isfinite(limit) else None,
            victim.limit,
            inputs.x[rows],
            victim.scores[rows],
            inputs.triggered[rows],
            stopped[rows],
            inputs.true[rows],
            answers[rows],
            list(classes),
        ),
    )


def show_recovered(found: Detection, model: Classifier, clean: ImageSet, ctx: Context) -> None:
    """The triggers that a detection recovered: that of the most suspected class, and all of them."""
    trigger = recovered_trigger(found)
    if trigger is None or trigger.masks is None:
        return
    classes = list(clean.classes)
    predicted = predict(model, with_trigger(clean.x, trigger))
    histogram = torch.bincount(predicted, minlength=len(classes))
    norm = trigger.masks.flatten(1).sum(1)
    ctx.artifact(
        "trigger",
        artifacts.TriggerReconstruction(trigger.patterns, histogram[None], norm, classes, trigger.masks),
    )
    labels = found.trigger_classes
    patterns = found.patterns
    masks = found.masks
    if labels is not None and patterns is not None and masks is not None and len(labels) > 1:
        ctx.artifact("class_triggers", artifacts.ClassTriggers(patterns, masks, labels, classes))
