"""What a run measures: its three models on the test set, the detection, the flags, and every setting of a sweep."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from torch import Tensor

from poisonlab.cache.packing import pack
from poisonlab.cache.stage_cache import run_stage
from poisonlab.cache.stage_key import fingerprint, fingerprint_images
from poisonlab.context import Context
from poisonlab.measure import detection, flags, metrics
from poisonlab.measure.galleries import (
    show_detection,
    show_recovered,
    show_setting_sweep,
    show_suspicion,
    show_targets,
    show_trigger,
)
from poisonlab.models.base import Classifier, identity, predict
from poisonlab.pipeline.defend import Defender
from poisonlab.pipeline.poison import Attacked
from poisonlab.spec.config import AttackPart
from poisonlab.spec.stages import Stage
from poisonlab.training.victims import Victims
from poisonlab.types import (
    Backdoor,
    Bundle,
    Corruption,
    Findings,
    ImageSet,
    RecoveredTrigger,
    SettingSweep,
    Targeted,
    Threat,
)

ModelName = Literal["control", "undefended", "defended"]
MODELS: dict[str, ModelName] = {
    "_control": "control",
    "_undefended": "undefended",
    "": "defended",
}  # by suffix


def measure_detection(
    attacked: Attacked, defender: Defender, ctx: Context
) -> tuple[dict[str, float | None], RecoveredTrigger | None]:
    """Detection on the victim with its training set, and on the control with its own: false alarms count, too.

    Where nobody attacks, only scores of images are measured: there is no backdoor to be named.

    Returns:
        What was measured, and the trigger that the detection recovered from the victim, if it looks for one.
    """
    threat = attacked.threat
    if isinstance(threat, Targeted) or not defender.overrides("detect"):
        return {}, None
    train = attacked.splits.train
    victim = attacked.undefended.member(0)
    found = defender.detect_trial(0, attacked.undefended, attacked.sets[0])
    found_control = defender.detect(Stage.DETECT_CONTROL, attacked.control.member(0), train)
    if found is None or found_control is None:
        return {}, None
    poisoned = attacked.poisoned_rows()
    show_suspicion(found, found_control, poisoned, ctx)
    measured = detection.sample_metrics(found, found_control, poisoned)
    if not isinstance(threat, Backdoor):
        return measured, None
    target = threat.target_class if attacked.poison.budget else None
    show_detection(found, found_control, target, train.classes, ctx)
    show_recovered(found, victim, defender.clean(), ctx)
    measured = detection.verdicts(found, found_control, target) | measured
    return measured, detection.recovered_trigger(found)


def measure_models(
    test: ImageSet,
    threat: Threat,
    models: Mapping[str, Victims],
    recovered: RecoveredTrigger | None,
    ctx: Context,
) -> tuple[dict[str, float | None], tuple[ModelName, ...]]:
    """Rates of the control, the undefended and the defended victims, each under its suffix, and which collapsed.

    Args:
        models: ``_control``, ``_undefended`` and the empty suffix of the defended ones.
        recovered: a trigger that the defense found, if it looked for one.
    """
    out: dict[str, float | None] = {}
    collapsed: list[ModelName] = []
    measured: dict[int, tuple[dict[str, float | None], bool]] = {}
    triggered = metrics.Triggered.of(test, threat) if isinstance(threat, Backdoor) else None
    for done, (suffix, victims) in enumerate(models.items(), 1):
        if id(victims) not in measured:  # where a defense changes no model, the defended are the undefended
            measured[id(victims)] = _rates(victims, test, triggered)
        rates, fallen = measured[id(victims)]
        out |= {f"{name}{suffix}": value for name, value in rates.items()}
        if fallen:
            collapsed.append(MODELS[suffix])
            ctx.log(
                f"the {MODELS[suffix]} model collapsed: it gives nearly one answer to all test images",
                "warning",
            )
        ctx.progress(done, len(models))
    return out | _compared(out, test, threat, models, recovered, ctx), tuple(collapsed)


def _rates(
    victims: Victims, test: ImageSet, triggered: metrics.Triggered | None
) -> tuple[dict[str, float | None], bool]:
    """What victims are right and wrong about, and whether they collapsed."""
    predicted = victims.predict(test.x)
    rates: dict[str, float | None] = {"clean_accuracy": metrics.share(predicted == test.y)}
    if triggered:
        rates |= metrics.backdoor_metrics(victims.predict, triggered)
    return rates, metrics.collapsed(predicted, test.y)


def _compared(
    rates: Mapping[str, float | None],
    test: ImageSet,
    threat: Threat,
    models: Mapping[str, Victims],
    recovered: RecoveredTrigger | None,
    ctx: Context,
) -> dict[str, float | None]:
    """What each kind of threat adds to the rates of the single models."""
    if isinstance(threat, Corruption):
        return metrics.accuracy_losses(rates)
    if isinstance(threat, Targeted):
        return _target_metrics(threat, models, test.classes, ctx)
    before = rates["clean_accuracy_undefended"], rates["asr_undefended"]
    found = {"der": metrics.der(*before, rates["clean_accuracy"], rates["asr"])}
    show_trigger(test, threat, models["_undefended"].predict, models[""].predict, ctx)
    if recovered:
        found |= detection.trigger_metrics(recovered, models["_undefended"].member(0), test, threat)
    return found


def _target_metrics(
    threat: Targeted, models: Mapping[str, Victims], classes: tuple[str, ...], ctx: Context
) -> dict[str, float | None]:
    """How many targets each model gives the attacker's class, and with which probability."""
    predicted = {
        suffix: metrics.targeted_predictions(victims.predict, threat) for suffix, victims in models.items()
    }
    probability = {
        suffix: metrics.adversarial_probabilities(victims.probabilities, threat)
        for suffix, victims in models.items()
    }
    show_targets(threat, predicted, probability, classes, ctx)
    success = {
        f"poison_success{suffix}": metrics.poison_success(p, threat) for suffix, p in predicted.items()
    }
    mean = {f"adversarial_probability{suffix}": metrics.share(p) for suffix, p in probability.items()}
    return success | mean | {"targets": float(len(threat.images))}


def measure_flags(
    attacked: Attacked, findings: tuple[Findings, ...], trial: int, ctx: Context
) -> dict[str, float | None]:
    """What a repair's flags in the training set of one trial are worth; nothing of one that flags no images."""
    found = findings[trial].flags
    if found is None:
        return {}
    train = attacked.splits.train
    poisoned = attacked.poisoned_rows(trial)
    flags.show_flags(found, poisoned, attacked.sets[trial], train, ctx)
    return flags.flag_metrics(found, poisoned, train)


def measure_corruption(
    attacked: Attacked, best: Victims, defended: Victims, repairs: bool, ctx: Context
) -> dict[str, float | None]:
    """How a victim does that perfect knowledge would give, and how much of the training set is corrupted.

    Args:
        best: trained on the clean rows and the trusted images: no defender knows which rows these are.
        repairs: whether the defended victims are repaired ones.
    """
    test = attacked.splits.test
    if repairs:
        flags.show_confusion(attacked.undefended.member(0), defended.member(0), test, ctx)
    return {
        "clean_accuracy_retrained": metrics.clean_accuracy(best.predict, test),
        "corrupted": attacked.poisoned_rows().double().mean().item(),
    }


def measure_settings(
    sweep: SettingSweep,
    model: Classifier,
    test: ImageSet,
    threat: Backdoor,
    attack: AttackPart,
    ctx: Context,
) -> dict[str, float | None]:
    """Every setting of a defense's sweep: for the curve, and for the oracle that published tables use.

    Each is measured on the first ``SWEPT`` test images; what the oracle names, on all of them.

    Args:
        model: the undefended victim.
        attack: decides what a trigger should lead to.
    """

    some = test[: metrics.SWEPT]
    triggered = metrics.Triggered.of(some, threat)

    def measured(
        network: Classifier, images: ImageSet, triggered: metrics.Triggered
    ) -> dict[str, float | None]:
        predictor = partial(_one_trial, network)
        with ctx.autocast():
            accuracy = metrics.clean_accuracy(predictor, images)
            return {"clean_accuracy": accuracy} | metrics.backdoor_metrics(predictor, triggered)

    def compute(inner: Context) -> Bundle:
        rates = rates_of_each(sweep, model, lambda network: measured(network, some, triggered), inner)
        accuracies = [found["clean_accuracy"] for found in rates]
        asr = [found["asr"] for found in rates]
        oracle = metrics.oracle(accuracies, asr)
        if oracle is None:  # measured on no image
            chosen = dict.fromkeys((*rates[0], "setting"))
        else:
            show_setting_sweep(sweep, accuracies, asr, oracle, inner)
            best = rates[oracle]
            if len(test) > len(some):
                network = sweep.apply(model, oracle)
                best = measured(network, test, metrics.Triggered.of(test, threat))
            chosen = best | {"setting": float(sweep.settings[oracle])}
        return Bundle(data={f"{name}_oracle": value for name, value in chosen.items()})

    packed = pack(sweep)
    key = [
        identity(model),
        fingerprint(*(value for _, value in sorted(packed.tensors.items()))),
        fingerprint_images([test]),
        fingerprint(triggered.x, triggered.true, triggered.adversarial),
        [packed.data, attack],
    ]
    of_oracle = run_stage(ctx, Stage.SETTINGS, key, compute).data
    return {"setting": float(sweep.settings[sweep.chosen])} | of_oracle


def rates_of_each(
    sweep: SettingSweep,
    model: Classifier,
    measured: Callable[[Classifier], dict[str, float | None]],
    ctx: Context,
) -> list[dict[str, float | None]]:
    """What is measured of the network under each setting; equal networks are measured once."""
    known: dict[str, dict[str, float | None]] = {}
    rates = []
    count = len(sweep.settings)
    for position in ctx.track(range(count), count):
        network = sweep.apply(model, position)
        weights = fingerprint(*network.state_dict().values())
        if weights not in known:
            known[weights] = measured(network)
        rates.append(known[weights])
    return rates


def _one_trial(model: Classifier, x: Tensor) -> Tensor:
    return predict(model, x)[None]
