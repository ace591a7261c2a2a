"""Mode connectivity repair: a point on a curve of low loss from the backdoored network to a fine-tuned one."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import BENCH, HOLDS_CLEAN_IMAGES, FTConfig, fine_tune, named
from poisonlab.models.base import Classifier, accuracy, as_floats
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.loop import TrainingHook, backward
from poisonlab.types import ImageSet, SettingSweep, stacked

STATISTICS_BATCH = 250


class MCRConfig(FTConfig):
    lr: float = param(
        0.01,
        "Learning rate of the curve's other end, falling as a cosine",
        quick={"*": 0.1, "cifar10": 0.02},
        gt=0,
        le=10,
        source=BENCH,
    )
    curve_epochs: int = param(
        100, "Passes over the clean images, curve", quick=20, ge=1, le=1000, source=BENCH
    )
    curve_lr: float = param(
        3e-5,
        "Learning rate of the curve's bend",
        quick={"*": 0.1, "cifar10": 0.01},
        gt=0,
        le=10,
        source=BENCH,
    )
    curve_batch_size: int = param(
        128,
        "Images in a step, curve",
        quick={"*": 32, "digits": 16},
        ge=2,
        le=4096,
        unit="images",
        source=BENCH,
    )
    t: float = param(
        0.1,
        "Where on the curve the repaired network lies: 0 is the backdoored one, 1 the fine-tuned one",
        quick={"*": 0.7, "cifar10": 0.4},
        ge=0,
        le=1,
        source=BENCH,
    )


def bezier(t: float, start: Tensor, bend: Tensor, end: Tensor) -> Tensor:
    """phi(t) = (1 - t)^2 w_1 + 2 t (1 - t) theta + t^2 w_2."""
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end


class Curve(TrainingHook):
    """Trains the bend: each step runs the network at a random t, and the bend takes 2 t (1 - t) of its gradient."""

    def __init__(self, start: nn.Module, end: nn.Module, generator: torch.Generator) -> None:
        self.start = list(start.parameters())
        self.end_weights = list(end.parameters())
        self.generator = generator

    def backward(self, model: nn.Module, forward: Callable[[], Tensor]) -> Tensor:
        t = torch.rand((), generator=self.generator, device=self.generator.device).item()
        weights = list(model.parameters())
        bend = [w.detach().clone() for w in weights]
        place = [bezier(t, s, b, e) for s, b, e in zip(self.start, bend, self.end_weights, strict=True)]
        _set(weights, place)
        value = backward(forward)
        _set(weights, bend)
        for weight in weights:
            if weight.grad is not None:
                weight.grad *= 2 * t * (1 - t)
        return value


def _set(weights: list[nn.Parameter], values: list[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)


def renew_statistics(model: Classifier, x: Tensor) -> None:
    """Set the running statistics of batch norm to the averages over batches of uint8 images, in place."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
    model.train()
    with torch.no_grad():
        for part in x.split(STATISTICS_BATCH):
            model(as_floats(part))
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@defense("mcr")
class MCR(Defense):
    """Zhao, Chen, Das, Ramamurthy and Lin, ICLR 2020, arXiv:2005.00060:

    1. w_2 is a copy of the backdoored network w_1, fine-tuned on the clean images;
    2. minimize over theta  E_t L(f(x; phi(t)), y),  phi(t) = (1 - t)^2 w_1 + 2 t (1 - t) theta + t^2 w_2;
    3. take phi(0.1) and renew the running statistics of its batch norm.
    """

    Config = MCRConfig
    card = Card(
        title="Mode connectivity repair",
        references=(
            Reference(
                authors="P. Zhao, P.-Y. Chen, P. Das, K. N. Ramamurthy, X. Lin",
                title="Bridging Mode Connectivity in Loss Landscapes and Adversarial Robustness",
                venue="ICLR",
                year=2020,
                arxiv="2005.00060",
            ),
        ),
        summary="Two networks that solve the same task are joined by a curve of networks that solve it, too. Trained "
        "on clean images only, the curve has no reason to keep the backdoor between its ends.",
        threat_model=HOLDS_CLEAN_IMAGES,
        deviations=(
            "The other end of the curve is a fine-tuned copy (BackdoorBench); the paper connects two trained models.",
            "The bend starts half way between the ends and learns by the common training loop.",
            "Every tenth of the curve is measured; t is a parameter, not chosen from data.",
            "The preset quick goes further along the curve, and takes larger steps: with few of them the curve's first "
            "tenth keeps the backdoor.",
        ),
    )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        cfg = self.config
        end = copy.deepcopy(model)
        fine_tune(end, clean, cfg, named(ctx, "end"))
        bend = copy.deepcopy(model)
        halves = [(s + e) / 2 for s, e in zip(model.parameters(), end.parameters(), strict=True)]
        _set(list(bend.parameters()), halves)
        recipe = cfg.model_copy(
            update={"epochs": cfg.curve_epochs, "lr": cfg.curve_lr, "batch_size": cfg.curve_batch_size}
        )
        fine_tune(bend, clean, recipe, ctx, Curve(model, end, ctx.generator("mcr")))
        places = sorted({cfg.t, *(i / 10 for i in range(11))})
        members = [self._member(t, model, bend, end, clean) for t in places]
        score = torch.tensor([accuracy(member, clean.x, clean.y) for member in members])
        sweep = SettingSweep(
            "position t on the curve",
            torch.tensor(places),
            score,
            places.index(cfg.t),
            stacked(members),
            by_rule=False,
        )
        return Repair(sweep)

    def _member(
        self, t: float, start: Classifier, bend: Classifier, end: Classifier, clean: ImageSet
    ) -> Classifier:
        """The network at t; the ends keep their own statistics."""
        if t in (0, 1):
            return end if t else start
        member = copy.deepcopy(start)
        triples = zip(start.parameters(), bend.parameters(), end.parameters(), strict=True)
        _set(list(member.parameters()), [bezier(t, *w) for w in triples])
        renew_statistics(member, clean.x)
        return member
