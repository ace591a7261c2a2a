"""Victims the attacker trains for validation: whether the poisons work, and where training leads the weights."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from poisonlab.attacks.shared.unrolling import carlini_wagner
from poisonlab.context import Context
from poisonlab.models.base import Classifier, logits
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import TrainingHook, train_network
from poisonlab.types import ImageSet


@dataclass(frozen=True)
class TrainingPath:
    """A training, epoch by epoch, from its random start on.

    Attributes:
        weights: ``(epochs + 1, parameters)``.
        loss: ``(epochs + 1,)``, L_adv of the target. probability: ``(epochs + 1,)``, of the adversarial class.
    """

    weights: Tensor
    loss: Tensor
    probability: Tensor


class _Recorder(TrainingHook):
    """Records weights and the prediction for the target before every epoch and at the end."""

    def __init__(self, model: Classifier, target: Tensor, label: Tensor) -> None:
        self.model = model
        self.target = target
        self.label = label
        self.weights: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.probabilities: list[Tensor] = []

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        self.record()
        return data

    def end(self, ctx: Context) -> None:
        self.record()

    def record(self) -> None:
        predicted = logits(self.model.eval(), self.target)
        self.model.train()
        self.weights.append(torch.cat([p.detach().flatten() for p in self.model.parameters()]).cpu())
        self.losses.append(carlini_wagner(predicted, self.label).cpu())
        self.probabilities.append(predicted.softmax(1)[0, self.label[0]].cpu())

    def path(self) -> TrainingPath:
        return TrainingPath(
            torch.stack(self.weights), torch.stack(self.losses), torch.stack(self.probabilities)
        )


def train_and_record(
    model: Classifier, data: ImageSet, recipe: TrainingConfig, target: Tensor, label: Tensor, ctx: Context
) -> TrainingPath:
    """Train ``model`` in place and record how its prediction for the target changes.

    Args:
        target: uint8 ``(1, c, h, w)``. label: the class it should be given, int64 ``(1,)``.
    """
    recorder = _Recorder(model, target, label)
    silent = dataclasses.replace(ctx, send=lambda event: None, observer=None)
    train_network(model.requires_grad_(True), data, recipe, silent, recorder)
    return recorder.path()


def plane(paths: Sequence[TrainingPath]) -> tuple[Tensor, Tensor]:
    """The weights of all paths, projected onto the plane of their largest variance.

    Returns:
        float32 ``(paths, epochs + 1, 2)``, and the share of the variance along each axis, ``(2,)``.
    """
    stacked = torch.cat([path.weights for path in paths]).numpy()
    found = PCA(n_components=2, svd_solver="full").fit(stacked)
    places = torch.from_numpy(found.transform(stacked)).float().view(len(paths), -1, 2)
    return places, torch.from_numpy(found.explained_variance_ratio_).float()
