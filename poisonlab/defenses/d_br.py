"""D-BR: images whose features move when they are turned are unlearned, those that stay put are learned again."""

import copy
import math
from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import NO_FLIPS, named
from poisonlab.defenses.shared.detector_training import train_anew
from poisonlab.defenses.shared.suspects import kept_out
from poisonlab.models.base import Classifier, as_floats, evaluation_batches
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, TrainingConfig, param
from poisonlab.training.loop import TrainingHook, train_network
from poisonlab.types import Findings, ImageSet

REPOSITORY = "authors' repository"


class DBRConfig(Config):
    epochs: int = param(
        2,
        "Own network: passes over the training set, without augmentation",
        quick={"*": 2, "digits": 5},
        ge=1,
        le=1000,
        source=REPOSITORY,
    )
    intra_epochs: int = param(
        10,
        "Own network: further passes, in which the classes' centers are driven apart",
        ge=0,
        le=1000,
        source=REPOSITORY,
    )
    lr: float = param(
        0.01,
        "Own network: learning rate",
        quick={"*": 0.05, "digits": 0.1},
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    batch_size: int = param(
        128,
        "Images in a step, everywhere",
        quick={"*": 128, "digits": 50},
        ge=2,
        le=4096,
        unit="images",
        source=REPOSITORY,
    )
    momentum: float = param(0.9, "Momentum, everywhere", ge=0, lt=1, source=REPOSITORY)
    weight_decay: float = param(
        5e-4, "L2 weight decay on all parameters, everywhere", ge=0, le=0.1, source=REPOSITORY
    )
    rotation: float = param(
        180.0, "Images are turned by up to this much", ge=0, le=180, unit="degrees", source=REPOSITORY
    )
    shift: float = param(0.2, "And then moved by up to this share of a side", ge=0, lt=1, source=REPOSITORY)
    clean_share: float = param(
        0.2, "Share of the images, the least sensitive, that count as clean", gt=0, le=1, source=REPOSITORY
    )
    poisoned_share: float = param(
        0.05,
        "Share of the images, the most sensitive, that count as poisoned",
        gt=0,
        le=0.5,
        source=REPOSITORY,
    )
    rounds: int = param(
        20, "Passes of unlearning, each followed by one of learning", ge=1, le=1000, source=REPOSITORY
    )
    rounds_lr: float = param(
        1e-4, "Learning rate of these", quick={"*": 5e-4, "digits": 2e-3}, gt=0, le=1, source=REPOSITORY
    )
    ascent_limit: float = param(
        20.0,
        "An image ascends no further than this multiple of a guess's loss, log(classes)",
        gt=0,
        le=1000,
        source="no limit is published",
    )
    crop_padding: int = param(
        4,
        "These crop after padding by this much; 0 for not at all",
        quick=1,
        ge=0,
        le=16,
        unit="pixels",
        source=REPOSITORY,
    )
    flip: bool = param(
        True,
        "These mirror images half of the time",
        quick={"*": True} | NO_FLIPS,
        elsewhere=NO_FLIPS,
        source=REPOSITORY,
    )

    @model_validator(mode="after")
    def _sets_images_apart(self) -> Self:
        if self.clean_share + self.poisoned_share > 1:
            raise ValueError(
                f"clean_share={self.clean_share} and poisoned_share={self.poisoned_share} are more than all images "
                "together, so that some would be learned and unlearned; lower one of them"
            )
        if not self.rotation and not self.shift:
            raise ValueError("rotation=0 and shift=0 leave images as they are; raise one of them")
        return self


def turned(x: Tensor, angles: Tensor, moves: Tensor) -> Tensor:
    """Each image turned about its center and then moved; black where nothing was.

    Args:
        x: float ``(n, c, h, w)``.
        angles: float ``(n,)``, in radians, clockwise.
        moves: float ``(n, 2)``, to the right and down, as shares of a side.
    """
    n, _, h, w = x.shape
    cos = angles.cos()
    sin = angles.sin()
    # where a pixel of the result is found in x, in units of half a side: shifted back, then turned back
    right = torch.stack([cos, sin * h / w], 1)
    down = torch.stack([-sin * w / h, cos], 1)
    back = torch.stack([right, down], 1)  # (n, 2, 2)
    offset = -(back @ (2 * moves)[:, :, None])
    grid = F.affine_grid(torch.cat([back, offset], 2), [n, 1, h, w], align_corners=False)
    return F.grid_sample(x, grid, mode="nearest", align_corners=False)


def intra_class_loss(features: Tensor, y: Tensor) -> Tensor:
    """Mean over the entries of  c_i . c_j, i != j, the diagonal counting as 0, c the unit-length centers of the classes
    of a batch; 0 if there is but one.

    Args:
        features: float ``(n, d)``. y: int64 ``(n,)``.
    """
    present, place = y.unique(return_inverse=True)
    total = features.new_zeros(len(present), features.shape[1]).index_add(0, place, features)
    centers = F.normalize(total, dim=1)  # of the sums as of the means
    products = centers @ centers.T
    return (products - torch.diag(products.diagonal())).mean()


class DrivenApart(TrainingHook):
    """Trains by the classes' centers alone."""

    handle: RemovableHandle

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        head = model.get_submodule("head")
        self.handle = head.register_forward_pre_hook(self._note)

    def _note(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0].float()  # sums over a batch lose too much in half precision

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        return intra_class_loss(self.features, y)

    def end(self, ctx: Context) -> None:
        self.handle.remove()


class InTurns(TrainingHook):
    """Odd epochs ascend on the images that count as poisoned, even ones descend on those that count as clean."""

    def __init__(self, poisoned: Tensor, clean: Tensor, limit: float) -> None:
        self.poisoned = poisoned
        self.clean = clean
        self.limit = limit

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        self.ascends = number % 2 == 1
        return data[self.poisoned if self.ascends else self.clean]

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        if not self.ascends:
            return super().loss(logits, y, label_smoothing)
        return -F.cross_entropy(logits, y, reduction="none").clamp(max=self.limit).mean()


@defense("d_br")
class DBR(Defense):
    """Chen, Wu and Wang, NeurIPS 2022:

    1. train a network of one's own for 2 passes, without augmentation; then, for 10, by
       L_intra = mean over i != j of c_i . c_j  alone, c_k the mean feature of class k in the batch, of length 1;
    2. FCT(x) = ||phi(x) - phi(tau(x))||^2 / d,  tau a rotation and a shift: the 20 % of the images with the smallest
       count as clean, the 5 % with the largest as poisoned;
    3. in turns, the backdoored network takes a pass of ascent on the poisoned and one of descent on the clean ones.
    """

    Config = DBRConfig
    needs_clean_images = False
    card = Card(
        title="D-BR",
        references=(
            Reference(
                authors="W. Chen, B. Wu, H. Wang",
                title="Effective Backdoor Defense by Exploiting Sensitivity of Poisoned Samples",
                venue="NeurIPS",
                year=2022,
            ),
        ),
        summary="Turn an image, and a network that knows what a cat is sees a cat. A network that looks for a trigger "
        "in a corner sees it gone: the features of poisoned images jump. Unlearn the jumpiest images, and learn the "
        "steadiest ones again.",
        threat_model="Defender holds the trained model and its whole training set, which may be poisoned, without any "
        "clean images.",
        deviations=(
            "The last pass counts; the repository keeps the one with the best difference of accuracy and attack "
            "success, both on test images.",
            "An image ascends no further than twenty times the loss of a guess; the repository has no limit. At "
            "the loss of a guess itself the backdoor stays: in train mode, among poisoned images alone, it is reached "
            "at once.",
            "The preset quick has fewer steps, so they are larger.",
            "Shares of all training images are flagged whatever the poison rate: at a rate of 1 % four in five of the "
            "images that are unlearned are clean.",
        ),
    )

    def _recipe(self, epochs: int, lr: float, crop_padding: int, flip: bool) -> TrainingConfig:
        cfg = self.config
        return TrainingConfig(
            epochs=epochs,
            batch_size=cfg.batch_size,
            lr=lr,
            momentum=cfg.momentum,
            nesterov=False,
            weight_decay=cfg.weight_decay,
            schedule="constant",
            crop_padding=crop_padding,
            flip=flip,
        )

    def sensitivity(self, model: Classifier, suspects: ImageSet, ctx: Context) -> Tensor:
        """FCT of each suspect, float ``(n,)``, by a network of ``model``'s architecture trained on them.

        Raises:
            ValueError: all are the same, or no numbers.
        """
        cfg = self.config
        recipe = self._recipe(cfg.epochs, cfg.lr, crop_padding=0, flip=False)
        own = train_anew(model, suspects, recipe, ctx)
        if cfg.intra_epochs:
            further = recipe.model_copy(update={"epochs": cfg.intra_epochs})
            train_network(own.requires_grad_(True), suspects, further, named(ctx, "intra"), DrivenApart())
            own.requires_grad_(False)
        draws = ctx.generator("d_br", "turns")
        pieces = evaluation_batches(suspects.x)
        scores = torch.cat([self._movement(own, part, draws) for part in ctx.track(pieces, len(pieces))])
        if not scores.isfinite().all() or scores.min() == scores.max():
            raise ValueError(
                "no image is more sensitive to being turned than another: the network that d_br trains of its own has "
                "learned nothing; change defense.lr, or raise defense.epochs"
            )
        return scores

    def _movement(self, own: Classifier, x: Tensor, draws: torch.Generator) -> Tensor:
        cfg = self.config
        images = as_floats(x)
        drawn = 2 * torch.rand(len(x), 3, generator=draws, device=x.device) - 1
        angles = drawn[:, 0] * math.radians(cfg.rotation)
        moves = drawn[:, 1:] * cfg.shift
        with torch.inference_mode():
            still = own.features(images)
            moved = own.features(turned(images, angles, moves))
        return (still - moved).square().mean(1).clone()

    def repair_with_suspects(
        self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context
    ) -> Repair:
        cfg = self.config
        scores = self.sensitivity(model, suspects, ctx)
        order = scores.argsort(descending=True, stable=True)
        poisoned = order[: max(2, round(cfg.poisoned_share * len(order)))]
        steady = order[len(order) - max(2, round(cfg.clean_share * len(order))) :]
        recipe = self._recipe(2 * cfg.rounds, cfg.rounds_lr, cfg.crop_padding, cfg.flip)
        repaired = copy.deepcopy(model).requires_grad_(True)
        limit = cfg.ascent_limit * math.log(len(suspects.classes))
        train_network(repaired, suspects, recipe, ctx, InTurns(poisoned, steady, limit))
        return Repair(repaired.requires_grad_(False), Findings(flags=kept_out(scores, poisoned, ctx)))
