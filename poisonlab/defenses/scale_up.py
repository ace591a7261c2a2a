"""SCALE-UP: multiply an image's pixels, and a prediction that never changes hangs on a trigger."""

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.models.base import Classifier, as_floats, predict
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.types import ImageSet

PAPER = "SCALE-UP paper"
LEAST_SPREAD = 0.02  # of the SPC of a class's images, by which their scores are divided


class ScaleUpConfig(Config):
    amplifications: int = param(
        5,
        "How many factors pixels are multiplied by: 3, 5, 7, ...",
        ge=1,
        le=50,
        source=f"{PAPER}: 3, 5, 7, 9 and 11",
    )
    data_limited: bool = param(
        False,
        "Whether scores are compared with those of trusted images that are given the same class",
        source=f"{PAPER}, which tries both",
    )
    threshold: float = param(
        0.5,
        "Share of agreement above which the paper's implementations stop an input",
        gt=-100,
        lt=100,
        source="BackdoorBox",
    )


def scaled_prediction_consistency(model: Classifier, x: Tensor, amplifications: int) -> tuple[Tensor, Tensor]:
    """SPC(x) = (1 / |S|) sum over n in S of [f(clip(n x, 0, 1)) = f(x)],  S = 3, 5, 7, ...

    Pixels are multiplied, not what the network normalizes them to.

    Returns:
        SPC, float ``(n,)`` in [0, 1], and what the model says of the untouched images, int64 ``(n,)``.
    """
    answers = predict(model, x)
    agreement = torch.zeros(len(x), device=x.device)
    for factor in range(3, 3 + 2 * amplifications, 2):
        brighter = (factor * x.to(torch.int16)).clamp(max=255).to(torch.uint8)
        agreement += predict(model, as_floats(brighter)) == answers
    return agreement / amplifications, answers


def standardized(scores: Tensor, answers: Tensor, known: Tensor, known_answers: Tensor) -> Tensor:
    """(SPC - mean) / deviation over the trusted images that are given the same class; over all, where they are fewer
    than two.

    Args:
        scores, answers: ``(n,)``, of the inputs. known, known_answers: ``(k,)``, of the trusted images.
    """
    out = torch.empty_like(scores)
    for label in answers.unique().tolist():
        alike = known[known_answers == label]
        compared = alike if len(alike) > 1 else known
        spread = compared.std().clamp_min(LEAST_SPREAD) if len(compared) > 1 else LEAST_SPREAD
        of_class = answers == label
        out[of_class] = (scores[of_class] - compared.mean()) / spread
    return out


@defense("scale_up")
class ScaleUp(Defense):
    """Guo, Li, Chen, Guo, Sun and Liu, ICLR 2023, arXiv:2302.03251:

    1. SPC(x) = share of the factors n = 3, 5, 7, 9, 11 under which clip(n x, 0, 1) is given the class of x;
    2. with trusted images: (SPC(x) - mean) / deviation of those that are given the same class;
    3. stop x if its score is above T.

    It needs the labels that a model gives, nothing else of it.
    """

    Config = ScaleUpConfig
    card = Card(
        title="SCALE-UP",
        references=(
            Reference(
                authors="J. Guo, Y. Li, X. Chen, H. Guo, L. Sun, C. Liu",
                title="SCALE-UP: An Efficient Black-box Input-level Backdoor Detection via Analyzing Scaled Prediction "
                "Consistency",
                venue="ICLR",
                year=2023,
                arxiv="2302.03251",
            ),
        ),
        summary="Make an image three, five, eleven times as bright. An ordinary one washes out and is taken for "
        "something else; one with a trigger often keeps the attacker's class, so steady answers are suspicious.",
        threat_model="Defender can ask the model for labels when it is used, and stops inputs; changes nothing.",
        deviations=(
            "Triggers that turn white, or were white before, are lost among washed-out pixels: users of the published "
            "code report an AUROC below 0.5 on a white patch, and so it may be here.",
            "The authors' code also multiplies by 1 and adds a little noise; the paper's factors are taken here.",
            "With trusted images, a class that fewer than two of them are given is compared with all of them. Other "
            "implementations standardize by one mean and deviation, which changes no order.",
        ),
    )

    def screen(self, model: Classifier, clean: ImageSet, x: Tensor, ctx: Context) -> Tensor:
        count = self.config.amplifications
        scores, answers = scaled_prediction_consistency(model, x, count)
        if not self.config.data_limited:
            return scores
        return standardized(scores, answers, *scaled_prediction_consistency(model, clean.x, count))

    def screening_limit(self) -> float | None:
        return None if self.config.data_limited else float(self.config.threshold)
