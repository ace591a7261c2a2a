"""What a run measures on the test set: its three models, and every setting of a repair's sweep."""

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from poisonlab.cache.stage_cache import run_stage
from poisonlab.cache.stage_key import fingerprint, fingerprint_images
from poisonlab.context import Context
from poisonlab.measure import detection, metrics
from poisonlab.measure.galleries import show_setting_sweep, show_targets, show_trigger
from poisonlab.models.base import Classifier, identity, predict
from poisonlab.records.artifacts import TriggerReconstruction
from poisonlab.spec.config import AttackPart
from poisonlab.training.victims import Victims
from poisonlab.types import Backdoor, Bundle, Corruption, ImageSet, SettingSweep, Threat


def measure_models(
    test: ImageSet,
    threat: Threat,
    models: Mapping[str, Victims],
    recovered: TriggerReconstruction | None,
    ctx: Context,
) -> dict[str, float]:
    """Rates of the control, the undefended and the defended victims, each under its suffix.

    Args:
        models: ``_control``, ``_undefended`` and the empty suffix of the defended ones.
        recovered: a trigger that the defense found, if it looked for one.
    """
    out: dict[str, float] = {}
    for done, (suffix, victims) in enumerate(models.items(), 1):
        out[f"clean_accuracy{suffix}"] = metrics.clean_accuracy(victims.predict, test)
        if isinstance(threat, Backdoor):
            measured = metrics.backdoor_metrics(victims.predict, test, threat)
            out |= {f"{name}{suffix}": value for name, value in measured.items()}
        ctx.progress(done, len(models))
    if isinstance(threat, Backdoor):
        before = out["clean_accuracy_undefended"], out["asr_undefended"]
        out["der"] = metrics.der(*before, out["clean_accuracy"], out["asr"])
        show_trigger(test, threat, ctx)
        if recovered and threat.target_class is not None:
            out |= detection.trigger_metrics(recovered, models["_undefended"].member(0), test, threat)
        return out
    if isinstance(threat, Corruption):
        return out | metrics.accuracy_losses(out)
    said = {s: metrics.targeted_predictions(v.predict, threat) for s, v in models.items()}
    out |= {f"poison_success{s}": metrics.poison_success(p, threat) for s, p in said.items()}
    probability = {s: metrics.adversarial_probabilities(v.probabilities, threat) for s, v in models.items()}
    out |= {f"adversarial_probability{s}": p.double().mean().item() for s, p in probability.items()}
    out["targets"] = float(len(threat.images))
    show_targets(threat, said, probability, test.classes, ctx)
    return out


def measure_settings(
    sweep: SettingSweep,
    model: Classifier,
    test: ImageSet,
    threat: Backdoor,
    attack: AttackPart,
    ctx: Context,
) -> dict[str, float]:
    """Every setting of a defense's sweep: for the curve, and for the oracle that published tables use.

    Args:
        model: the undefended victim.
        attack: decides what a trigger should lead to.
    """

    def compute(inner: Context) -> Bundle:
        accuracy, asr, robust = [], [], []
        for position in inner.track(range(len(sweep.settings)), len(sweep.settings)):
            predictor = partial(_one_trial, sweep.apply(model, position))
            accuracy.append(metrics.clean_accuracy(predictor, test))
            found = metrics.backdoor_metrics(predictor, test, threat)
            asr.append(found["asr"])
            robust.append(found["robust_accuracy"])
        oracle = metrics.oracle(accuracy, asr)
        show_setting_sweep(sweep, accuracy, asr, oracle, inner)
        chosen = {"accuracy": accuracy[oracle], "asr": asr[oracle], "robust_accuracy": robust[oracle]}
        return Bundle(data={"oracle": chosen, "setting": float(sweep.settings[oracle])})

    key = [
        identity(model),
        fingerprint(*(value for _, value in sorted(sweep.tensors().items()))),
        fingerprint_images([test]),
        fingerprint(threat.trigger(test.x), threat.relabel(test.y)),
        [sweep.data(), attack],
    ]
    done = run_stage(ctx, "settings", key, compute).data
    return {
        "clean_accuracy_oracle": done["oracle"]["accuracy"],
        "asr_oracle": done["oracle"]["asr"],
        "robust_accuracy_oracle": done["oracle"]["robust_accuracy"],
        "setting": float(sweep.settings[sweep.chosen]),
        "setting_oracle": done["setting"],
    }


def _one_trial(model: Classifier, x: Tensor) -> Tensor:
    return predict(model, x)[None]
