"""EWC deletion: unlearn the flagged images, held back by an anchor, and stop before it hurts."""

import copy
import math
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.shared.ewc import (
    HOLDS_SUSPECTS,
    TANNO,
    Anchor,
    InfluenceConfig,
    drawn_fisher,
    flag,
    influence,
    plain_recipe,
)
from poisonlab.defenses.shared.suspects import kept_out, state
from poisonlab.models.base import Classifier, logits
from poisonlab.registry import Card, defense
from poisonlab.spec.config import param
from poisonlab.spec.papers import REPAIR
from poisonlab.training.loop import fine_tune
from poisonlab.types import Findings, ImageSet


class EWCDeletionConfig(InfluenceConfig):
    gamma: float = param(0.03, "Deletion against the anchor", gt=0, le=10, source=f"{TANNO}: 0.01 to 0.05")
    epochs: int = param(100, "Most passes over the flagged images", quick=10, ge=1, le=1000, source=TANNO)
    batch_size: int = param(64, "Images in a step", ge=2, le=4096, unit="images", source=TANNO)
    lr: float = param(1e-3, "Adam learning rate", quick=1e-4, gt=0, le=1, source=TANNO)


def standing(model: Classifier, clean: ImageSet) -> tuple[float, float]:
    """How good a model is on the trusted images, for comparison: accuracy, then the lower loss."""
    answers = logits(model, clean.x)
    accuracy = (answers.argmax(1) == clean.y).double().mean().item()
    return accuracy, -F.cross_entropy(answers, clean.y).item()


class GuardedAscent(Anchor):
    """Ascends on the loss of each batch, and remembers the weights that did best on the trusted images.

    Attributes:
        best: tensors of the model at its best look; what it started from is looked at first.
    """

    def __init__(
        self, model: Classifier, fisher: dict[str, Tensor], strength: float, clean: ImageSet
    ) -> None:
        super().__init__(model, fisher, strength)
        self.model = model
        self.clean = clean
        self.limit = math.log(len(clean.classes))  # an image that is guessed is forgotten
        self.best_standing = standing(model, clean)
        self.best = state(model)

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        self.look()
        return data

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        return -F.cross_entropy(logits, y, reduction="none").clamp(max=self.limit).mean()

    def look(self) -> None:
        """Keep the weights if they are better on the trusted images than any before."""
        now = standing(self.model, self.clean)
        if all(map(math.isfinite, now)) and now > self.best_standing:
            self.best_standing = now
            self.best = state(self.model)

    def end(self, ctx: Context) -> None:
        self.look()


@defense("ewc_deletion")
class EWCDeletion(Defense):
    """max over theta of  -log p(C | theta) / |C| - 1 / gamma (theta - theta^)' diag(F) (theta - theta^),

    stopped where the trusted images fare best: never worse on them than the model that was given. The second term is
    N / 2 (theta - theta^)' diag(F) (theta - theta^), eq. 18, times 2 / (gamma N), as in the appendix.
    """

    Config = EWCDeletionConfig
    card = Card(
        title="EWC deletion",
        references=(REPAIR,),
        summary="Instead of training again without the flagged images, make the model forget them: climb their loss, "
        "tied by an elastic band to the old weights, and stop when trusted images begin to suffer.",
        threat_model=HOLDS_SUSPECTS,
        deviations=(
            "The deletion's log-likelihood is a mean over the flagged images; an image ascends no further than the "
            "loss of a guess. Batch norm stays as it is.",
            "The early stop looks at the trusted images, not at the model's failures, and keeps the best epoch, the "
            "start included.",
        ),
    )

    def repair_with_suspects(
        self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context
    ) -> Repair:
        cfg: Any = self.config
        scores = influence(model, clean, suspects, cfg, ctx)
        rows = flag(scores, cfg)
        findings = Findings(flags=kept_out(scores, rows, ctx))
        repaired = copy.deepcopy(model)
        if not len(rows):
            return Repair(repaired, findings)
        fisher = drawn_fisher(model, suspects, cfg.fisher_images, ctx)
        guard = GuardedAscent(repaired, fisher, 2 / cfg.gamma, clean)
        recipe = plain_recipe(cfg.epochs, cfg.batch_size, cfg.lr)
        fine_tune(repaired.requires_grad_(True), suspects[rows], recipe, ctx, guard)
        repaired.load_state_dict(guard.best)
        return Repair(repaired.requires_grad_(False), findings)
