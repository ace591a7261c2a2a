"""How much a stage of a run has to do, so that what one run took tells what another will take.

Work has no unit: only that of two specs in the same stage is compared. It is the product of the stage's repetitions
(epochs, steps, rounds, targets: the parameters that ``spec/stages.py`` says it takes its time by), of the images that
pass through the network, and of what the network computes for one of them.
"""

import math
from fnmatch import fnmatchcase
from functools import lru_cache

from poisonlab.spec import stages
from poisonlab.spec.stages import Stage, Work
from poisonlab.store.flat_spec import FlatSpec
from poisonlab.store.passes import PER_STEP, effort

# beyond those of the vocabulary: what a method does as often as it is told to
_MORE = {
    Stage.POISON: ("attack.models", "attack.draws", "attack.depths"),
    Stage.DETECT: ("defense.overlays", "defense.folds"),
    Stage.DETECT_CONTROL: ("defense.overlays", "defense.folds"),
    Stage.SCREEN: ("defense.overlays", "defense.copies"),
    Stage.SCREEN_CONTROL: ("defense.overlays", "defense.copies"),
}
_OWN = (
    Stage.EBM,
    Stage.DDPM,
    Stage.TRIGGER_SEARCH,
    Stage.INFLUENCE,
)  # within others, with parameters of their own
GENERATIVE = (Stage.EBM, Stage.DDPM, Stage.PURIFY, Stage.PURIFY_POISONS)
_PRETRAINED = (Stage.EXTRACTOR, Stage.SURROGATE)
_OF_MODELS = (Stage.EVALUATE, Stage.SETTINGS, Stage.OBSERVING, Stage.DRIVE)
_IN_BATCHES = ("iterations", "updates")  # so many batches, whatever the number of images
_WITHIN = ("inner_", "fixed_point_", "ascent_")  # repeated in every round, so the two multiply
LARGE_ARE_FASTER = 0.85  # power of a network's multiplications that its seconds grow with
SWEPT = 4000  # test images of a sweep of settings, at most
SCREENED = 1000  # test images of a screening, at most, each with the trigger and without it


def work(stage: Stage, spec: FlatSpec) -> float | None:
    """The work of a stage; ``None`` where the network is not known here."""
    repeated = repetitions(stage, spec)
    if stage in GENERATIVE:
        return repeated * images(stage, spec) * spec.size**2 * spec.number("defense.filters", 32) ** 2
    if only_heads(stage, spec):
        return repeated * images(stage, spec) * victims(stage, spec)
    of_one = effort(spec.methods["victim"], spec.victim_params, spec.size)
    if of_one is None:
        return None
    seen = images(stage, spec)
    of_one += PER_STEP / min(batch(stage, spec), seen)
    return repeated * seen * victims(stage, spec) * math.pow(of_one, LARGE_ARE_FASTER)


def only_heads(stage: Stage, spec: FlatSpec) -> bool:
    """Whether a stage trains linear heads on features that were computed once."""
    trains = stage.info.does is Work.TRAIN and stage not in (*_PRETRAINED, *GENERATIVE)
    return trains and spec.protocol == "linear_transfer"


def victims(stage: Stage, spec: FlatSpec) -> float:
    """Networks that a stage trains or repairs one after the other."""
    if stage in (Stage.VICTIM, Stage.DEFENDED_VICTIM, Stage.REPAIR):
        return spec.trials
    if stage is Stage.CONTROL and spec.protocol == "linear_transfer":
        return spec.trials
    return 1.0


# -- repetitions ----------------------------------------------------------------------------------------


def repetitions(stage: Stage, spec: FlatSpec) -> float:
    """How often a stage does the same: numbers of one kind add up (``epochs``, ``teacher_epochs``), kinds multiply."""
    own = tuple(_owned(spec.names))
    sums: dict[str, float] = {}
    for name in _names(stage, stages.recipe_of(spec.protocol), spec.names):
        if name in own and stage not in _OWN:
            continue
        value = spec.values[name]
        if name == "attack.surrogates":
            value = _listed(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            kind = _kind(name)
            sums[kind] = sums.get(kind, 0.0) + float(value)
    product = 1.0
    for total in sums.values():
        product *= max(total, 1.0)
    return product


def surrogates(spec: FlatSpec) -> float:
    """Networks that the attacker trains one by one."""
    return max(1.0, spec.number("attack.models", 1), float(_listed(spec.values.get("attack.surrogates"))))


def _listed(text: object) -> int:
    """Names in a list that commas separate."""
    return len([part for part in text.split(",") if part.strip()]) if isinstance(text, str) else 0


@lru_cache(maxsize=4096)
def _names(stage: Stage, recipe: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``names`` that a stage takes its time by, images and trusted images aside: these count elsewhere."""
    patterns = [pattern.replace("recipe.", f"{recipe}.") for pattern in stage.info.time]
    patterns += _MORE.get(stage, ())
    found = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    return tuple(name for name in found if not name.startswith("dataset.") and name != "clean_images")


@lru_cache(maxsize=1024)
def _owned(names: tuple[str, ...]) -> tuple[str, ...]:
    """Parameters of stages within others, where the method has such a stage: it has what that one holds in memory."""
    owned: list[str] = []
    for stage in _OWN:
        exact = [name for name in stage.info.memory if "*" not in name]
        if all(name in names for name in exact):
            owned += stage.info.time
    return tuple(owned)


def _kind(name: str) -> str:
    """``teacher_epochs`` and ``epochs`` are of one kind, ``inner_epochs`` are not: they are in every round."""
    last = name.rpartition(".")[2]
    return last if last.startswith(_WITHIN) else last.rpartition("_")[2]


# -- images ---------------------------------------------------------------------------------------------


def images(stage: Stage, spec: FlatSpec) -> float:
    """Images that pass through the network in one repetition."""
    trained = attacked(spec)
    clean = spec.number("clean_images", 500)
    tested = spec.number("dataset.test_images", 10_000)
    if stage in _PRETRAINED and spec.protocol != "from_scratch":
        return spec.number("dataset.pretrain_images", trained)
    if stage is Stage.EBM:
        return spec.number("defense.batch_size", 128)
    if stage is Stage.DDPM:
        return spec.number("defense.ddpm_batch_size", 128)
    if stage is Stage.POISON:
        return _crafted(spec)
    if stage is Stage.PURIFY_POISONS:
        return poisons(spec) * spec.trials
    if stage is Stage.TRIGGER_SEARCH:
        return spec.number("defense.search_batch", 128)
    if stage is Stage.CHOOSING:
        return max(1.0, clean)
    if stage is Stage.REPAIR:
        return batch(stage, spec) if _in_batches(spec.names) else _trusted(clean, spec)
    if stage is Stage.SETTINGS:
        return min(tested, SWEPT)
    if stage.info.does is Work.SCREEN:
        return 2 * min(tested, SCREENED)
    return tested if stage in _OF_MODELS else trained


def attacked(spec: FlatSpec) -> float:
    """Images of the training set that is attacked."""
    name = "train_images" if spec.protocol == "from_scratch" else "head_images"
    return spec.number(f"dataset.{name}", 1000)


def poisons(spec: FlatSpec) -> float:
    """Poisoned images of one trial."""
    share = spec.number("attack.poison_rate", 1.0)
    return max(1.0, spec.number("attack.poisons", share * attacked(spec)))


def _crafted(spec: FlatSpec) -> float:
    """Images that a repetition of an attack passes through a network: its poisons, or all where it trains."""
    trains = any(name.startswith("attack.") and _kind(name) == "epochs" for name in spec.names)
    return attacked(spec) if trains else poisons(spec)


def _trusted(clean: float, spec: FlatSpec) -> float:
    """Trusted images, with the copies that a defense makes of a few."""
    few = clean < spec.number("defense.augment_below", 0)
    return max(1.0, clean) * (1 + spec.number("defense.copies", 0) * few)


@lru_cache(maxsize=1024)
def _in_batches(names: tuple[str, ...]) -> bool:
    """Whether a repair says how many batches it takes and not how many epochs."""
    kinds = {_kind(name) for name in names if name.startswith("defense.")}
    return not kinds.isdisjoint(_IN_BATCHES) and "epochs" not in kinds


def batch(stage: Stage, spec: FlatSpec) -> float:
    """Images that pass through the network at once."""
    part = "defense"
    if stage in _PRETRAINED:
        part = "training"
    elif stage.info.does is Work.TRAIN:
        part = stages.recipe_of(spec.protocol)
    return max(1.0, spec.number(f"{part}.batch_size", 128))
