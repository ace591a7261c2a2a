"""Victims that the attacker trains himself, to see whether the poisons work and which way they lead the weights."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from poisonlab.attacks.shared.unrolling import carlini_wagner
from poisonlab.context import Context
from poisonlab.models.base import Classifier, logits
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import TrainingHook, train_network
from poisonlab.types import ImageSet


@dataclass(frozen=True)
class Path:
    """A training, epoch by epoch, its random start first.

    Attributes:
        weights: ``(epochs + 1, parameters)``.
        loss: ``(epochs + 1,)``, L_adv of the target. probability: ``(epochs + 1,)``, of the wished class.
    """

    weights: Tensor
    loss: Tensor
    probability: Tensor


class _Recording(TrainingHook):
    def __init__(self, target: Tensor, label: Tensor) -> None:
        self.target, self.label = target, label
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        self.model = model

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        self.look()
        return data

    def end(self, ctx: Context) -> None:
        self.look()

    def look(self) -> None:
        said = logits(self.model.eval(), self.target)  # type: ignore[arg-type]
        self.model.train()
        flat = torch.cat([p.detach().flatten() for p in self.model.parameters()]).cpu()
        self.seen.append(
            (flat, carlini_wagner(said, self.label).cpu(), said.softmax(1)[0, self.label[0]].cpu())
        )


def rehearse(
    start: Classifier, data: ImageSet, recipe: TrainingConfig, target: Tensor, label: Tensor, ctx: Context
) -> Path:
    """Train ``start``, in place, and watch the target.

    Args:
        target: uint8 ``(1, c, h, w)``. label: the class it should be given, int64 ``(1,)``.
    """
    watching = _Recording(target, label)
    quiet = dataclasses.replace(ctx, send=lambda event: None, observer=None)
    train_network(start.requires_grad_(True), data, recipe, quiet, watching)
    weights, loss, probability = (torch.stack(column) for column in zip(*watching.seen, strict=True))
    return Path(weights, loss, probability)


def plane(paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """The checkpoints of all paths in the plane of their largest variance.

    Returns:
        float32 ``(paths, epochs + 1, 2)``, and the share of the variance along each axis, ``(2,)``.
    """
    stacked = torch.cat([path.weights for path in paths]).numpy()
    found = PCA(n_components=2, svd_solver="full").fit(stacked)
    places = torch.from_numpy(found.transform(stacked)).float().view(len(paths), -1, 2)
    return places, torch.from_numpy(found.explained_variance_ratio_).float()
