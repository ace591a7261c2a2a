"""IBD-PSC: amplify a network's last norms until it errs, and a prediction that stays sure hangs on a trigger."""

import copy

import torch
from torch import Tensor, nn

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.models.base import Classifier, accuracy, logits
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.types import ImageSet

PAPER = "IBD-PSC paper"


class IBDPSCConfig(Config):
    factor: float = param(1.5, "What scale and shift of a norm are multiplied by", gt=1, le=10, source=PAPER)
    error: float = param(
        0.6,
        "Share of the trusted images that the least amplified network has to get wrong",
        gt=0,
        lt=1,
        source=PAPER,
    )
    copies: int = param(5, "Amplified networks that are asked", ge=1, le=50, source=PAPER)
    threshold: float = param(
        0.9, "Mean probability above which the paper stops an input", ge=0, le=1, source=PAPER
    )


def norms_of(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Batch norms with a scale and a shift, in the order of their definition."""
    found = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return [norm for norm in found if norm.affine]


def amplified(model: Classifier, last: int, factor: float) -> Classifier:
    """A copy with scale and shift of its ``last`` norms multiplied by ``factor``."""
    stronger = copy.deepcopy(model)
    norms = norms_of(stronger)
    with torch.no_grad():
        for norm in norms[len(norms) - last :]:
            norm.weight.mul_(factor)
            norm.bias.mul_(factor)
    return stronger


def first_that_errs(model: Classifier, clean: ImageSet, factor: float, error: float) -> int:
    """The smallest number of last norms with which the amplified network gets more than ``error`` of the trusted
    images wrong; all of them, where none does."""
    count = len(norms_of(model))
    for last in range(1, count + 1):
        if 1 - accuracy(amplified(model, last, factor), clean.x, clean.y) > error:
            return last
    return count


@defense("ibd_psc")
class IBDPSC(Defense):
    """Hou, Feng, Hua, Luo, Zhang and Li, ICML 2024, arXiv:2405.09786:

    1. f_i: the network f with scale and shift of its last i batch norms times w;
    2. k: the smallest i for which f_i gets more than a share xi of the trusted images wrong;
    3. PSC(x) = (1 / n) sum over i = k ... k + n - 1 of the probability that f_i gives to the class f(x);
    4. stop x if PSC(x) is above T.
    """

    Config = IBDPSCConfig
    card = Card(
        title="IBD-PSC",
        references=(
            Reference(
                authors="L. Hou, R. Feng, Z. Hua, W. Luo, L. Y. Zhang, Y. Li",
                title="IBD-PSC: Input-level Backdoor Detection via Parameter-oriented Scaling Consistency",
                venue="ICML",
                year=2024,
                arxiv="2405.09786",
            ),
        ),
        summary="Turn up the last layers of the network until it gets ordinary images wrong. Images with a trigger are "
        "still given the attacker's class, with full confidence: that confidence is the score.",
        threat_model="Defender holds the trained model and a few clean images, and stops inputs; changes nothing.",
        deviations=(
            "Exactly the last i norms are amplified; BackdoorBox takes one more and never all.",
            "Where amplifying every norm does not reach the error, all are amplified, and a log line says so; "
            "BackdoorBox fails.",
            "Where fewer than n numbers of norms are left, the mean is over those that are.",
        ),
    )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        if not norms_of(network):
            raise ValueError(
                "ibd_psc amplifies batch norms, of which this victim has none; choose another victim or defense"
            )

    def screen(self, model: Classifier, clean: ImageSet, x: Tensor, ctx: Context) -> Tensor:
        cfg = self.config
        count = len(norms_of(model))
        first = first_that_errs(model, clean, cfg.factor, cfg.error)
        if first == count:
            ctx.log(
                f"all {count} batch norms are amplified: fewer do not make the network err enough", "warning"
            )
        answers = logits(model, x).argmax(1, keepdim=True)
        each = []
        for last in range(first, min(first + cfg.copies, count + 1)):
            probabilities = logits(amplified(model, last, cfg.factor), x).softmax(1)
            each.append(probabilities.gather(1, answers).squeeze(1))
        return torch.stack(each).mean(0)
