"""MetaPoison: clean-label poisons crafted by differentiating through K steps of training."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.attacks.shared.matched_budget import CHOICE, REPOSITORY, SameBudget, SameBudgetConfig
from poisonlab.attacks.shared.pixels import round_within, to_bytes
from poisonlab.attacks.shared.recolor import Perturbation
from poisonlab.attacks.shared.step_counter import StepCounter
from poisonlab.attacks.shared.surrogate_ensemble import EnsembleMember
from poisonlab.attacks.shared.surrogates import SurrogateNames, parse_surrogates
from poisonlab.attacks.shared.targeted import Trials
from poisonlab.attacks.shared.unrolling import LookAhead, consecutive
from poisonlab.attacks.shared.validation import TrainingPath, plane, train_and_record
from poisonlab.context import Context, derive
from poisonlab.models.base import (
    Classifier,
    as_floats,
    channel_statistics,
    initialize,
    learn_from_images,
)
from poisonlab.models.shared.second_derivatives import check_second_derivatives
from poisonlab.records.artifacts import Crafting
from poisonlab.registry import Card, attack
from poisonlab.spec.config import TrainingConfig, param
from poisonlab.spec.papers import METAPOISON
from poisonlab.training.loop import steps_in_epoch
from poisonlab.types import ImageSet

WARM_UP = 5  # crafting steps over which the rate rises, quadratically
SHOWN = 8  # images of the crafting artifact
BINS = 20


class MetaPoisonConfig(SameBudgetConfig):
    models: int = param(
        24,
        "Surrogates, spread evenly over the epochs",
        quick={"*": 3, "digits": 2},
        ge=1,
        le=64,
        source=REPOSITORY,
    )
    epochs: int = param(
        24,
        "Epochs after which a surrogate is initialized again",
        quick=12,
        ge=1,
        le=400,
        source=REPOSITORY,
    )
    unroll: int = param(
        2, "Training steps that are differentiated through (K)", ge=1, le=16, source=REPOSITORY
    )
    steps: int = param(
        60,
        "Crafting steps, an epoch of each surrogate every one",
        quick={"*": 12, "digits": 9},
        ge=1,
        le=1000,
        source=REPOSITORY,
    )
    step_size: float = param(
        25,
        "Adam learning rate in bounds, x0.1 after each third of the steps",
        gt=0,
        le=1000,
        source=f"{REPOSITORY}: 200/255 at 8/255",
    )
    share: float = param(1.0, "Share of a surrogate's batches that are differentiated", quick=0.5, gt=0, le=1)
    batch: int = param(
        125, "Images in a surrogate's step", quick=60, ge=2, le=4096, unit="images", source=REPOSITORY
    )
    lr: float = param(0.1, "Learning rate of the surrogates, plain SGD", gt=0, le=10, source=REPOSITORY)
    warm_up: int = param(5, "Epochs over which that rate rises", quick=0, ge=0, le=100, source=REPOSITORY)
    color: float = param(
        0.04,
        "Bound of color shifts in Y, U and V, of [0, 1]; 0 for none",
        quick=0.0,
        ge=0,
        le=0.5,
        source=REPOSITORY,
    )
    grid: int = param(10, "Nodes along each axis of a color grid", ge=2, le=32, source=REPOSITORY)
    smoothness: float = param(1.0, "Weight of the color grids' roughness", ge=0, le=1e4, source=REPOSITORY)
    normalize: bool = param(
        False, "Give every poison's derivative the same length on each surrogate", quick=True
    )
    surrogates: SurrogateNames = param(
        "", "Victims to craft on in turn, such as 'convnet, resnet8'; empty for the victim's own"
    )
    rehearse: int = param(
        10,
        "Crafting steps between two validation trainings on the first trial's poisons, for display; 0 for none",
        quick=4,
        ge=0,
        le=1000,
        source=REPOSITORY,
    )


@dataclass(frozen=True)
class EpochResult:
    """What an epoch of one surrogate gives.

    Attributes:
        derivative: by the poisons, summed over the batches, ``(trials, k, c, h, w)``.
        unrolled_loss, plain_loss: mean L_adv after the unrolled steps and before them; NaN without a poisoned batch.
    """

    derivative: Tensor
    unrolled_loss: float
    plain_loss: float


@dataclass
class History:
    """What crafting went through.

    Attributes:
        snapshots: crafting step -> poisons of the first trial after it, uint8 ``(k, c, h, w)``.
        losses: ``(2,)`` a step: mean L_adv unrolled and plain.
    """

    snapshots: dict[int, Tensor]
    losses: list[Tensor] = field(default_factory=list)


def _positions(trials: Trials, rows: int) -> Tensor:
    """Position of each training row among the poisons of a trial, -1 for none; int64 ``(trials, rows)``."""
    count, k = trials.index.shape
    place = torch.full((count, rows), -1, device=trials.index.device)
    numbers = torch.arange(k, device=place.device)
    return place.scatter_(1, trials.index, numbers.expand_as(trials.index))


@attack("metapoison")
class MetaPoison(SameBudget):
    """K-step unrolled crafting on networks at different epochs (Huang et al. 2020, arXiv:2004.00225, Algorithm 1)."""

    Config = MetaPoisonConfig
    card = Card(
        title="MetaPoison",
        references=(METAPOISON,),
        summary="Correctly labeled images of one class are changed slightly so that a few steps of training on them "
        "give one chosen image of another class to theirs: the attacker differentiates through those steps, on many "
        "networks at different ages.",
        threat_model="Clean label, bounded perturbation (and small shifts of color) of some training images of one "
        "class; trains networks of the victim's kind on the clean set, knows neither the victim's start nor its order "
        "of images.",
        deviations=(
            CHOICE,
            "Quick is a toy: 3 surrogates and 12 steps at eps 16 on 16x16, with derivatives of equal length; "
            "published are 24 and 60 at eps 8 on 32x32. Compare it with pixel_collision, which optimizes nothing. On "
            "digits nobody is hit.",
            "The surrogates learn clean images, as is the repository's default, without the target in their batches; "
            "it rides along where the attack differentiates. All trials of a run share the surrogates.",
            "Victims use batch norm's running statistics in evaluation, surrogates the batch's, as in the repository.",
            "The runner-up of the loss is the largest other logit; the repository's is never below 0.",
            "Later unrolled batches hold clean images; the repository puts the first batch's poisons in, as constants.",
            "Images are clipped and rounded to 8 bits; the repository's victims see floats outside [0, 255], too.",
            "Colors shift on a grid over Y, U and V up to 0.62, so that a grid of zeros changes nothing; the "
            "repository's ends at 0.5. Gray images have no grids. Their Adam's rate is as large in bounds as the "
            "pixels', and smoothness counts once a crafting step.",
        ),
    )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        check_second_derivatives(network, shape, self.name)

    def bound(self) -> float | None:
        return None if self.config.color else super().bound()  # colors move pixels on top of the bound

    def craft(self, trials: Trials, train: ImageSet, model: Classifier, ctx: Context) -> Tensor:
        cfg: MetaPoisonConfig = self.config
        architectures = self._architectures(train, model, ctx)
        ensemble = [
            EnsembleMember(architectures[n % len(architectures)], train, cfg, n, ctx)
            for n in range(cfg.models)
        ]
        perturbation = Perturbation(
            as_floats(trials.base.flatten(0, 1)),
            cfg.eps / 255,
            cfg.color,
            cfg.grid,
            cfg.smoothness,
            cfg.step_size,
            ctx.generator("metapoison", "noise"),
        )
        place = _positions(trials, len(train))
        chance = derive(ctx.seed, "metapoison", "share")  # on the host, which decides by it
        counter = StepCounter(ctx, 0, cfg.steps * cfg.models * steps_in_epoch(len(train), cfg.batch))
        history = History(snapshots={0: self._bytes(perturbation, trials)[0]})
        for step in range(1, cfg.steps + 1):
            poisons = perturbation.images().detach().clamp(0, 1).view(trials.base.shape)
            derivatives = []
            losses = []
            for member in ensemble:
                epoch = self._epoch(member, trials, place, poisons, chance, counter.advance)
                derivatives.append(epoch.derivative)
                losses.append((epoch.unrolled_loss, epoch.plain_loss))
            derivative = torch.stack(derivatives).mean(0)
            perturbation.step(derivative.flatten(0, 1), self._rate(step))
            unrolled, plain = torch.tensor(losses).nanmean(0)
            ctx.metric("adversarial_loss_unrolled", step, unrolled.item())
            ctx.metric("adversarial_loss", step, plain.item())
            history.losses.append(torch.stack([unrolled, plain]))
            if cfg.rehearse and (step % cfg.rehearse == 0 or step == cfg.steps):
                history.snapshots[step] = self._bytes(perturbation, trials)[0]
        poisons = self._bytes(perturbation, trials)
        if cfg.rehearse:
            self._validate(trials, train, architectures[0], history, perturbation, poisons, ctx)
        return poisons

    def _architectures(self, train: ImageSet, model: Classifier, ctx: Context) -> list[Classifier]:
        """The architectures to craft on, with what they take from images; their weights are still to be drawn."""
        chosen = parse_surrogates(self.config.surrogates)
        if not chosen:
            return [copy.deepcopy(model)]
        mean, std = channel_statistics(train.x)
        classes = len(train.classes)
        named = [part.build().network(train.shape, classes, mean, std).to(ctx.device) for part in chosen]
        for network in named:
            learn_from_images(network, train.x)
        return named

    def _rate(self, step: int) -> float:
        """What Adam's rate is multiplied by in step 1, 2, ...."""
        thirds_done: int = 3 * (step - 1) // self.config.steps
        warm_up = min((step / WARM_UP) ** 2, 1.0)
        return warm_up * 0.1**thirds_done

    def _epoch(
        self,
        member: EnsembleMember,
        trials: Trials,
        place: Tensor,
        poisons: Tensor,
        chance: torch.Generator,
        advance: Callable[[], None],
    ) -> EpochResult:
        """Train one surrogate for an epoch and sum the derivatives by the poisons over its batches."""
        cfg: MetaPoisonConfig = self.config
        train = member.train
        derivative = torch.zeros_like(poisons)
        losses = []
        for ahead in consecutive(member.order(), cfg.unroll + 1):
            if torch.rand((), generator=chance) < cfg.share:
                clean = [(as_floats(train.x[rows]), train.y[rows]) for rows in ahead]
                for trial, which, inside in self._poisoned(ahead[0], place):
                    x, y = clean[0]
                    first = (x.index_copy(0, inside, poisons[trial, which]), y)
                    look_ahead = self._look_ahead(member, trials, trial)
                    by_poison, unrolled, plain = look_ahead.hypergradient(
                        member.weights, [first, *clean[1:]], inside
                    )
                    derivative[trial, which] += by_poison
                    losses.append(torch.stack([unrolled, plain]).float())
            member.step(ahead[0])
            advance()
        if cfg.normalize:
            derivative = F.normalize(derivative.flatten(2), dim=2).view_as(derivative)
        mean = torch.stack(losses).mean(0) if losses else torch.full((2,), torch.nan)
        return EpochResult(derivative, mean[0].item(), mean[1].item())

    @staticmethod
    def _poisoned(rows: Tensor, place: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Of each trial with poisons in a batch: its number, which poisons they are, and where in the batch."""
        for trial, positions in enumerate(place[:, rows]):
            inside = (positions >= 0).nonzero().squeeze(1)
            if len(inside):
                yield trial, positions[inside], inside

    @staticmethod
    def _look_ahead(member: EnsembleMember, trials: Trials, trial: int) -> LookAhead:
        target = as_floats(trials.targets[trial, None])
        return LookAhead(member.network, target, trials.adversarial[trial, None], member.lr)

    def _bytes(self, perturbation: Perturbation, trials: Trials) -> Tensor:
        """8-bit poisons, within eps of their bases or of these in new colors."""
        with torch.no_grad():
            colors = to_bytes(perturbation.recolored())
            return round_within(perturbation.images(), colors, self.config.eps).view_as(trials.base)

    def _recipe(self) -> TrainingConfig:
        """How the validation victims are trained: as the surrogates are."""
        cfg: MetaPoisonConfig = self.config
        return TrainingConfig(
            epochs=cfg.epochs,
            batch_size=cfg.batch,
            lr=cfg.lr,
            momentum=0.0,
            weight_decay=0.0,
            schedule="constant",
            crop_padding=0,
            flip=False,
        )

    def _validate(
        self,
        trials: Trials,
        train: ImageSet,
        architecture: Classifier,
        history: History,
        perturbation: Perturbation,
        poisons: Tensor,
        ctx: Context,
    ) -> None:
        """Train on the first trial from one start: without poison, and with the poisons of some crafting steps."""
        cfg: MetaPoisonConfig = self.config

        def train_on(x: Tensor) -> TrainingPath:
            model = initialize(copy.deepcopy(architecture), ctx.generator("metapoison", "rehearsal"))
            data = dataclasses.replace(train, x=x)
            return train_and_record(
                model, data, self._recipe(), trials.targets[:1], trials.adversarial[:1], ctx
            )

        clean = train_on(train.x)
        paths = [
            train_on(train.x.index_copy(0, trials.index[0], images)) for images in history.snapshots.values()
        ]
        places, variance = plane([clean, paths[-1]])
        base = trials.base[0, :SHOWN]
        with torch.no_grad():
            recolored = to_bytes(perturbation.recolored()[: len(base)])
            relative_change = (perturbation.delta.abs() / perturbation.eps).clamp_max(1).flatten().cpu()
        grids = torch.zeros(0) if perturbation.grids is None else perturbation.grids.detach()[: len(base)]
        curves = torch.stack(history.losses, 1)
        ctx.artifact(
            "crafting",
            Crafting(
                steps=torch.arange(1, cfg.steps + 1),
                unrolled=curves[0],
                plain=curves[1],
                tried=torch.tensor(list(history.snapshots)),
                tried_loss=torch.stack([path.loss[-1] for path in paths]),
                tried_probability=torch.stack([path.probability[-1] for path in paths]),
                places=places,
                variance=variance,
                path_loss=torch.stack([clean.loss, paths[-1].loss]),
                path_probability=torch.stack([clean.probability, paths[-1].probability]),
                base=base,
                recolored=recolored,
                poisoned=poisons[0, :SHOWN],
                changes=torch.histc(relative_change, BINS, 0, 1).long(),
                grids=grids,
                eps=cfg.eps,
                color=cfg.color,
            ),
        )
