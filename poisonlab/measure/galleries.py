"""What the experimenter, who knows everything, records for the pages. Nothing here decides a number."""

import dataclasses

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.measure.detection import with_trigger
from poisonlab.measure.monitor import Observer
from poisonlab.models.base import Classifier, predict
from poisonlab.records import artifacts
from poisonlab.training.loop import Diverged
from poisonlab.types import Backdoor, Bundle, Detection, ImageSet, Poison, SettingSweep, Targeted

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


def show_trigger(test: ImageSet, threat: Backdoor, ctx: Context) -> None:
    """The true trigger on test images it would be used on."""
    images = (test if threat.target_class is None else test[test.y != threat.target_class])[:SHOWN]
    target = -1 if threat.target_class is None else threat.target_class
    ctx.artifact(
        "true_trigger", artifacts.TriggerTruth(images.x, threat.trigger(images.x), target, list(test.classes))
    )


def show_targets(
    threat: Targeted,
    said: dict[str, Tensor],
    probability: dict[str, Tensor],
    classes: tuple[str, ...],
    ctx: Context,
) -> None:
    """Every target with the answers of the models ``_control``, ``_undefended`` and ``""``.

    Args:
        said: the class each calls its target. probability: what it gives the attacker's class, in [0, 1].
    """
    ctx.artifact(
        "targets",
        artifacts.TargetGallery(
            threat.images,
            threat.true_labels,
            threat.adversarial_labels,
            said["_control"],
            said["_undefended"],
            said[""],
            list(classes),
            torch.stack([probability["_control"], probability["_undefended"], probability[""]]).float(),
        ),
    )


def show_setting_sweep(
    sweep: SettingSweep, accuracy: list[float], asr: list[float], oracle: int, ctx: Context
) -> None:
    """What every setting of a defense's sweep would have given, with the rule's and the oracle's choice."""
    curves = (torch.tensor(values, dtype=torch.float32) for values in (accuracy, asr))
    ctx.artifact(
        "settings",
        artifacts.SettingsCurve(
            sweep.settings,
            *curves,
            sweep.clean_score,
            sweep.chosen,
            oracle,
            sweep.setting_name,
            sweep.stand_in,
            sweep.by_rule,
        ),
    )


def activation_drive(model: Classifier, modules: list[str], clean: Tensor, triggered: Tensor) -> list[Tensor]:
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


def show_drive(
    defense: Defense,
    model: Classifier,
    scores: artifacts.NeuronScores,
    seen: Observer,
    count: int,
    ctx: Context,
) -> Bundle:
    """What the trigger does to each channel beside its score, and how much it changes when ``count`` triggered images,
    which no defender has, are unlearned."""
    parts = activation_drive(model, scores.modules, seen.victims.x, seen.triggered)
    poisoned = dataclasses.replace(seen.victims, x=seen.triggered, y=seen.wanted)[:count]
    try:
        change = defense.change_by_unlearning(model, poisoned, ctx)
    except Diverged as error:  # only a picture is lost
        ctx.log(f"no weight change of triggered images to show: {error}", "warning")
        change = None
    change = (
        torch.zeros(0) if change is None else change / change.max().clamp_min(torch.finfo(change.dtype).tiny)
    )
    ctx.artifact(
        "drive",
        artifacts.ActivationDrive(
            scores.layers,
            torch.arange(len(parts)).repeat_interleave(torch.tensor([len(p) for p in parts])),
            scores.values,
            torch.cat(parts).cpu(),
            change.cpu(),
            scores.score,
            scores.low_is_blamed,
        ),
    )
    return Bundle()


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
    scores, flagged = victim.sample_scores, victim.flagged
    if scores is None or flagged is None or control.sample_scores is None or control.flagged is None:
        return
    shares = [a.double().mean().item() for a in (flagged[~poisoned], flagged[poisoned], control.flagged)]
    ctx.artifact(
        "suspicion",
        artifacts.SampleSuspicion(scores[~poisoned], scores[poisoned], control.sample_scores, *shares),
    )


def show_recovered(found: Detection, model: Classifier, clean: ImageSet, ctx: Context) -> None:
    """The triggers that a detection recovered: that of the most suspected class, and all of them."""
    if found.trigger_classes is None or found.patterns is None or found.masks is None:
        return
    row = int(found.class_scores[found.trigger_classes].argmax())
    pattern, mask = found.patterns[row : row + 1], found.masks[row : row + 1]
    norm, classes = mask.flatten(1).sum(1), list(clean.classes)
    blank = artifacts.TriggerReconstruction(pattern, torch.zeros(1, len(classes)).long(), norm, classes, mask)
    said = torch.bincount(predict(model, with_trigger(clean.x, blank)), minlength=len(classes))
    ctx.artifact("trigger", artifacts.TriggerReconstruction(pattern, said[None], norm, classes, mask))
    if len(found.trigger_classes) > 1:
        ctx.artifact(
            "class_triggers",
            artifacts.ClassTriggers(found.patterns, found.masks, found.trigger_classes, classes),
        )
