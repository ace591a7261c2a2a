"""Which stages a run will pass through, judged by what its methods do and by past runs of theirs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from poisonlab import registry
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.stages import Stage
from poisonlab.store.past import PastRun

OFTEN = 0.5  # share of the past runs that have a stage, from which on it is expected

# What methods ask for in the midst of their own stages; only past runs tell which of them do.
_IN_POISON = (Stage.ATTACKERS_MODEL, Stage.SURROGATE)
_IN_PREPARATION = (Stage.EBM, Stage.DDPM)
_IN_DEFENSE = (Stage.TRIGGER_SEARCH, Stage.INFLUENCE, Stage.CHOOSING, Stage.OBSERVING)
_DEFENSES_OWN = (Stage.PURIFY, Stage.DETECT, Stage.REPAIR, Stage.DEFENDED_VICTIM)


@dataclass(frozen=True)
class Planned:
    """A stage that a run will pass through.

    Attributes:
        within: the stage in whose midst it is asked for; once that one is whole, nobody asks for it.
    """

    stage: Stage
    within: Stage | None = None


def planned(spec: ExperimentSpec, runs: Sequence[PastRun]) -> list[Planned]:
    """The stages of a run in their order, each before the one in whose midst it is asked for.

    Args:
        runs: finished ones.
    """
    attack = registry.attack[spec.attack.name]
    defense = registry.defense[spec.defense.name]
    threat = attack.threat_kind()
    of_attack = [run for run in runs if run.spec.methods["attack"] == spec.attack.name]
    of_defense = [run for run in runs if run.spec.methods["defense"] == spec.defense.name]
    alike = [run for run in of_defense if _threat(run) == threat] or of_defense
    asked = _frequent(_IN_POISON, _computed(of_attack, (Stage.POISON,)))
    plan = [Planned(stage, Stage.POISON) for stage in asked]
    plan.append(Planned(Stage.POISON))
    if spec.protocol != "from_scratch":
        plan.append(Planned(Stage.EXTRACTOR))
    plan.append(Planned(Stage.CONTROL))
    if attack.poisons:
        plan.append(Planned(Stage.VICTIM))
    plan += _defended(attack, defense, threat, alike)
    if threat == "corruption":
        plan.append(Planned(Stage.RETRAINED))
    if threat == "backdoor":
        plan += [Planned(stage) for stage in _frequent((Stage.SETTINGS,), alike)]
    return plan


def _defended(attack: Any, defense: Any, threat: str | None, alike: list[PastRun]) -> list[Planned]:
    """From the moments of a defense to the evaluation."""
    targeted = threat == "targeted"
    detects = defense.overrides("detect") and (defense.filters or not targeted)
    repairs = defense.repairs()
    inner = _frequent(_IN_DEFENSE, _computed(alike, _DEFENSES_OWN))
    outer = Stage.REPAIR if repairs else Stage.DETECT
    plan: list[Planned] = []
    if defense.overrides("prepare"):
        plan += [Planned(stage) for stage in _frequent(_IN_PREPARATION, alike)]
    if detects:
        if not repairs:
            plan += [Planned(stage, outer) for stage in inner]
        plan.append(Planned(Stage.DETECT))
    if detects and not targeted:
        plan.append(Planned(Stage.DETECT_CONTROL))
    if defense.overrides("screen") and threat == "backdoor":
        plan += [Planned(Stage.SCREEN), Planned(Stage.SCREEN_CONTROL)]
    if defense.overrides("purify"):
        plan.append(Planned(Stage.PURIFY))
        if defense.per_image and attack.poisons:
            plan.append(Planned(Stage.PURIFY_POISONS))
    if defense.retrains():
        plan.append(Planned(Stage.DEFENDED_VICTIM))
    if repairs:
        plan += [Planned(stage, outer) for stage in inner]
        plan.append(Planned(Stage.REPAIR))
        plan += [Planned(stage) for stage in _frequent((Stage.DRIVE,), alike)]
    return [*plan, Planned(Stage.EVALUATE)]


def _computed(runs: list[PastRun], stages: Iterable[Stage]) -> list[PastRun]:
    """Runs that computed one of ``stages``: others could not show what is asked for in their midst."""
    found = [run for run in runs if not run.seconds.keys().isdisjoint(stages)]
    return found or runs


def _frequent(stages: Iterable[Stage], runs: list[PastRun]) -> list[Stage]:
    """Those of ``stages`` that most of the runs have."""
    return [stage for stage in stages if sum(stage in run.stages for run in runs) > OFTEN * len(runs)]


def _threat(run: PastRun) -> str | None:
    name = run.spec.methods["attack"]
    return registry.attack[name].threat_kind() if name in registry.attack else None
