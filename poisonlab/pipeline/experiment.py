"""The protocol of an experiment, stage by stage:

    dataset -> poison -> [purify] -> train -> [detect] -> [repair] -> [screen] -> evaluate

Every run measures three models on the same images: a control trained without poison, the undefended
victim, and the defended one. Each stage is cached under the hash of what it depends on, so ten
defenses against one attack craft the poison and train the victim once. A defense that filters has
its victim trained anew without the images that detection flagged.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.cache.stage_cache import run_stage
from poisonlab.context import Context
from poisonlab.data.base import DivisionConfig, data_fingerprint, divide
from poisonlab.defenses.base import ISOLATED
from poisonlab.events import Event, StageFinished
from poisonlab.measure.detection import isolation_metrics
from poisonlab.measure.monitor import while_trained
from poisonlab.models.shared.fit_weights import fit
from poisonlab.models.shared.kept_weights import kept
from poisonlab.pipeline.defend import Defender, Repaired, repair
from poisonlab.pipeline.evaluate import (
    ModelName,
    measure_corruption,
    measure_detection,
    measure_flags,
    measure_models,
    measure_settings,
)
from poisonlab.pipeline.poison import Attacked, carry_out
from poisonlab.pipeline.purify import public_images, purify_sets, surviving_metrics
from poisonlab.pipeline.screen import measure_screening
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.stages import Stage
from poisonlab.training.protocols import Trainer
from poisonlab.training.victims import Victims, outline
from poisonlab.types import Backdoor, Bundle, Corruption, ImageSet, RecoveredTrigger, Splits, joined


@dataclass(frozen=True)
class Result:
    """What a run measured.

    Attributes:
        metrics: flat name -> number; rates in [0, 1]; ``None`` of what is undefined.
        timings: stage -> seconds, 0 for a cached one.
        cached: stages that came from the cache.
        data: fingerprint of the dataset as it was loaded.
        collapsed: which of ``control``, ``undefended`` and ``defended`` gives nearly one answer to every test image.
    """

    metrics: dict[str, float | None]
    timings: dict[str, float]
    cached: list[str]
    data: str
    collapsed: tuple[ModelName, ...]


def run_experiment(spec: ExperimentSpec, ctx: Context) -> Result:
    """Run one spec from the dataset to its metrics.

    Raises:
        Cancelled: ``ctx`` was asked to stop; whole stages stay in the cache.
        DataError, ValueError, Diverged, CacheError: with a message a person can act on.
    """
    timings: dict[str, float] = {}
    cached: list[str] = []

    def send(event: Event) -> None:
        if isinstance(event, StageFinished):
            timings[event.stage] = timings.get(event.stage, 0.0) + event.seconds
            if event.cached:
                cached.append(event.stage)
        ctx.send(event)

    precision = getattr(torch, spec.precision)
    timed = dataclasses.replace(ctx, send=send, seed=spec.seed, precision=precision)
    splits = load(spec, timed.device)
    refuse_what_does_not_fit(spec, splits)
    found, collapsed = measured(spec, splits, timed)
    return Result(found, timings, cached, splits.data, collapsed)


def refuse_what_does_not_fit(spec: ExperimentSpec, splits: Splits) -> None:
    """Raises:
    ValueError: the victim does not take these images, the weights are not the victim's, attack or defense cannot do
        with this victim, the defense not with as few trusted images, or there are fewer images than either asks for.
    """
    train = splits.train
    attack = spec.attack.build()
    attack.check_images(train)
    defender = Defender(spec, splits.reserve, Context(seed=spec.seed))
    defender.method.check_images(splits.public)
    if defender.overrides("check_trusted"):
        defender.method.check_trusted(defender.clean())
    try:
        network = outline(spec.victim, train.shape, len(train.classes))
        if spec.weights:
            fit(network, kept(spec.weights))
        attack.check_network(network, train.shape)
        defender.method.check_network(network, train.shape)
    except (NotImplementedError, RuntimeError, TypeError):  # another's network may not do without numbers
        return


def measured(
    spec: ExperimentSpec, splits: Splits, ctx: Context
) -> tuple[dict[str, float | None], tuple[ModelName, ...]]:
    """The protocol: what a run measures, in the order in which it happens, and which models collapsed."""
    trainer = Trainer(spec, splits, ctx)
    defender = Defender(spec, splits.reserve, ctx)

    attacked = attack_and_prepare(spec, splits, trainer, defender, ctx)
    detected, trigger = measure_detection(attacked, defender, ctx)
    defended = defend(attacked, defender, trainer, ctx)
    screened = measure_screening(attacked, defender, ctx)
    rates, collapsed = evaluate(attacked, defended, trigger, ctx)
    found = (
        rates
        | detected
        | screened
        | _of_corruption(attacked, defended, defender, trainer, ctx)
        | _of_findings(attacked, defended, ctx)
        | _of_settings(spec, attacked, defended, ctx)
    )
    return found, collapsed


def attack_and_prepare(
    spec: ExperimentSpec, splits: Splits, trainer: Trainer, defender: Defender, ctx: Context
) -> Attacked:
    """The attack, and what the defense learns from public images before it meets it."""
    attacked = carry_out(spec, splits, trainer, ctx)
    defender.prepare(public_images(splits.public, spec, attacked.threat, ctx))
    return attacked


def load(spec: ExperimentSpec, device: torch.device) -> Splits:
    """The dataset, divided as the protocol of the spec asks for."""
    pool, test = spec.dataset.build().load()
    division = spec.dataset.params
    assert isinstance(division, DivisionConfig)  # every dataset's parameters say how it is divided
    splits = divide(pool, test, division, spec.protocol).to(device)
    return dataclasses.replace(splits, data=data_fingerprint(pool, test))


@dataclass(frozen=True)
class Defended:
    """What a defense made of an attack.

    Attributes:
        victims: of all trials, in the end.
        sets: what they learned from, one for each trial; the poisoned ones where the defense changes no data.
        surviving: what purification left of the perturbations, as in :class:`~poisonlab.pipeline.purify.Purified`.
        isolated: rows that the defense set aside while each victim was trained, int64 ``(k,)``; empty where its
            training sets none aside.
        repaired: what the repair of a trained model gave.
    """

    victims: Victims
    sets: Sequence[ImageSet]
    surviving: Tensor
    isolated: tuple[Tensor, ...]
    repaired: Repaired | None


def defend(attacked: Attacked, defender: Defender, trainer: Trainer, ctx: Context) -> Defended:
    """The moments of the defense that change data or models; those it does not override cost nothing."""
    poisoned = attacked.sets
    sets: Sequence[ImageSet] = poisoned
    surviving = torch.zeros(0)
    if defender.overrides("purify"):
        purified = purify_sets(attacked.splits.train, attacked.poison, poisoned, defender, ctx)
        sets = purified.sets
        surviving = purified.surviving
    if defender.method.filters:
        sets = defender.without_flagged(poisoned, attacked.undefended)

    victims = attacked.undefended
    isolated: tuple[Tensor, ...] = ()
    hooked = defender.overrides("training_hook")
    if sets is not poisoned or hooked:
        victims = trainer.train(
            Stage.DEFENDED_VICTIM,
            sets,
            attacked.poison.trials,
            make_hook=defender.method.training_hook if hooked else None,
            hook_key=defender.key,
            observer=while_trained(attacked.splits.test, attacked.threat),
        )
        isolated = tuple(learned[ISOLATED] for learned in victims.learned if ISOLATED in learned)
    if not defender.method.repairs():
        return Defended(victims, sets, surviving, isolated, None)
    repaired = repair(defender, victims, sets, attacked.splits.test, attacked.threat)
    return Defended(repaired.victims, sets, surviving, isolated, repaired)


def evaluate(
    attacked: Attacked, defended: Defended, detected: RecoveredTrigger | None, ctx: Context
) -> tuple[dict[str, float | None], tuple[ModelName, ...]]:
    """The three models on the test set, a stage that is always computed: their rates, and which of them collapsed.

    Args:
        detected: the trigger that a detection recovered; it counts before that of a repair.
    """
    models = {"_control": attacked.control, "_undefended": attacked.undefended, "": defended.victims}
    trigger = detected
    if trigger is None and defended.repaired:
        trigger = defended.repaired.findings[0].trigger

    def compute(inner: Context) -> Bundle:
        with inner.autocast():
            found, collapsed = measure_models(attacked.splits.test, attacked.threat, models, trigger, inner)
        return Bundle(data={"metrics": found, "collapsed": collapsed})

    uncached = dataclasses.replace(ctx, cache=None)
    done = run_stage(uncached, Stage.EVALUATE, None, compute).data
    return done["metrics"], done["collapsed"]


def _of_corruption(
    attacked: Attacked, defended: Defended, defender: Defender, trainer: Trainer, ctx: Context
) -> dict[str, float | None]:
    """A corrupted training set is compared with a victim trained on its clean rows and the trusted images."""
    if not isinstance(attacked.threat, Corruption):
        return {}
    clean_rows = attacked.splits.train[~attacked.poisoned_rows()]
    best = trainer.train(Stage.RETRAINED, [joined(clean_rows, defender.clean())])
    return measure_corruption(attacked, best, defended.victims, defender.method.repairs(), ctx)


def _of_findings(attacked: Attacked, defended: Defended, ctx: Context) -> dict[str, float | None]:
    """What the defense found in the first trial, measured against the truth; every trial's flags are recorded."""
    found = surviving_metrics(defended.surviving)
    if defended.isolated:
        found |= isolation_metrics(defended.isolated[0], attacked.poisoned_rows())
    if defended.repaired:
        findings = defended.repaired.findings
        each = [measure_flags(attacked, findings, t, ctx.of_trial(t)) for t in range(len(findings))]
        found |= each[0]
    return found


def _of_settings(
    spec: ExperimentSpec, attacked: Attacked, defended: Defended, ctx: Context
) -> dict[str, float | None]:
    """All settings of a defense with a free one, of a backdoor."""
    sweep = defended.repaired.sweep if defended.repaired else None
    if sweep is None or not isinstance(attacked.threat, Backdoor):
        return {}
    victim = attacked.undefended.member(0)
    return measure_settings(sweep, victim, attacked.splits.test, attacked.threat, spec.attack, ctx)
