"""Neural attention distillation: the backdoored network learns where a fine-tuned copy of it looks."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import HOLDS_CLEAN_IMAGES, FTConfig, fine_tune, named
from poisonlab.defenses.shared.feature_maps import has_maps, stages, watching
from poisonlab.models.base import Classifier, as_floats
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.loop import TrainingHook
from poisonlab.types import ImageSet

REPOSITORY = "NAD repository"
SMALLEST_NORM = 1e-6


class NADConfig(FTConfig):
    epochs: int = param(20, "Passes over the clean images, student", ge=1, le=1000, source=REPOSITORY)
    teacher_epochs: int = param(10, "Passes over the clean images, teacher", ge=1, le=1000, source=REPOSITORY)
    batch_size: int = param(
        64,
        "Images in a step",
        quick={"*": 32, "digits": 16},
        ge=2,
        le=4096,
        unit="images",
        source=REPOSITORY,
    )
    lr: float = param(
        0.1,
        "Learning rate at the start, falling as a cosine",
        quick={"*": 0.05, "digits": 0.02, "cifar10": 0.006},
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    weight_decay: float = param(
        1e-4, "L2 weight decay on all parameters", quick=5e-4, ge=0, le=0.1, source=REPOSITORY
    )
    power: float = param(2.0, "p, exponent of the activations", gt=0, le=10, source=REPOSITORY)
    beta_1: float = param(
        500.0, "Weight of the attention after the first stage", ge=0, le=1e5, source=REPOSITORY
    )
    beta_2: float = param(
        1000.0, "Weight of the attention after the second stage", ge=0, le=1e5, source=REPOSITORY
    )
    beta_3: float = param(
        1000.0, "Weight of the attention after the third stage", ge=0, le=1e5, source=REPOSITORY
    )


def attention(features: Tensor, power: float) -> Tensor:
    """A = sum over channels of |F|^p, divided by its L2 norm over the places: ``(n, c, h, w)`` -> ``(n, h, w)``."""
    a = features.float().abs().pow(power).sum(1)
    unit: Tensor = a / torch.linalg.vector_norm(a, dim=(1, 2), keepdim=True).clamp_min(SMALLEST_NORM)
    return unit


def attention_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], betas: Sequence[float], power: float
) -> Tensor:
    """sum over stages l of  beta_l MSE(A_l of the student, A_l of the teacher)."""
    pairs = zip(student, teacher, betas, strict=True)
    return torch.stack([b * F.mse_loss(attention(s, power), attention(t, power)) for s, t, b in pairs]).sum()


class Distillation(TrainingHook):
    """Cross-entropy plus the attention loss between what was seen of both networks."""

    def __init__(
        self,
        teacher: Classifier,
        seen: tuple[list[Tensor], list[Tensor]],
        betas: Sequence[float],
        power: float,
    ) -> None:
        self.teacher = teacher
        self.betas = betas
        self.power = power
        self.of_student, self.of_teacher = seen

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            self.teacher(x)
        return x, y

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        return super().loss(logits, y, label_smoothing) + attention_loss(
            self.of_student, self.of_teacher, self.betas, self.power
        )


@defense("nad")
class NAD(Defense):
    """Li, Lyu, Koren, Lyu, Li and Ma, ICLR 2021, arXiv:2101.05930:

    1. the teacher is a copy of the backdoored network, fine-tuned on the clean images;
    2. the student, the backdoored network itself, minimises  L(f(x), y) + sum_l beta_l MSE(A_l^S, A_l^T),
       A_l = sum_c |F_l|^p / ||sum_c |F_l|^p||_2.

    Batch norm of whichever is trained is in train mode and its running statistics move; the teacher
    teaches in eval mode.
    """

    Config = NADConfig
    card = Card(
        title="Neural attention distillation",
        references=(
            Reference(
                authors="Y. Li, X. Lyu, N. Koren, L. Lyu, B. Li, X. Ma",
                title="Neural Attention Distillation: Erasing Backdoor Triggers from Deep Neural Networks",
                venue="ICLR",
                year=2021,
                arxiv="2101.05930",
            ),
        ),
        summary="Fine-tune a copy, then teach the original to look at the same places as the copy at every stage. "
        "A backdoored network stares at the trigger; its fine-tuned copy does so less.",
        threat_model=HOLDS_CLEAN_IMAGES,
        deviations=(
            "Attention is compared after the last block of each of the last three resolutions, whatever the network; "
            "the paper has the three groups of a WideResNet.",
            "The learning rate falls as a cosine, that of the common training loop; in the repository it falls to a "
            "tenth after two epochs.",
            "No part of an image is blanked; the repository blanks a square of 2x2 pixels in each.",
            "The preset quick takes smaller steps: the published ones cost a small network its accuracy.",
        ),
    )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        if not has_maps(network, shape):
            raise ValueError(
                "nad compares where networks look, and nothing in the victim is a map of the image; choose another "
                "victim, or larger images"
            )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        cfg = self.config
        teacher = copy.deepcopy(model)
        student = copy.deepcopy(model)
        fine_tune(
            teacher, clean, cfg.model_copy(update={"epochs": cfg.teacher_epochs}), named(ctx, "teacher")
        )
        names = stages(student, as_floats(clean.x[:1]), count=3)
        betas = (cfg.beta_1, cfg.beta_2, cfg.beta_3)[-len(names) :]
        with watching(student, names) as seen_student, watching(teacher, names) as seen_teacher:
            hook = Distillation(teacher, (seen_student, seen_teacher), betas, cfg.power)
            fine_tune(student, clean, cfg, ctx, hook)
        return Repair(student)
