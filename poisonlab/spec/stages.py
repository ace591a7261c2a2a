"""The stages of a run, once: what each does, what people call it, and which parameters take its memory and its time.

Messages about failures, time slices, estimates and pages read it here. It lies in ``spec``, below ``pipeline``, because
training, generative models and defenses start stages of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Protocol


class Work(StrEnum):
    """What a stage does."""

    POISON = "poison"
    TRAIN = "train"
    PURIFY = "purify"
    DETECT = "detect"
    SCREEN = "screen"
    REPAIR = "repair"
    EVALUATE = "evaluate"


class Scope(StrEnum):
    """Which part of a spec decides what a stage computes, besides the dataset."""

    ATTACK = "attack"  # victim, recipe and attack: every defense shares it
    ATTACK_AND_CLEAN = "attack and clean images"
    PUBLIC = "defense on public images"  # whatever the attack and the seed
    DEFENSE = "defense"  # whatever the attack
    BOTH = "attack and defense"
    UNCACHED = "measured anew in every run"


@dataclass(frozen=True)
class StageInfo:
    """What is known of a stage.

    Attributes:
        does: the kind of work.
        label: for people.
        scope: which part of the spec decides the result.
        memory: patterns of dotted parameters that decide how much it holds at once, the most effective first.
        time: patterns of dotted parameters that decide how long it takes.

    ``recipe`` in a pattern stands for the recipe of the spec's protocol: ``training``, ``head`` or ``fine_tune``.
    """

    does: Work
    label: str
    scope: Scope
    memory: tuple[str, ...] = ()
    time: tuple[str, ...] = ()


class Stage(StrEnum):
    """The name of a stage, as events and records have it."""

    POISON = "poison"
    ATTACKERS_MODEL = "attackers_model"
    SURROGATE = "surrogate"
    EXTRACTOR = "extractor"
    CONTROL = "control"
    VICTIM = "victim"
    EBM = "ebm"
    DDPM = "ddpm"
    PURIFY = "purify"
    PURIFY_POISONS = "purify_poisons"
    DEFENDED_VICTIM = "defended_victim"
    DETECT = "detect"
    DETECT_CONTROL = "detect_control"
    SCREEN = "screen"
    SCREEN_CONTROL = "screen_control"
    TRIGGER_SEARCH = "trigger_search"
    INFLUENCE = "influence"
    REPAIR = "repair"
    DRIVE = "drive"
    RETRAINED = "retrained"
    EVALUATE = "evaluate"
    SETTINGS = "settings"
    CHOOSING = "choosing"
    OBSERVING = "observing"

    @property
    def info(self) -> StageInfo:
        return _INFO[self]


_FROM_SCRATCH = (("training.batch_size", "dataset.train_images"), ("training.epochs",))
_BY_RECIPE = (("recipe.batch_size", "dataset.train_images"), ("recipe.epochs",))
_ON_IMAGES = ("dataset.train_images", "dataset.test_images")
_BATCHES = ("defense.*batch*",)
_REPETITIONS = ("*epochs", "*steps", "*iterations", "*rounds", "*repeats", "*passes", "*updates")
_OF_DEFENSE = tuple(f"defense.{pattern}" for pattern in _REPETITIONS)
_OF_ATTACK = (
    "attack.targets",
    "attack.restarts",
    "attack.copies",
    *(f"attack.{pattern}" for pattern in _REPETITIONS),
)

_INFO = {
    Stage.POISON: StageInfo(
        Work.POISON,
        "Poisons",
        Scope.ATTACK,
        ("attack.*batch*", "attack.targets", "attack.poisons"),
        _OF_ATTACK,
    ),
    Stage.ATTACKERS_MODEL: StageInfo(Work.TRAIN, "Attacker's model", Scope.ATTACK, *_BY_RECIPE),
    Stage.SURROGATE: StageInfo(
        Work.TRAIN,
        "Surrogate of the attacker",
        Scope.ATTACK,
        ("attack.surrogates", "attack.models", "training.batch_size"),
        ("attack.surrogates", "attack.models", "training.epochs"),
    ),
    Stage.EXTRACTOR: StageInfo(Work.TRAIN, "Pretrained extractor", Scope.ATTACK, *_FROM_SCRATCH),
    Stage.CONTROL: StageInfo(Work.TRAIN, "Control", Scope.ATTACK, *_BY_RECIPE),
    Stage.VICTIM: StageInfo(Work.TRAIN, "Undefended victim", Scope.ATTACK, *_BY_RECIPE),
    Stage.EBM: StageInfo(
        Work.TRAIN,
        "Energy model",
        Scope.PUBLIC,
        ("defense.batch_size", "defense.bank_size"),
        ("defense.updates", "defense.chain_steps"),
    ),
    Stage.DDPM: StageInfo(
        Work.TRAIN,
        "Diffusion model",
        Scope.PUBLIC,
        ("defense.ddpm_batch_size",),
        ("defense.ddpm_updates",),
    ),
    Stage.PURIFY: StageInfo(Work.PURIFY, "Purified images", Scope.DEFENSE, _BATCHES, _OF_DEFENSE),
    Stage.PURIFY_POISONS: StageInfo(Work.PURIFY, "Purified poisons", Scope.BOTH, _BATCHES, _OF_DEFENSE),
    Stage.DEFENDED_VICTIM: StageInfo(Work.TRAIN, "Defended victim", Scope.BOTH, *_BY_RECIPE),
    Stage.DETECT: StageInfo(Work.DETECT, "Detection", Scope.BOTH, _BATCHES, _OF_DEFENSE),
    Stage.DETECT_CONTROL: StageInfo(
        Work.DETECT, "Detection on the control", Scope.BOTH, _BATCHES, _OF_DEFENSE
    ),
    Stage.SCREEN: StageInfo(Work.SCREEN, "Screening of inputs", Scope.BOTH, _BATCHES, _OF_DEFENSE),
    Stage.SCREEN_CONTROL: StageInfo(
        Work.SCREEN, "Screening on the control", Scope.BOTH, _BATCHES, _OF_DEFENSE
    ),
    Stage.TRIGGER_SEARCH: StageInfo(
        Work.DETECT,
        "Trigger search",
        Scope.BOTH,
        ("defense.search_batch",),
        ("defense.rounds", "defense.steps"),
    ),
    Stage.INFLUENCE: StageInfo(
        Work.DETECT, "Influence of the images", Scope.BOTH, _BATCHES, ("defense.adapt_epochs",)
    ),
    Stage.REPAIR: StageInfo(Work.REPAIR, "Repair", Scope.BOTH, _BATCHES, _OF_DEFENSE),
    Stage.DRIVE: StageInfo(Work.EVALUATE, "Activation drive", Scope.BOTH, _ON_IMAGES),
    Stage.RETRAINED: StageInfo(Work.TRAIN, "Retrained model", Scope.ATTACK_AND_CLEAN, *_BY_RECIPE),
    Stage.EVALUATE: StageInfo(Work.EVALUATE, "Evaluation", Scope.UNCACHED, _ON_IMAGES, _ON_IMAGES),
    Stage.SETTINGS: StageInfo(Work.EVALUATE, "Sweep of settings", Scope.BOTH, _ON_IMAGES, _ON_IMAGES),
    Stage.CHOOSING: StageInfo(Work.REPAIR, "Choice of a setting", Scope.BOTH, time=("clean_images",)),
    Stage.OBSERVING: StageInfo(Work.EVALUATE, "Observation of the repair", Scope.UNCACHED, _ON_IMAGES),
}

_BY_NAME = {stage.value: stage for stage in Stage}


def find(name: str) -> Stage | None:
    """The stage of a name; ``None`` for one that a method of another package, or an older program, made up."""
    return _BY_NAME.get(name)


def changing() -> list[str]:
    """Names of the stages by which a defense changes what is trained on, how, or the network itself."""
    changes = [stage.value for stage in Stage if stage.info.does in (Work.PURIFY, Work.REPAIR)]
    return [*changes, Stage.DEFENDED_VICTIM.value]


def looking() -> list[str]:
    """Names of the stages in which a defense judges images, inputs or networks."""
    return [stage.value for stage in Stage if stage.info.does in (Work.DETECT, Work.SCREEN)]


def label(name: str) -> str:
    """What people call a stage."""
    stage = find(name)
    return stage.info.label if stage else name.replace("_", " ").capitalize()


# -- parameters ---------------------------------------------------------------------------------------

_RECIPES = {"from_scratch": "training", "linear_transfer": "head", "fine_tune_transfer": "fine_tune"}


class Dumpable(Protocol):
    """A spec, or a recorded one."""

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


def recipe_of(protocol: str | None) -> str:
    """The part of a spec that says how its victims are trained."""
    return _RECIPES.get(protocol or "", "training")


def memory_parameters(stage: Stage, spec: Dumpable) -> dict[str, Any]:
    """Dotted names and values of the parameters that decide how much a stage holds at once, those left empty not."""
    return _chosen(stage.info.memory, spec)


def time_parameters(stage: Stage, spec: Dumpable) -> dict[str, Any]:
    """Dotted names and values of the parameters that decide how long a stage takes."""
    return _chosen(stage.info.time, spec)


def _chosen(patterns: tuple[str, ...], spec: Dumpable) -> dict[str, Any]:
    values = spec.model_dump(mode="json")
    recipe = recipe_of(values.get("protocol"))
    dotted = _dotted(values)
    chosen: dict[str, Any] = {}
    for pattern in patterns:
        wanted = pattern.replace("recipe.", f"{recipe}.")
        chosen |= {
            n: value for n, value in dotted.items() if fnmatchcase(n, wanted) and value not in ("", None)
        }
    return chosen


def _dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a spec by their dotted names, those of a method without its name."""
    dotted: dict[str, Any] = {}
    for part, value in values.items():
        if isinstance(value, Mapping):
            dotted |= {f"{part}.{name}": inner for name, inner in value.get("params", value).items()}
        else:
            dotted[part] = value
    return dotted
