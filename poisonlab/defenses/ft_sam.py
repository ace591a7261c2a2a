"""FT-SAM: fine-tuning towards weights whose neighborhood is good, too."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import HOLDS_CLEAN_IMAGES, QUICK_STEPS, FTConfig, fine_tune
from poisonlab.defenses.shared.resting_statistics import resting_statistics
from poisonlab.models.base import Classifier
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.loop import TrainingHook, backward
from poisonlab.types import ImageSet

PAPER = "FT-SAM paper"
SMALLEST_NORM = 1e-12


class FTSAMConfig(FTConfig):
    epochs: int = param(
        100,
        "Passes over the clean images",
        quick=20,
        full=50,
        elsewhere={"gtsrb": 50},
        ge=1,
        le=1000,
        source=PAPER,
    )
    lr: float = param(
        0.01,
        "Learning rate at the start, falling as a cosine",
        quick={"*": 0.05, "cifar10": 0.005},
        full=0.05,
        gt=0,
        le=10,
        source=PAPER,
    )
    rho: float = param(
        2.0,
        "Radius of the neighborhood, relative to each weight",
        quick=2.0,
        elsewhere={"gtsrb": 8.0, "tiny_imagenet": 8.0},
        gt=0,
        le=100,
        source=PAPER,
    )
    label_smoothing: float = param(
        0.1,
        "Probability mass spread over the other classes",
        ge=0,
        lt=1,
        source="BackdoorBench, settings for CIFAR-10",
    )


def worst_step(weights: list[Tensor], gradients: list[Tensor], rho: float) -> list[Tensor]:
    """e = rho T^2 g / ||T g||_2  with T = diag(|w|): the steepest e with ||T^-1 e||_2 <= rho.

    The norm is one over all parameters.
    """
    scaled = [w.abs() * g for w, g in zip(weights, gradients, strict=True)]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(s) for s in scaled]))
    return [rho * w.abs() * s / norm.clamp_min(SMALLEST_NORM) for w, s in zip(weights, scaled, strict=True)]


def over_all_classes(smoothing: float, classes: int) -> float:
    """The mass spread over all classes, as the common loop wants it, that takes ``smoothing`` from the given one.

    Raises:
        ValueError: the given class would have less than the others.
    """
    whole = smoothing * classes / (classes - 1)
    if whole >= 1:
        raise ValueError(
            f"label_smoothing={smoothing:g} leaves an image's own class no more than each of the other {classes - 1}; "
            f"set it below {(classes - 1) / classes:.2g}"
        )
    return whole


class SharpnessAware(TrainingHook):
    """The gradient at w + e in place of the one at w."""

    def __init__(self, rho: float) -> None:
        self.rho = rho

    def backward(self, model: nn.Module, forward: Callable[[], Tensor]) -> Tensor:
        loss = backward(forward)
        weights = [p.detach() for p in model.parameters() if p.grad is not None]  # the same storage
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        step = worst_step(weights, gradients, self.rho)
        model.zero_grad()
        for weight, change in zip(weights, step, strict=True):
            weight.add_(change)
        with resting_statistics(model):
            backward(forward)
        for weight, change in zip(weights, step, strict=True):
            weight.sub_(change)
        return loss


@defense("ft_sam")
class FTSAM(Defense):
    """Zhu, Wei, Shen, Fan and Wu, ICCV 2023, arXiv:2304.11823:

    min over w of  max over ||T_w^-1 e||_2 <= rho of  L(f(x; w + e), y),  T_w = diag(|w|), w all parameters.

    Each step: e from the gradient g at w, then a descent step from w along the gradient at w + e.
    Batch norm is in train mode; the running statistics move in the first pass only.
    """

    Config = FTSAMConfig
    card = Card(
        title="Fine-tuning with sharpness-aware minimisation",
        references=(
            Reference(
                authors="M. Zhu, S. Wei, L. Shen, Y. Fan, B. Wu",
                title="Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware Minimization",
                venue="ICCV",
                year=2023,
                arxiv="2304.11823",
            ),
        ),
        summary="Fine-tune so that the loss stays low even when each weight is shifted in the worst direction, in "
        "proportion to its size. Backdoored neurons have large weights: they are shaken most and shrink.",
        threat_model=HOLDS_CLEAN_IMAGES,
        deviations=(
            "Nesterov momentum, that of the common training loop.",
            "The learning rate falls once. BackdoorBench's cosine counts steps, not epochs: in 1,000 steps it swings "
            "five times between 0.01 and 0.",
            QUICK_STEPS,
            "The preset full takes half as many passes, five times as fast: its network was trained at a rate of 1.5.",
        ),
    )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        tuned = copy.deepcopy(model)
        smoothing = over_all_classes(self.config.label_smoothing, len(clean.classes))
        fine_tune(tuned, clean, self.config, ctx, SharpnessAware(self.config.rho), smoothing)
        return Repair(tuned)
