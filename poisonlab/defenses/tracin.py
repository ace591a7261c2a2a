"""TracIn: an image that has to teach itself, against all others, is suspicious."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, evenly
from poisonlab.defenses.shared.detector_training import OwnTrainingConfig, train_anew
from poisonlab.defenses.shared.sample_scores import (
    OutlierRule,
    flagged_shares,
    outlier_threshold,
    sample_verdict,
)
from poisonlab.models.base import Classifier, extract
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import TrainingConfig, param
from poisonlab.training.loop import TrainingHook
from poisonlab.training.optimizers import learning_rate
from poisonlab.types import Detection, ImageSet

LEAST_SPREAD = 0.02  # of the shares of flagged images
OURS = "not published"


class TracInConfig(OwnTrainingConfig, OutlierRule):
    checkpoints: int = param(
        6,
        "Epochs after which influence is measured, evenly spread, the last included",
        quick=4,
        ge=1,
        le=1000,
        source=OURS,
    )
    share: float = param(
        0.1,
        "Share of the training images flagged, those with the largest influence on themselves",
        gt=0,
        lt=1,
        source=f"{OURS}: the paper goes through all shares",
    )


def self_influence(model: Classifier, data: ImageSet) -> Tensor:
    """||grad l(z)||^2 by the last layer's weights and biases, float ``(n,)``.

    The gradient is the outer product of  s (p - onehot(y))  and  (features, 1), s the fixed factor on the logits.
    """
    features = extract(model, data.x)
    logits = (features @ model.head.weight.detach().T + model.head.bias.detach()) * model.logit_scale
    error = model.logit_scale * (logits.softmax(1) - F.one_hot(data.y, logits.shape[1]))
    return error.square().sum(1) * (features.square().sum(1) + 1)


def mean_rates(config: TrainingConfig, steps_an_epoch: int, epochs: list[int]) -> list[float]:
    """The mean learning rate of the steps that lead to each checkpoint from the one before."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], config.lr)
    schedule = learning_rate(optimizer, config, config.epochs * steps_an_epoch)
    rates = []
    for _ in range(config.epochs * steps_an_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    ends = [epoch * steps_an_epoch for epoch in epochs]
    stretches = [rates[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [sum(stretch) / len(stretch) for stretch in stretches]


class Influence(TrainingHook):
    """Attributes: ``total`` float ``(n,)``, each image's influence on itself over the checkpoints so far."""

    def __init__(self, config: TracInConfig) -> None:
        self.config = config

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        marks = [epoch for epoch in evenly(epochs, self.config.checkpoints + 1) if epoch]
        self.rates = dict(zip(marks, mean_rates(self.config, steps_an_epoch, marks), strict=True))
        self.model = model
        self.data = data
        self.epochs = epochs
        self.total = torch.zeros(len(data), device=data.x.device)

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        self._measure(number - 1)
        return data

    def end(self, ctx: Context) -> None:
        self._measure(self.epochs)

    def _measure(self, epoch: int) -> None:
        if epoch not in self.rates:
            return
        mode = self.model.training
        self.model.eval()
        self.total += self.rates[epoch] * self_influence(self.model, self.data)  # type: ignore[arg-type]
        self.model.train(mode)


@defense("tracin")
class TracIn(Defense):
    """Pruthi, Liu, Kale and Sundararajan, NeurIPS 2020, arXiv:2002.08484, TracInCP:

    TracInCP(z, z') = sum over checkpoints t of  eta_t  grad l(z; theta_t) . grad l(z'; theta_t),

    and the self-influence TracInCP(z, z), which ranks mislabeled images.
    """

    Config = TracInConfig
    needs_clean_images = False
    card = Card(
        title="TracIn self-influence",
        references=(
            Reference(
                authors="G. Pruthi, F. Liu, S. Kale, M. Sundararajan",
                title="Estimating Training Data Influence by Tracing Gradient Descent",
                venue="NeurIPS",
                year=2020,
                arxiv="2002.08484",
            ),
        ),
        summary="Follow a training, and note how much each image lowers its own loss. An image like many others is "
        "learned along with them; one with a wrong label must do all the work itself.",
        threat_model="Defender holds the training set, which may be poisoned, and trains a network of their own on it; "
        "no clean images.",
        deviations=(
            "Checkpoints come from a network that the defender trains on the same images: whoever is handed a finished "
            "model has none, and at its end an image that was learned has no gradient left. Of the model itself only "
            "the architecture is used.",
            "Gradients are those of the last layer, without augmentation.",
            "Checkpoints are evenly spread; the paper picks those between which the loss falls most. eta_t is the mean "
            "learning rate since the checkpoint before.",
            "The paper gives no cut-off. Here a fixed share is flagged, in a clean training set, too; a class is named "
            "whose share of flagged images stands out.",
            "It looks for wrong labels. A trigger is an easy and common feature, so its images help each other: once "
            "it is learned, they have less influence on themselves than clean images.",
        ),
    )

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        cfg = self.config
        influence = Influence(self.config)
        train_anew(model, suspects, cfg, ctx, influence)
        flagged = torch.zeros_like(suspects.y, dtype=torch.bool)
        flagged[influence.total.topk(round(cfg.share * len(suspects))).indices] = True
        shares = flagged_shares(flagged, suspects)
        threshold = outlier_threshold(shares, cfg.anomaly, LEAST_SPREAD)
        return sample_verdict("share of the class flagged", shares, threshold, influence.total, flagged, ctx)
