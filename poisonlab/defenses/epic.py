"""EPIC: images that stand alone in gradient space are dropped while the network learns."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import ISOLATED, Defense
from poisonlab.models.base import Classifier, logits
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import TrainingHook
from poisonlab.types import ImageSet


class EPICConfig(Config):
    subset: float = param(
        0.3,
        "Medoids as a share of the training images, s",
        quick=0.2,
        gt=0,
        lt=1,
        source="PureGen, appendix E.1: 0.1, 0.2 and 0.3 from scratch; 0.3 in its table 1",
    )
    drop_after: int = param(
        10,
        "Epochs of plain training first; 0 for dropping before the first",
        quick={"*": 2, "digits": 4},
        ge=0,
        le=1000,
        source="PureGen repository",
    )
    every: int = param(
        10,
        "Epochs from one round of dropping to the next",
        quick={"*": 2, "digits": 4},
        ge=1,
        le=1000,
        source="PureGen repository; EPIC's own are 10, and 2 in its short trainings",
    )


def last_layer_gradients(model: Classifier, data: ImageSet) -> Tensor:
    """g_i = softmax(W z_i) - onehot(y_i), float ``(n, classes)``: the bias is left out, as in the repository."""
    offset = model.head.bias.detach() * model.logit_scale
    answers = (logits(model, data.x) - offset).softmax(1)
    return answers - F.one_hot(data.y, answers.shape[1])


def medoids(similarity: Tensor, count: int) -> Tensor:
    """The greedy maximiser of the facility location F(S) = sum_i max_{j in S} s_ij, in the order of choice.

    Args:
        similarity: float ``(n, n)``, symmetric, not negative.
        count: size of S, at most n.

    Returns:
        int64 ``(count,)``.
    """
    reached = torch.zeros_like(similarity[0])  # max_{j in S} s_ij
    gain = similarity.sum(0, dtype=torch.float64)  # F(S + j) - F(S)
    chosen = []
    for _ in range(count):
        best = gain.argmax()
        closer = (similarity[best] > reached).nonzero().squeeze(1)  # only these change what others would gain
        before = reached[closer, None]
        after = similarity[best, closer, None]
        gain -= (similarity[closer].clamp(before, after) - before).sum(0, dtype=torch.float64)
        gain[best] = -torch.inf
        reached[closer] = after[:, 0]
        chosen.append(best)
    return torch.stack(chosen)


def similarities(gradients: Tensor) -> Tensor:
    """s_ij = exp(-||g_i - g_j|| / d), float ``(n, n)``, of rows ``(n, d)``: that of submodlib, which EPIC calls."""
    distance = torch.cdist(gradients, gradients, compute_mode="donot_use_mm_for_euclid_dist")  # exact near 0
    return distance.div_(-gradients.shape[1]).exp_()


def medoids_of_classes(sizes: Tensor, subset: float, generator: torch.Generator) -> Tensor:
    """How many of B = int(subset N) medoids each class gets: its share, rounded up; random classes give one back.

    Args:
        sizes: int64 ``(classes,)``, images of each class, N in all.

    Returns:
        int64 ``(classes,)``, B in all.

    Raises:
        ValueError: B is 0; nothing could be dropped, and EPIC would pass for having found nothing.
    """
    total = int(sizes.sum())
    budget = int(subset * total)
    if not budget:
        raise ValueError(f"subset={subset:g} asks for no medoid of the {total} training images; raise it")
    counts = (sizes.double() / total * budget).ceil().long()
    surplus = int(counts.sum()) - budget
    having = counts.nonzero().squeeze(1)
    order = torch.randperm(len(having), generator=generator, device=sizes.device)
    counts[having[order[:surplus]]] -= 1
    return counts


def isolated(gradients: Tensor, count: int) -> Tensor:
    """The medoids whose cluster holds nobody else, int64 rows of ``gradients`` ``(n, classes)``."""
    similarity = similarities(gradients)
    centers = medoids(similarity, count)
    cluster = similarity[:, centers].argmax(1)
    return centers[torch.bincount(cluster, minlength=count) == 1]


class DropIsolated(TrainingHook):
    """Attributes: ``kept`` bool ``(n,)``, images that were never alone so far."""

    def __init__(self, config: EPICConfig, ctx: Context) -> None:
        self.config = config
        self.ctx = ctx

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        if self.config.drop_after >= epochs:
            raise ValueError(
                f"drop_after={self.config.drop_after} leaves none of the {epochs} epochs of training; lower it"
            )
        self.model = model
        self.draws = self.ctx.generator("epic", "medoids of classes")
        self.kept = torch.ones_like(data.y, dtype=torch.bool)

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        since = number - 1 - self.config.drop_after
        if since >= 0 and since % self.config.every == 0:
            self._drop(data)
        return self.drawn(data)

    def drawn(self, data: ImageSet) -> ImageSet:
        return data if bool(self.kept.all()) else data[self.kept]

    def checkpoint(self) -> Checkpoint:
        return Checkpoint({"kept": self.kept}, generators=[self.draws])

    def _drop(self, data: ImageSet) -> None:
        """All images are judged each time, dropped ones included: one stays that was never alone."""
        mode = self.model.training
        self.model.eval()
        gradients = last_layer_gradients(self.model, data)  # type: ignore[arg-type]
        self.model.train(mode)
        classes, sizes = data.y.unique(return_counts=True)
        counts = medoids_of_classes(sizes, self.config.subset, self.draws)
        for c, count in zip(classes.tolist(), counts.tolist(), strict=True):
            if count:
                rows = torch.nonzero(data.y == c).squeeze(1)
                self.kept[rows[isolated(gradients[rows], count)]] = False
        if not bool(self.kept.any()):
            raise ValueError(
                f"subset={self.config.subset} dropped every training image as isolated; lower it"
            )

    def learned(self) -> dict[str, Tensor]:
        return {ISOLATED: (~self.kept).nonzero().squeeze(1)}

    def end(self, ctx: Context) -> None:
        dropped = int((~self.kept).sum())
        ctx.log(f"{dropped} of {len(self.kept)} training images were dropped as isolated")


@defense("epic")
class EPIC(Defense):
    """Yang, Liu and Mirzasoleiman, ICML 2022, arXiv:2210.09671, Algorithm 1, as PureGen runs it:

    1. train as usual for a while;
    2. every few epochs, in each class, choose the medoids of the last layer's gradients by facility location;
    3. drop each medoid that is nobody else's: an effective poison has a gradient like no other image's.
    """

    Config = EPICConfig
    card = Card(
        title="EPIC",
        references=(
            Reference(
                authors="Y. Yang, T. Y. Liu, B. Mirzasoleiman",
                title="Not All Poisons are Created Equal: Robust Training against Data Poisoning",
                venue="ICML",
                year=2022,
                arxiv="2210.09671",
            ),
        ),
        summary="A targeted poison must pull the network in a direction that no clean image pulls. So group the images "
        "of each class by their gradients, again and again while training, and drop those that stand alone.",
        threat_model="Defender trains or fine-tunes the model, on a training set that may be poisoned, without any "
        "clean images.",
        deviations=(
            "Transfer has the parameters of training from scratch. PureGen takes s = 0.1 every epoch, from the second "
            "or the first on, as do the published tables here; EPIC's own repository takes s = 0.2 every epoch up to "
            "the tenth for a linear head, s = 0.6 every epoch after the fifth for fine-tuning.",
            "The preset quick starts after 2 epochs of 8 (digits: 4) and goes on every 2 (digits: 4).",
        ),
    )

    def training_hook(self, ctx: Context) -> TrainingHook:
        return DropIsolated(self.config, ctx)
