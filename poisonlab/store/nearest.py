"""What a stage will take: the seconds of the nearest finished runs, scaled by its work."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from poisonlab import registry
from poisonlab.spec.stages import Scope, Stage, Work
from poisonlab.store.flat_spec import FlatSpec
from poisonlab.store.past import PastRun
from poisonlab.store.work import GENERATIVE, work

# How far apart two runs are by what differs; scaling bridges a difference of work, but not as well as having none.
PER_FACTOR = 0.5  # for each factor e of work
METHOD = 1.0
SIZE = 0.5
HOOKED = 0.6  # the attack or the defense may have a hand in a training
SLIGHTLY = 0.3
OTHER_TRAINING = 0.4  # another stage that trains by the same recipe
ELSEWHERE = 0.7
AS_NEAR = 0.3  # runs not further from the nearest count as well
MOST = 9
LOOKED_AT = 60
LOADED = 1.0  # seconds: a generative model that took less came with the program

_ARCHITECTURES = ("defense.architecture", "defense.ddpm_network")
_ALIKE = (Stage.VICTIM, Stage.CONTROL, Stage.DEFENDED_VICTIM, Stage.RETRAINED, Stage.ATTACKERS_MODEL)


@dataclass(frozen=True)
class Nearest:
    """What past runs say about a stage.

    Attributes:
        seconds: that it will take.
        here: whether this machine measured them.
    """

    seconds: float
    here: bool


def nearest(stage: Stage, spec: FlatSpec, runs: Sequence[PastRun], speed: float = 1.0) -> Nearest | None:
    """The median of the nearest runs' seconds, each scaled by the ratio of the work; ``None`` without such a run.

    Args:
        speed: seconds of this machine for one second of the runs that were measured elsewhere.
    """
    wanted = work(stage, spec)
    close = sorted(_candidates(stage, spec, runs), key=lambda found: found[0])[:LOOKED_AT]
    scaled = []
    for distance, name, run in close:
        seconds = run.seconds[name]
        ratio = _ratio(name, spec, run, wanted)
        if ratio is None:
            continue
        if stage.info.scope is Scope.PUBLIC and seconds < LOADED and ratio != 1:
            continue
        factor = 1.0 if run.here else speed
        scaled.append((distance + PER_FACTOR * abs(math.log(ratio)), seconds * ratio * factor, run.here))
    if not scaled:
        return None
    scaled.sort(key=lambda found: found[0])
    limit = scaled[0][0] + AS_NEAR
    used = [found for found in scaled[:MOST] if found[0] <= limit]
    middle = statistics.median_low(seconds for _, seconds, _ in used)  # a disturbance only ever adds seconds
    return Nearest(middle, used[0][2])


def _ratio(name: Stage, spec: FlatSpec, run: PastRun, wanted: float | None) -> float | None:
    """How many times the work of a past run's stage; ``None`` where that cannot be told."""
    done = run.work(name)
    if wanted and done:
        return wanted / done
    same = (run.spec.methods, run.spec.victim_params) == (spec.methods, spec.victim_params)
    return 1.0 if same and run.spec.values == spec.values else None


def _candidates(stage: Stage, spec: FlatSpec, runs: Sequence[PastRun]) -> list[tuple[float, Stage, PastRun]]:
    """Runs that computed the stage, or one like it, and how far they are apart, their work aside."""
    names = (stage, *(name for name in _ALIKE if name is not stage)) if stage in _ALIKE else (stage,)
    found = []
    for run in runs:
        for name in names:
            distance = apart(stage, spec, name, run) if name in run.seconds else None
            if distance is not None:
                found.append((distance, name, run))
    return found


def apart(stage: Stage, spec: FlatSpec, name: Stage, run: PastRun) -> float | None:
    """How far a run's stage ``name`` is from the wanted one; ``None`` where nothing follows from it."""
    past = run.spec
    by_method = _methods_apart(stage, spec, name, past)
    if by_method is None or (stage in GENERATIVE and _other_model(spec, past)):
        return None
    distance = by_method + (0.0 if run.here else ELSEWHERE)
    distance += METHOD * (past.methods["dataset"] != spec.methods["dataset"])
    victims = (past.methods["victim"], past.victim_params), (spec.methods["victim"], spec.victim_params)
    distance += METHOD * (victims[0] != victims[1])
    distance += SIZE * (past.size != spec.size)
    distance += SIZE * (past.values.get("precision") != spec.values.get("precision"))
    return distance + (OTHER_TRAINING if name is not stage else 0.0)


def _methods_apart(stage: Stage, spec: FlatSpec, name: Stage, past: FlatSpec) -> float | None:
    """The same by protocol, attack and defense alone."""
    same_attack = past.methods["attack"] == spec.methods["attack"]
    same_defense = past.methods["defense"] == spec.methods["defense"]
    trains = stage.info.does is Work.TRAIN and stage.info.scope is not Scope.PUBLIC
    if past.protocol != spec.protocol and trains and stage not in (Stage.EXTRACTOR, Stage.SURROGATE):
        return None
    if stage in (Stage.POISON, Stage.SURROGATE) and not same_attack:
        return None
    defends = stage.info.scope in (Scope.BOTH, Scope.DEFENSE)
    if defends and not trains and not same_defense:
        return None
    distance = SLIGHTLY * (past.protocol != spec.protocol)
    if Stage.VICTIM in (stage, name):
        distance += HOOKED * (not same_attack)
    if Stage.DEFENDED_VICTIM in (stage, name) and not same_defense:
        hooks = (stage, spec), (name, past)
        hooked, past_hooked = (_hooked(defended, of) for defended, of in hooks)
        if hooked != past_hooked and spec.protocol == "linear_transfer":
            return None  # heads on features that were computed once against training on images
        distance += HOOKED
    if not trains:
        distance += SLIGHTLY * (not same_attack) + SLIGHTLY * (not same_defense)
    return distance


def _other_model(spec: FlatSpec, past: FlatSpec) -> bool:
    """Whether generative models are of different kinds, whose work nothing compares."""
    return any(spec.values.get(name) != past.values.get(name) for name in _ARCHITECTURES)


def _hooked(stage: Stage, spec: FlatSpec) -> bool:
    """Whether a defense has a hand in a training."""
    name = spec.methods["defense"]
    known = stage is Stage.DEFENDED_VICTIM and name in registry.defense
    return known and registry.defense[name].overrides("training_hook")


# -- other machines -------------------------------------------------------------------------------------

COMPARED = 40  # stages of this machine
LEAST = 3
WORTH = 0.3  # seconds of a stage that says something about a machine
SLOWEST = 20.0


def speed(runs: Sequence[PastRun]) -> float:
    """Seconds of this machine for one second of those that the other runs were measured on; 1 until that is known."""
    others = [run for run in runs if not run.here]
    ratios: list[float] = []
    for run in runs:
        if not run.here or not others:
            break
        for stage, seconds in run.seconds.items():
            if seconds < WORTH or len(ratios) >= COMPARED:
                continue
            expected = nearest(stage, run.spec, others)
            if expected and expected.seconds >= WORTH:
                ratios.append(seconds / expected.seconds)
    if len(ratios) < LEAST:
        return 1.0
    return min(SLOWEST, max(1 / SLOWEST, statistics.median(ratios)))
