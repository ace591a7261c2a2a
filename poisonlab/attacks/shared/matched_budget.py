"""What MetaPoison and its controls share: targets, base images and the bound. They differ in nothing but the pixels."""

from torch import Tensor

from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.attacks.shared.targeted import TargetChoice, Trials, draw_trials, targeted_threat
from poisonlab.context import Context
from poisonlab.models.base import Classifier
from poisonlab.spec.config import param
from poisonlab.types import ImageSet, Poison, Targeted

REPOSITORY = "MetaPoison repository"
CHOICE = (
    "Targets are images that a clean model of the victim's kind gets right, drawn at random; the repository takes the "
    "first ten test images of a class. On CIFAR-10 birds are to be called dogs, as there; on other datasets the two "
    "classes are random unless they are set."
)
BIRD = {"cifar10": 2, "cifar3": 1}
DOG = {"cifar10": 5, "cifar3": 2}


class SameBudgetConfig(TargetChoice):
    source_class: int = param(
        -1, "Class of the target images; -1 for any", elsewhere=BIRD, ge=-1, source=REPOSITORY
    )
    target_class: int = param(
        -1,
        "Class the target should be given; -1 for a random other one",
        elsewhere=DOG,
        ge=-1,
        source=f"{REPOSITORY}; frogs called aeroplanes there, too",
    )
    targets: int = param(
        10,
        "Independent trials, one target image and one victim each",
        quick={"*": 3, "digits": 3},
        ge=1,
        le=1000,
        unit="images",
        source=REPOSITORY,
    )
    poisons: int = param(
        500,
        "Poisoned images in a trial, of the class the target should be given",
        quick={
            "*": 480,
            "cifar3": 90,
            "digits": 60,
            "cifar100": 120,
            "cinic10": 160,
            "gtsrb": 19,
            "tiny_imagenet": 16,
        },
        ge=1,
        unit="images",
        source=f"{REPOSITORY}: 1 % of CIFAR-10",
    )
    eps: float = param(
        8,
        "L-infinity bound of the perturbation",
        quick={"*": 16, "digits": 64},
        ge=1,
        le=255,
        unit="1/255",
        source=REPOSITORY,
    )


class SameBudget(Attack):
    """Changes images of the adversarial class; the same ones, for the same targets, in every attack of this base."""

    protocols = ("from_scratch",)
    clean_label = True

    def craft(self, trials: Trials, train: ImageSet, model: Classifier, ctx: Context) -> Tensor:
        """The poisons, uint8 like ``trials.base``; nothing given is modified.

        Args:
            model: a clean network of the victim's kind.
        """
        raise NotImplementedError

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        model = view.clean_model()
        trials = draw_trials(view, model, self.config, ctx.generator("metapoison", "choice"))
        return trials.poison(self.craft(trials, view.train, model, ctx), view.train)

    def threat(self, poison: Poison, classes: int) -> Targeted:
        return targeted_threat(poison)
