"""TSBD: the weights that change most when a model unlearns clean images belong to the backdoor."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import HOLDS_CLEAN_IMAGES, NO_FLIPS
from poisonlab.defenses.shared.layer_scores import show_channel_scores
from poisonlab.defenses.shared.resting_statistics import resting_statistics
from poisonlab.defenses.shared.surrogate_trigger import sweep_by_rule
from poisonlab.defenses.shared.unlearning import Unlearning, show_predictions, unlearn
from poisonlab.models.base import Classifier
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, TrainingConfig, param
from poisonlab.training.loop import TrainingHook, backward, train_network
from poisonlab.types import ChannelScores, Findings, ImageSet, stacked

REPOSITORY = "TSBD repository"
SMALLEST_NORM = 1e-12
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # the repository's n that leave most neurons alone, and 0.02


class TSBDConfig(Config):
    unlearn_lr: float = param(
        1e-4,
        "SGD learning rate of clean unlearning",
        quick={"*": 1e-4, "digits": 1e-3},
        full=1e-3,
        gt=0,
        le=1,
        source=REPOSITORY,
    )
    unlearn_epochs: int = param(
        1000,
        "Most passes of clean unlearning",
        quick={"*": 20, "digits": 40},
        full=100,
        ge=1,
        le=10_000,
        source=REPOSITORY,
    )
    stop_chance: float = param(
        1.0,
        "Unlearning ends at this multiple of chance accuracy (0.10 of ten classes)",
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    neuron_ratio: float = param(
        0.15, "n, share of neurons taken by their weight change", gt=0, le=1, source="TSBD paper"
    )
    choose_ratio: bool = param(
        False,
        "n is chosen from clean images, among seven; neuron_ratio is not used then",
        quick={"*": True, "digits": False},
        source="not published",
    )
    neuron_price: float = param(
        3.0,
        "Share of a recovered pattern's success that all neurons are worth, in the choice of n",
        ge=0,
        le=100,
        source="not published",
    )
    weight_ratio: float = param(
        0.7, "m, share of their weights that is set to zero", gt=0, le=1, source="TSBD paper"
    )
    epochs: int = param(
        21,
        "Passes of fine-tuning; the repository's loop over 20 takes one more",
        quick={"*": 10, "digits": 20, "cifar10": 20},
        ge=1,
        le=1000,
        source=REPOSITORY,
    )
    lr: float = param(
        0.01,
        "Constant learning rate of fine-tuning",
        quick={"*": 0.01, "cifar10": 0.0025},
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    radius: float = param(
        0.05,
        "r, distance to the second gradient",
        quick={"*": 0.08, "digits": 0.05},
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    alpha: float = param(
        0.7, "Weight of the second gradient; lambda = alpha r", ge=0, le=1, source=REPOSITORY
    )
    momentum: float = param(0.9, "SGD momentum of both stages", ge=0, lt=1, source=REPOSITORY)
    batch_size: int = param(
        256, "Images in a step", quick={"*": 64, "digits": 16}, ge=2, le=4096, source=REPOSITORY
    )
    crop_padding: int = param(
        4, "Random crop after padding by this much", quick=1, ge=0, le=16, unit="pixels"
    )
    flip: bool = param(True, "Images may be mirrored", quick={"*": True} | NO_FLIPS, elsewhere=NO_FLIPS)


def neuron_weight_change(before: Classifier, after: Classifier) -> dict[str, Tensor]:
    """|theta_ul - theta_bd| of every convolution but those of shortcuts, ``(neurons, weights of one)`` each.

    NWC(l, k) is the sum over row k. Weights that a network keeps fixed have no change and are left out.
    """
    old = before.state_dict()
    new = after.state_dict()
    names = [
        f"{name}.weight"
        for name, module in before.named_modules()
        if isinstance(module, nn.Conv2d)
        and isinstance(module.weight, nn.Parameter)
        and "shortcut" not in name
    ]
    return {name: (new[name] - old[name]).abs().flatten(1) for name in names}


def relative_change(change: dict[str, Tensor]) -> ChannelScores:
    """NWC of each neuron relative to the largest; neurons that change most are blamed."""
    totals = [rows.sum(1) for rows in change.values()]
    everyone = torch.cat(totals)
    return ChannelScores(
        score="weight change of each neuron / largest",
        low_is_blamed=False,
        modules=tuple(name.removesuffix(".weight") for name in change),
        sizes=tuple(len(layer) for layer in totals),
        values=everyone / everyone.max().clamp_min(SMALLEST_NORM),
    )


def reinitialize(
    model: Classifier, change: dict[str, Tensor], neuron_ratio: float, weight_ratio: float
) -> Classifier:
    """A copy in which the most changed weights of the most changed neurons are zero.

    Neurons of all layers are sorted together; their weights, too.
    """
    nwc = torch.cat([rows.sum(1) for rows in change.values()])
    count = max(1, int(neuron_ratio * len(nwc)))
    taken = torch.zeros_like(nwc, dtype=torch.bool)
    taken[nwc.argsort(descending=True, stable=True)[:count]] = True
    chosen = dict(zip(change, taken.split([len(rows) for rows in change.values()]), strict=True))
    pool = torch.cat([rows[chosen[name]].flatten() for name, rows in change.items()])
    edge = pool.sort(descending=True).values[max(1, int(weight_ratio * len(pool))) - 1]
    renewed = copy.deepcopy(model)
    state = model.state_dict()
    for name, rows in change.items():
        gone = (chosen[name][:, None] & (rows >= edge)).view_as(state[name])
        state[name] = torch.where(gone, torch.zeros_like(state[name]), state[name])
    renewed.load_state_dict(state)
    return renewed


class ActivenessAware(TrainingHook):
    """Gradient of  L + lambda ||grad L||_2  by two points:  (1 - alpha) g(w) + alpha g(w + r g / ||g||).

    Both points use the batch's statistics and leave the running ones alone; those move once a batch, at the weights
    that the step led to.
    """

    def __init__(self, radius: float, alpha: float) -> None:
        self.radius = radius
        self.alpha = alpha

    def backward(self, model: nn.Module, forward: Callable[[], Tensor]) -> Tensor:
        with resting_statistics(model):
            return self._between_two_points(model, forward)

    def _between_two_points(self, model: nn.Module, forward: Callable[[], Tensor]) -> Tensor:
        loss = backward(forward)
        weights = [p for p in model.parameters() if p.grad is not None]
        first = [w.grad.clone() for w in weights if w.grad is not None]
        step = [self.radius * g / g.norm().clamp_min(SMALLEST_NORM) for g in first]  # a norm for each tensor
        model.zero_grad()
        for weight, change in zip(weights, step, strict=True):
            weight.detach().add_(change)
        backward(forward)
        for weight, change in zip(weights, step, strict=True):
            weight.detach().sub_(change)
        for weight, gradient in zip(weights, first, strict=True):
            assert weight.grad is not None
            weight.grad.lerp_(gradient, 1 - self.alpha)
        return loss

    @torch.no_grad()
    def stepped(self, forward: Callable[[], Tensor]) -> None:
        forward()


@defense("tsbd")
class TSBD(Defense):
    """Lin, Liu, Wei, Li and Xiong, NeurIPS 2024, arXiv:2405.20291:

    1. unlearn clean images; NWC(l, k) = sum_j |theta_ul - theta_bd|; of the n N neurons with the largest one, set
       the m most changed weights to zero;
    2. fine-tune:  L + lambda ||grad L||_2,  so that no neuron becomes too active again.

    Batch norm is in train mode; its running statistics move once a batch in stage 2, after the step.
    """

    Config = TSBDConfig
    card = Card(
        title="Two-stage defense by unlearning weight changes (TSBD)",
        references=(
            Reference(
                authors="W. Lin, L. Liu, S. Wei, J. Li, H. Xiong",
                title="Unveiling and Mitigating Backdoor Vulnerabilities based on Unlearning Weight Changes and "
                "Backdoor Activeness",
                venue="NeurIPS",
                year=2024,
                arxiv="2405.20291",
            ),
        ),
        summary="When a backdoored model unlearns clean images, the neurons of the backdoor change most. Their most "
        "changed weights are set to zero, and the model is trained again with a brake on large gradients.",
        threat_model=HOLDS_CLEAN_IMAGES,
        deviations=(
            "Unlearning ends at chance accuracy, which is the repository's 0.10 for ten classes.",
            "Changes keep full precision; the repository writes them with four decimals.",
            "Images are shuffled in fine-tuning; the repository keeps their order.",
            "The repository tries eleven n and has no rule for choosing; here n is fixed, or weighed against what is "
            "left of a pattern's success that was recovered from clean images.",
            "The preset quick has smaller batches and caps unlearning long before it is complete. On photographs r is "
            "larger and n is chosen; fine-tuning is half as long, on CIFAR-10 a quarter as fast instead.",
            "The preset full unlearns ten times as fast, in some thirty passes.",
        ),
    )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        cfg = self.config
        unlearned = self._unlearned(model, clean, ctx)
        show_predictions(model, unlearned, clean, ctx)
        change = neuron_weight_change(model, unlearned)
        scores = relative_change(change)
        show_channel_scores("weight_change", scores, ctx)
        findings = Findings(channels=scores)
        if not cfg.choose_ratio:
            return Repair(self._renewed(cfg.neuron_ratio, model, change, clean, ctx), findings)
        members = [model, *(self._renewed(n, model, change, clean, ctx) for n in RATIOS)]
        ratios = torch.tensor([0.0, *RATIOS])
        # accuracy on the images that all members are fine-tuned on says nothing; n itself stands for what is lost
        price = cfg.neuron_price * ratios
        sweep = sweep_by_rule(
            "share of neurons n", ratios, stacked(members), model, clean, lambda score: price, ctx
        )
        return Repair(sweep, findings)

    def _renewed(
        self, ratio: float, model: Classifier, change: dict[str, Tensor], clean: ImageSet, ctx: Context
    ) -> Classifier:
        """Re-initialized with n = ``ratio`` and fine-tuned; the experimenter looks at the published n."""
        cfg = self.config
        watched = "fine-tuning" if ratio == cfg.neuron_ratio else ""
        renewed = reinitialize(model, change, ratio, cfg.weight_ratio).requires_grad_(True)
        if watched:
            ctx.observe(watched, 0, renewed)
        recipe = TrainingConfig(
            epochs=cfg.epochs,
            batch_size=cfg.batch_size,
            lr=cfg.lr,
            momentum=cfg.momentum,
            nesterov=False,
            weight_decay=0.0,
            schedule="constant",
            crop_padding=cfg.crop_padding,
            flip=cfg.flip,
        )
        train_network(renewed, clean, recipe, ctx, ActivenessAware(cfg.radius, cfg.alpha), watched)
        return renewed.requires_grad_(False)

    def change_by_unlearning(self, model: Classifier, data: ImageSet, ctx: Context) -> Tensor:
        change = neuron_weight_change(model, self._unlearned(model, data, ctx))
        return torch.cat([rows.sum(1) for rows in change.values()])

    def _unlearned(self, model: Classifier, data: ImageSet, ctx: Context) -> Classifier:
        how = Unlearning.of(self.config, len(data.classes), counted="after")
        return unlearn(model, data, how, ctx)
