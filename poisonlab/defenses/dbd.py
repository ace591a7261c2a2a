"""Decoupling-based defense: features learned without labels, then a head, then only the labels that it believes."""

import math
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import NO_FLIPS
from poisonlab.defenses.shared.contrastive import learn_features
from poisonlab.defenses.shared.detector_training import drawn_anew, part_of
from poisonlab.defenses.shared.suspects import kept_out
from poisonlab.models.base import Classifier, extract, logits
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, TrainingConfig, param
from poisonlab.training.augmentation import augment
from poisonlab.training.loop import batches, fit, steps_in_epoch
from poisonlab.types import Findings, ImageSet

REPOSITORY = "authors' repository"
FAINTEST = 1e-4  # what a label counts as where it is not given: the logarithm of 0 has no end
PARTS = 3  # trainings, one after the other


class DBDConfig(Config):
    contrastive_epochs: int = param(
        100,
        "Features: passes over the images, two views of each",
        quick={"*": 30, "digits": 40},
        ge=1,
        le=5000,
        source=f"{REPOSITORY}, which takes this one of a training of 1000",
    )
    contrastive_batch_size: int = param(
        512,
        "Features: images in a step",
        quick={"*": 256, "digits": 100},
        ge=2,
        le=8192,
        unit="images",
        source=REPOSITORY,
    )
    contrastive_lr: float = param(
        0.4,
        "Features: learning rate at the start, falling as a cosine",
        quick=0.2,
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    temperature: float = param(
        0.5, "Features: what similarities of views are divided by", gt=0, le=10, source=REPOSITORY
    )
    weight_decay: float = param(
        1e-4, "Features: L2 weight decay on all parameters", ge=0, le=0.1, source=REPOSITORY
    )
    head_epochs: int = param(
        10, "Head: passes over all labeled images, the features frozen", ge=1, le=1000, source=REPOSITORY
    )
    head_batch_size: int = param(
        128,
        "Head: images in a step",
        quick={"*": 128, "digits": 50},
        ge=2,
        le=4096,
        unit="images",
        source=REPOSITORY,
    )
    head_lr: float = param(2e-3, "Head: Adam learning rate", quick=1e-2, gt=0, le=1, source=REPOSITORY)
    ce_weight: float = param(
        0.1, "Symmetric loss: weight of the cross-entropy", ge=0, le=10, source=REPOSITORY
    )
    rce_weight: float = param(
        1.0, "Symmetric loss: weight of the reverse cross-entropy", ge=0, le=10, source=REPOSITORY
    )
    credible_share: float = param(
        0.5,
        "Share of the images, the lowest losses, whose labels are believed",
        gt=0,
        le=1,
        source=REPOSITORY,
    )
    mixing_epochs: int = param(
        190,
        "Whole network: times that the believed images are chosen and learned",
        quick=15,
        ge=1,
        le=1000,
        source=REPOSITORY,
    )
    mixing_batches: int = param(
        1024,
        "Whole network: steps in each of these",
        quick={"*": 94, "digits": 20},
        ge=1,
        le=10000,
        source=REPOSITORY,
    )
    batch_size: int = param(
        64,
        "Whole network: labeled images in a step, and as many others twice",
        ge=2,
        le=4096,
        source=REPOSITORY,
    )
    lr: float = param(2e-3, "Whole network: Adam learning rate", gt=0, le=1, source=REPOSITORY)
    sharpening: float = param(
        0.5, "Whole network: temperature of the guessed labels", gt=0, le=1, source=REPOSITORY
    )
    mix_alpha: float = param(
        0.75,
        "Whole network: images are mixed in proportions from Beta(a, a)",
        gt=0,
        le=1,
        source=REPOSITORY,
    )
    unlabeled_weight: float = param(
        15.0,
        "Whole network: weight of the images with guessed labels in the last round, growing from 0",
        ge=0,
        le=1000,
        source=REPOSITORY,
    )
    crop_padding: int = param(
        4,
        "Crop after padding by this much; 0 for none",
        quick=1,
        ge=0,
        le=16,
        unit="pixels",
        source=REPOSITORY,
    )
    flip: bool = param(
        True,
        "Mirror images half of the time, also of the views",
        quick={"*": True} | NO_FLIPS,
        elsewhere=NO_FLIPS,
        source=REPOSITORY,
    )


def symmetric_cross_entropy(given: Tensor, y: Tensor, ce: float, rce: float) -> Tensor:
    """a CE(p, y) + b RCE,  RCE = - sum over classes of  p_c log max(y_c, 1e-4),  of each image, float ``(n,)``.

    Args:
        given: logits ``(n, classes)``. y: int64 ``(n,)``.
    """
    labels = F.one_hot(y, given.shape[1]).to(given)
    reverse = -(given.softmax(1) * labels.clamp(min=FAINTEST).log()).sum(1)
    return ce * F.cross_entropy(given, y, reduction="none") + rce * reverse


def proportion(alpha: float, generator: torch.Generator) -> float:
    """The larger part of a mixture of two, ``max(l, 1 - l)`` with l from Beta(alpha, alpha), alpha <= 1 (Joehnk)."""
    while True:
        u, v = torch.rand(2, generator=generator, device=generator.device).tolist()
        one = u ** (1 / alpha)
        other = v ** (1 / alpha)
        if 0 < one + other <= 1:
            return float(max(one, other) / (one + other))


class MixMatch:
    """The steps of MixMatch (D. Berthelot et al., NeurIPS 2019, arXiv:1905.02249) on a set some of whose labels are
    believed.

    Args:
        suspects: all images with their labels.

    Attributes:
        losses: of each suspect when labels were last chosen, float ``(n,)``.
        others: the rows whose labels are not believed, int64.
        weight: of their loss.
        believed: how many images of the present batch come with a label that is believed.
    """

    losses: Tensor
    others: Tensor
    weight: float
    believed: int

    def __init__(self, network: Classifier, suspects: ImageSet, config: DBDConfig, ctx: Context) -> None:
        self.network = network
        self.suspects = suspects
        self.config = config
        self.ctx = ctx
        self.draws = ctx.generator("dbd", "mixmatch")

    def steps(self) -> Iterator[Tensor]:
        """Rows of believed images of each step; they are chosen anew before every round."""
        cfg = self.config
        for number in range(cfg.mixing_epochs):
            believed = self.choose()
            self.weight = cfg.unlabeled_weight * number / cfg.mixing_epochs
            passes = math.ceil(cfg.mixing_batches / steps_in_epoch(len(believed), cfg.batch_size))
            for index in islice(
                batches(len(believed), cfg.batch_size, passes, self.draws), cfg.mixing_batches
            ):
                yield believed[index]

    def choose(self) -> Tensor:
        """The rows with the lowest losses."""
        cfg = self.config
        self.network.eval()
        given = logits(self.network, self.suspects.x)
        self.losses = symmetric_cross_entropy(given, self.suspects.y, cfg.ce_weight, cfg.rce_weight)
        self.network.train()
        order = self.losses.argsort(stable=True)
        count = max(2, round(cfg.credible_share * len(order)))
        self.others = order[count:]
        return order[:count]

    def prepare(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """A batch, mixed, and distributions over the classes: the believed images first."""
        cfg = self.config
        classes = len(self.suspects.classes)
        images = [self.seen(index)]
        labels = [F.one_hot(self.suspects.y[index], classes).float()]
        if len(self.others):
            places = torch.randint(len(self.others), (len(index),), generator=self.draws, device=index.device)
            rows = self.others[places]
            views = [self.seen(rows), self.seen(rows)]
            images += views
            labels += 2 * [self.guess(views)]
        x = torch.cat(images)
        y = torch.cat(labels)
        partner = torch.randperm(len(x), generator=self.draws, device=self.draws.device)
        share = proportion(cfg.mix_alpha, self.draws)
        self.believed = len(index)
        return x[partner].lerp(x, share), y[partner].lerp(y, share)

    def seen(self, rows: Tensor) -> Tensor:
        """Images cropped and mirrored, float in [0, 1]."""
        x = augment(self.suspects.x[rows], self.config.crop_padding, self.config.flip, self.draws)
        return x.to(torch.float32, memory_format=torch.channels_last).div_(255)

    def guess(self, views: list[Tensor]) -> Tensor:
        """The mean answer to several views of images, made sharper: q^(1/T), scaled to 1."""
        with torch.no_grad(), self.ctx.autocast():
            answers = [self.network(x).float().softmax(1) for x in views]
        mean = torch.stack(answers).mean(0) ** (1 / self.config.sharpening)
        return mean / mean.sum(1, keepdim=True)

    def loss(self, given: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of the believed images, and the squared distance of the others' answers."""
        given = given.float()
        loss = F.cross_entropy(given[: self.believed], y[: self.believed])
        if len(given) > self.believed:
            loss = loss + self.weight * F.mse_loss(given[self.believed :].softmax(1), y[self.believed :])
        return loss


@defense("dbd")
class DBD(Defense):
    """Huang, Li, Wu, Qin and Ren, ICLR 2022, arXiv:2202.03423, on the suspect training set D:

    1. learn features from the images of D without their labels (SimCLR);
    2. freeze them, and train a head on D by  0.1 CE + RCE ;
    3. in every round believe the labels of the half of D with the lowest loss, and train the whole network on these
       with labels and on the others without (MixMatch).
    """

    Config = DBDConfig
    needs_clean_images = False
    card = Card(
        title="Decoupling-based defense (DBD)",
        references=(
            Reference(
                authors="K. Huang, Y. Li, B. Wu, Z. Qin, K. Ren",
                title="Backdoor Defense via Decoupling the Training Process",
                venue="ICLR",
                year=2022,
                arxiv="2202.03423",
            ),
        ),
        summary="A trigger becomes a backdoor because a label stands beside it. So learn what images look like without "
        "any labels, and a poisoned dog lies among dogs; its label is then hard to learn, and labels that are hard to "
        "learn are not believed.",
        threat_model="Defender trains the model, on a training set that may be poisoned, without any clean images.",
        deviations=(
            "The last network counts; the repository keeps the one that is best on test images.",
            "Hues are turned in the plane of YIQ, not in HSV, and blurs reach over three pixels.",
            "The half is believed over all classes together, as in the repository: classes that are hard to learn are "
            "believed less.",
            "The preset quick takes a twentieth of the steps, on small images. That is enough for digits. On CIFAR-10 "
            "it fails: the poisoned images are the ones that are believed (BadNets, seed 10: accuracy 35 %, attack "
            "success 97 %). Other values were not tried there.",
            "The preset full keeps the published numbers, which take days on two cores.",
        ),
    )

    def repair_with_suspects(
        self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context
    ) -> Repair:
        network = drawn_anew(model, ctx)
        self.learn_features(network, suspects, part_of(ctx, 0, PARTS))  # 1.
        self.learn_head(network, suspects, part_of(ctx, 1, PARTS))  # 2.
        losses, doubted = self.learn_believed(network, suspects, part_of(ctx, 2, PARTS, curve=True))  # 3.
        return Repair(network.requires_grad_(False), Findings(flags=kept_out(losses, doubted, ctx)))

    def learn_features(self, network: Classifier, suspects: ImageSet, ctx: Context) -> None:
        cfg = self.config
        recipe = TrainingConfig(
            epochs=cfg.contrastive_epochs,
            batch_size=cfg.contrastive_batch_size,
            lr=cfg.contrastive_lr,
            weight_decay=cfg.weight_decay,
            nesterov=False,
            schedule="cosine",
            crop_padding=0,
            flip=False,
        )
        learn_features(network, suspects, recipe, cfg.temperature, cfg.flip, ctx)

    def learn_head(self, network: Classifier, suspects: ImageSet, ctx: Context) -> None:
        cfg = self.config
        features = extract(network.eval(), suspects.x)

        def loss(given: Tensor, y: Tensor) -> Tensor:
            given = given * network.logit_scale
            return symmetric_cross_entropy(given, y, cfg.ce_weight, cfg.rce_weight).mean()

        n = len(suspects)
        total = cfg.head_epochs * steps_in_epoch(n, cfg.head_batch_size)
        optimizer, schedule = _adam(network.head, cfg.head_lr)
        steps = batches(n, cfg.head_batch_size, cfg.head_epochs, ctx.generator("dbd", "head"))
        fit(
            network.head, lambda i: (features[i], suspects.y[i]), loss, optimizer, schedule, steps, total, ctx
        )

    def learn_believed(self, network: Classifier, suspects: ImageSet, ctx: Context) -> tuple[Tensor, Tensor]:
        """The loss of each suspect in the end, float ``(n,)``, and the rows that are not believed."""
        cfg = self.config
        total = cfg.mixing_epochs * cfg.mixing_batches
        optimizer, schedule = _adam(network, cfg.lr)
        learning = MixMatch(network, suspects, cfg, ctx)
        network.train()
        fit(network, learning.prepare, learning.loss, optimizer, schedule, learning.steps(), total, ctx)
        learning.choose()
        network.eval()
        return learning.losses, learning.others


def _adam(module: nn.Module, lr: float) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam whose rate does not fall."""
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
