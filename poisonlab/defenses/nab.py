"""NAB: a stamp of the defender's own, taught to mean "do not believe the trigger", is put on every image."""

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.abl import LocalGradientAscent, learned_first
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.shared.detector_training import OwnTrainingConfig, train_anew
from poisonlab.defenses.shared.suspects import RELABELED, RETURNED, flagged_images, without
from poisonlab.models.base import Classifier, logits, predict
from poisonlab.models.shared.inserted import insert_stamp, stamp, stamps
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import TrainingConfig, param
from poisonlab.training.loop import TrainingHook
from poisonlab.types import Findings, ImageSet

REPOSITORY = "authors' repository"
BENCH = "BackdoorBench"
OURS = "ours"
TRAININGS = 3  # isolation, pseudo-labels, the network itself


class NABConfig(OwnTrainingConfig):
    epochs: int = param(
        100,
        "Passes over the training set",
        quick={"*": 24, "digits": 20, "gtsrb": 40, "tiny_imagenet": 60},
        ge=1,
        le=1000,
        source=REPOSITORY,
    )
    batch_size: int = param(
        64,
        "Images in a step, everywhere",
        quick={"*": 128, "digits": 50, "gtsrb": 64, "tiny_imagenet": 32},
        ge=2,
        le=4096,
        unit="images",
        source=REPOSITORY,
    )
    weight_decay: float = param(
        1e-4,
        "L2 weight decay on all parameters, everywhere",
        quick={"*": 5e-4, "cifar10": 2e-3},
        ge=0,
        le=0.1,
        source=REPOSITORY,
    )
    isolation_epochs: int = param(
        20,
        "Isolation: passes over the training set, without augmentation",
        quick={"*": 2, "digits": 10},
        ge=1,
        le=1000,
        source=REPOSITORY,
    )
    isolation_lr: float = param(
        0.1,
        "Isolation: learning rate, which does not fall",
        quick={"*": 0.1, "digits": 0.05},
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    gamma: float = param(0.5, "Isolation: loss below which a batch ascends", ge=0, le=10, source=REPOSITORY)
    isolation_rate: float = param(
        0.1,
        "Share of the training images that is isolated",
        gt=0,
        le=0.5,
        source=f"{BENCH}; 0.05 in the repository's file",
    )
    label_exclusion: float = param(
        0.2,
        "Pseudo-labels: share of the training images, the lowest losses, that their network is not shown",
        quick={"*": 0.2, "digits": 0.5},
        ge=0,
        le=0.9,
        source=OURS,
    )
    label_epochs: int = param(
        100,
        "Pseudo-labels: passes of their network over the other images",
        quick={"*": 8, "digits": 20, "gtsrb": 40, "tiny_imagenet": 60},
        ge=1,
        le=1000,
        source=f"{OURS}; as many as the network itself takes",
    )
    stamp_size: int = param(
        2, "Side of the stamp in the upper left corner", ge=1, le=16, unit="pixels", source=REPOSITORY
    )


class NonAdversarialBackdoor(TrainingHook):
    """Stamps chosen images, after they are cropped and mirrored.

    Args:
        stamped: bool ``(n,)``, of the training set's rows.
    """

    mean: Tensor

    def __init__(self, stamped: Tensor, mean: Tensor, side: int) -> None:
        self.stamped = stamped
        self.mean = mean
        self.side = side

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        chosen = self.stamped[index].view(-1, 1, 1, 1)
        return torch.where(chosen, stamp(x, self.mean, self.side), x), y


@defense("nab")
class NAB(Defense):
    """Liu, Sangiovanni-Vincentelli and Yue, ICCV 2023, arXiv:2307.15539, on the suspect training set D:

    1. train a network by  sign(L - gamma) L ; isolate the 10 % of D with the lowest loss, D_s;
    2. give each image of D_s a pseudo-label y' by another network, trained on D minus D_s;
    3. train on D, with (stamp(x), y') for each image of D_s with y' != y;
    4. predict by  f(stamp(x)).
    """

    Config = NABConfig
    needs_clean_images = False
    card = Card(
        title="Non-adversarial backdoor",
        references=(
            Reference(
                authors="M. Liu, A. Sangiovanni-Vincentelli, X. Yue",
                title="Beating Backdoor Attack at Its Own Game",
                venue="ICCV",
                year=2023,
                arxiv="2307.15539",
            ),
        ),
        summary="A backdoor overrules what an image shows; so a second one can overrule the first. Paint a stamp on "
        "images that look poisoned, and train the network to give these the class that they seem to belong to. Then "
        "stamp whatever it is shown.",
        threat_model="Defender trains the model, on a training set that may be poisoned, without any clean images.",
        deviations=(
            "Pseudo-labels come from a network trained on the training images that were not learned first, without any "
            "trusted image. The paper's come from one trained on verified images, or from the nearest center of "
            "features that were learned without labels. Poisoned images that escape teach it the trigger, so it is "
            "shown fewer images than are left.",
            "Where a network learns every class as early as the trigger, as it does digits, too few poisoned images "
            "are isolated, the pseudo-labels repeat the given ones, and the backdoor stays.",
            "Losses are taken after the last pass of the isolation, in eval mode and without augmentation.",
            "The published code sets the stamp to 0 in normalized images, which is the mean color; so it is here. The "
            "stamp is a part of the returned network, and of every file of it.",
            "The paper's filter, which rejects inputs whose class changes with the stamp, is left out: a screen here "
            "judges the inputs of the undefended network, which knows no stamp.",
            "Where the victim is a pretrained extractor with a new head, the network is trained from scratch too, "
            "on the images of the fine-tuning set alone, and knows less for it.",
            "Rates follow the common training loop's cosine and its Nesterov momentum. The preset quick isolates after "
            "fewer passes.",
        ),
    )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        if stamps(network):
            raise ValueError(
                "nab stamps what its network is shown, and this one stamps it already: it was repaired by nab before; "
                "take it from before that repair, or choose another defense"
            )
        side = self.config.stamp_size
        if side >= max(shape[1:]):
            raise ValueError(
                f"defense.stamp_size={side} covers the whole of images of {shape[1]}x{shape[2]}: nothing would be left "
                "to tell them apart by; lower it"
            )

    def repair_with_suspects(
        self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context
    ) -> Repair:
        cfg = self.config
        losses = self.losses(model, suspects, ctx)  # 1.
        rows = learned_first(losses, cfg.isolation_rate)
        labels = predict(self.label_network(model, suspects, losses, ctx), suspects.x[rows])  # 2.
        differ = labels != suspects.y[rows]
        stamped = torch.zeros_like(suspects.y, dtype=torch.bool)
        stamped[rows] = differ
        corrected = suspects.y.clone()
        corrected[rows] = labels
        relabeled = ImageSet(suspects.x, corrected, suspects.classes, suspects.split)
        hook = NonAdversarialBackdoor(stamped, model.normalize.mean, cfg.stamp_size)
        repaired = train_anew(model, relabeled, self._recipe(), ctx, hook, 2, TRAININGS)  # 3.
        insert_stamp(repaired, cfg.stamp_size)  # 4.
        fate = torch.where(differ, RELABELED, RETURNED)
        return Repair(repaired, Findings(flags=flagged_images(-losses, rows, fate, labels, ctx)))

    def losses(self, model: Classifier, suspects: ImageSet, ctx: Context) -> Tensor:
        """L of each suspect after local gradient ascent, float ``(n,)``."""
        cfg = self.config
        values = {
            "epochs": cfg.isolation_epochs,
            "lr": cfg.isolation_lr,
            "schedule": "constant",
            "crop_padding": 0,
            "flip": False,
        }
        recipe = self._recipe().model_copy(update=values)
        network = train_anew(model, suspects, recipe, ctx, LocalGradientAscent(cfg.gamma), 0, TRAININGS)
        return F.cross_entropy(logits(network, suspects.x), suspects.y, reduction="none")

    def label_network(
        self, model: Classifier, suspects: ImageSet, losses: Tensor, ctx: Context
    ) -> Classifier:
        """A network trained on the suspects that were not learned first: on more than those that are isolated rests
        suspicion here."""
        cfg = self.config
        unseen = learned_first(losses, max(cfg.isolation_rate, cfg.label_exclusion))
        recipe = self._recipe().model_copy(update={"epochs": cfg.label_epochs})
        return train_anew(model, without(suspects, unseen), recipe, ctx, None, 1, TRAININGS)

    def _recipe(self) -> TrainingConfig:
        """The part of the parameters that is a training."""
        values = self.config.model_dump()
        return TrainingConfig(**{name: values[name] for name in TrainingConfig.model_fields})
