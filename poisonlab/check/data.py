"""A data set is checked: every detector's view of every image, what they agree on, and a comparison with clean sets."""

import dataclasses
from dataclasses import dataclass

from poisonlab.check import references
from poisonlab.check.calibration import ALARMS, Calibration, Statistics, calibrated
from poisonlab.check.evidence import Evidence, examine
from poisonlab.check.ranking import SHARE, Ranking, ranked, suspected_class
from poisonlab.check.recipe import Recipe
from poisonlab.check.references import Trusted
from poisonlab.check.suspects import Suspects
from poisonlab.context import Context
from poisonlab.events import Event, Log, Progress
from poisonlab.types import ImageSet

CONTROLS = 19  # the fewest clean sets that allow an accusation of which 1 in 20 is false
FEWEST_OF_A_CLASS = 10  # images of a clean set; smaller ones tell nothing
CHECK = "check"  # the stage name of the progress over all sets, or networks


@dataclass(frozen=True)
class DataCheck:
    """What a check found.

    Attributes:
        suspects: what was looked at.
        evidence: of each detector that could run. left_out: why the others could not.
        ranking: all images, the most suspicious first.
        target: the class that most detectors name, or ``None``. named_by: how many of them do.
        calibration: the set among clean ones; ``None`` where there is nothing to compare with.
        no_verdict: why there is none, in one line; empty where there is one.
    """

    suspects: Suspects
    evidence: tuple[Evidence, ...]
    left_out: dict[str, str]
    ranking: Ranking
    target: int | None
    named_by: int
    calibration: Calibration | None
    no_verdict: str

    @property
    def verdict(self) -> str:
        """One or two sentences, the rate of false alarms among them."""
        found = self.calibration
        if found is None:
            return f"No verdict: only a ranking. {self.no_verdict}"
        rate = f"{found.false_alarm_rate:.0%}"
        place = f"more than {found.exceeds} of {found.controls} clean sets of this kind"
        sure = f"A clean set of this kind would come as far in about {rate} of cases"
        if found.stands_out:
            return f"This set stands out: {place}. {sure}."
        if not found.can_accuse:
            least = f"{1 / (found.controls + 1):.0%}"
            return (
                f"No verdict: only a ranking. It stands out {place}, and with {found.controls} clean sets a false "
                f"alarm rate below {least} cannot be claimed; {CONTROLS} are needed for {ALARMS:.0%}."
            )
        return f"This set does not stand out: {place}. {sure}. That is no proof that it is clean."


def check_data(
    suspects: Suspects,
    recipe: Recipe,
    ctx: Context,
    trusted: ImageSet | None = None,
    *,
    like: str = "",
    controls: int = CONTROLS,
    share: float = SHARE,
) -> DataCheck:
    """Check a training set.

    Args:
        trusted: clean images of the same classes, from elsewhere; also the clean sets are drawn from them.
        like: a dataset whose shipped clean sets are compared with, where there are no trusted images.
        controls: clean sets that are drawn from the trusted images; 0 for none, and for no verdict.
        share: of the images, what counts as the top of a detector.

    Raises:
        Cancelled: ``ctx`` was asked to stop; finished stages stay in the cache.
        DataError, ValueError, Diverged: with a message a person can act on.
    """
    data = suspects.data.to(ctx.device)
    split = Trusted.of(trusted.to(ctx.device)) if trusted is not None else None
    granted = split.granted if split else None
    plan = _drawn_plan(data, split, controls) if split else _shipped_plan(data, recipe, like)
    smaller = 0 < plan.images < len(data)
    drawn = plan.controls if split else 0
    counted = _Counted(ctx, 1 + smaller + drawn)

    examined = examine(data, granted, recipe, ctx.seed, counted.following("the set under suspicion"))
    calibration = None
    if plan.images:
        own = examined
        if smaller:  # sets are compared at the same size
            part = references.drawn(data, plan.images, "suspects")
            own = examine(
                part, granted, recipe, ctx.seed, counted.following("a part of it, for the comparison")
            )
        clean = list(plan.sets)
        for seed, one in references.clean_sets(split.pool, plan.images, drawn) if split else ():
            step = counted.following(f"clean set {len(clean) + 1} of {drawn}")
            clean.append(examine(one, granted, recipe, seed, step).statistics())
        calibration = calibrated(own.statistics(), clean, plan.origin, plan.images, plan.overlap)
    target, named_by = suspected_class(examined.evidence)
    ranking = ranked(examined.evidence, share)
    return DataCheck(
        suspects,
        examined.evidence,
        examined.left_out,
        ranking,
        target,
        named_by,
        calibration,
        plan.why_not,
    )


# -- what to compare with ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """Which clean sets a set is compared with.

    Attributes:
        why_not: why with none; then all else is empty.
        images: of each set. controls: how many there are or will be drawn.
        origin: what they are, in words. sets: their numbers, where they were measured beforehand.
        overlap: the share of their pool that each of them is.
    """

    why_not: str = ""
    images: int = 0
    controls: int = 0
    origin: str = ""
    sets: tuple[Statistics, ...] = ()
    overlap: float = 0.0


def _drawn_plan(data: ImageSet, trusted: Trusted, controls: int) -> _Plan:
    """Clean sets out of the trusted images, as large as the set itself where these suffice."""
    if controls == 0:
        return _Plan("No clean sets were asked for.")
    images = min(len(data), trusted.set_size)
    if images < FEWEST_OF_A_CLASS * len(data.classes):
        return _Plan(
            f"The trusted images are too few: clean sets of {images} could be drawn, and "
            f"{FEWEST_OF_A_CLASS} images of each class are needed."
        )
    origin = "drawn from the trusted images, each with a victim of its own seed"
    return _Plan("", images, controls, origin, overlap=images / len(trusted.pool))


def _shipped_plan(data: ImageSet, recipe: Recipe, like: str) -> _Plan:
    """Clean sets that were measured beforehand on images of the same kind."""
    if not like:
        return _Plan(
            "Give trusted clean images of the same classes, or name a kind of images that was measured."
        )
    found = references.shipped(like)
    if found is None:
        return _Plan(f"No clean sets of {like} come with the program: give trusted clean images.")
    if references.described(recipe) != found.recipe:
        return _Plan(f"The clean sets of {like} that come with the program were trained by another recipe.")
    if len(data) < found.images:
        return _Plan(
            f"The clean sets of {like} hold {found.images} images each, and this set only {len(data)}."
        )
    return _Plan("", found.images, len(found.sets), found.made, found.sets, found.images / found.pool)


class _Counted:
    """One progress over all sets that are examined; what each says of itself goes on to the reader, too."""

    def __init__(self, ctx: Context, total: int) -> None:
        self.ctx = ctx
        self.total = total
        self.done = 0

    def following(self, what: str) -> Context:
        """The context of the next set."""
        self.ctx.for_stage(CHECK).log(f"set {self.done + 1} of {self.total}: {what}")
        self.ctx.emit(Progress(CHECK, self.done, self.total))
        self.done += 1
        quiet = self.done > 1  # what detectors say of the clean sets would be taken for the suspects'

        def send(event: Event) -> None:
            if not (quiet and isinstance(event, Log)):
                self.ctx.send(event)

        return dataclasses.replace(self.ctx, send=send)
