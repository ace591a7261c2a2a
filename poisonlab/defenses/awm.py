"""Adversarial Weight Masking: find the trigger, mask the weights that answer to it."""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.shared.layer_scores import histograms, layer_name
from poisonlab.models.base import Classifier, as_floats
from poisonlab.records import artifacts
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.training.loop import batches, steps_in_epoch
from poisonlab.types import Findings, ImageSet, RecoveredTrigger

REPOSITORY = "AWM repository"
REFERENCE_ENTRIES = 3 * 32 * 32  # tau is stated for CIFAR-size images


class AWMConfig(Config):
    rounds: int = param(
        20,
        "Outer rounds E, each with a fresh trigger",
        quick={"*": 10, "digits": 20},
        ge=1,
        le=500,
        source=REPOSITORY,
    )
    inner_epochs: int = param(
        5,
        "Passes over the clean images in each half of a round",
        quick=2,
        ge=1,
        le=100,
        source=REPOSITORY,
    )
    batch_size: int = param(
        128,
        "Images in a step",
        quick={"*": 128, "digits": 32},
        ge=1,
        le=4096,
        unit="images",
        source=REPOSITORY,
    )
    trigger_lr: float = param(10.0, "eta_1, ascent step on the trigger", gt=0, le=1000, source=REPOSITORY)
    mask_lr: float = param(0.01, "eta_2, Adam step on the masks", quick=0.02, gt=0, le=1, source=REPOSITORY)
    mask_lr_decay: float = param(
        1.0,
        "Factor on eta_2 after each round",
        quick={"*": 0.8, "digits": 0.9},
        gt=0,
        le=1,
        source=f"{REPOSITORY}, where 0.9 is an option",
    )
    alpha: float = param(
        0.9,
        "Weight of the clean loss; the triggered loss has 1 - alpha",
        quick={"*": 0.97, "digits": 0.985},
        ge=0,
        le=1,
        source=REPOSITORY,
    )
    gamma: float = param(1e-8, "Weight of the masks' L1 norm", ge=0, le=1, source=REPOSITORY)
    tau: float = param(
        1000.0,
        "L1 budget of the trigger at 3x32x32 entries; scaled with the number of entries",
        gt=0,
        source=f"{REPOSITORY}; 100 in its one-shot setting",
    )
    augment_below: int = param(
        100,
        "With fewer clean images than this, augmented copies are added",
        ge=0,
        unit="images",
        source=REPOSITORY,
    )
    copies: int = param(
        9, "Augmented copies of each image then", ge=0, le=100, source=f"{REPOSITORY}, one-shot"
    )
    flip: bool = param(True, "Copies may be mirrored", quick={"*": True, "digits": False}, source=REPOSITORY)


def augmented_copies(data: ImageSet, copies: int, flip: bool, generator: torch.Generator) -> ImageSet:
    """The images and ``copies`` randomly zoomed, shifted (and mirrored) versions of each."""
    x = data.x.float().repeat(copies, 1, 1, 1)
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator, device=x.device)

    zoom = uniform(0.8, 1.0)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if flip else torch.ones_like(zoom)
    matrix = torch.zeros(n, 2, 3, device=x.device)
    matrix[:, 0, 0], matrix[:, 1, 1] = zoom * mirror, zoom
    matrix[:, 0, 2], matrix[:, 1, 2] = uniform(-1, 1) * (1 - zoom), uniform(-1, 1) * (1 - zoom)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    zoomed = F.grid_sample(x, grid, align_corners=False, padding_mode="border")
    images = torch.cat([data.x, zoomed.round().clamp(0, 255).to(torch.uint8)])
    return ImageSet(images, data.y.repeat(copies + 1), data.classes, data.split)


class MaskedModel:
    """A frozen model whose convolution weights are multiplied by masks in [0, 1]; all else is untouched.

    Args:
        autocast: makes the context of a pass, for mixed precision.
    """

    def __init__(self, model: Classifier, autocast: Callable[[], Any] = nullcontext) -> None:
        self.model = model
        self.autocast = autocast
        self.weights = {
            f"{name}.weight": module.weight.detach()
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d)
        }
        self.masks = {name: torch.ones_like(w, requires_grad=True) for name, w in self.weights.items()}

    def masked_weights(self) -> dict[str, Tensor]:
        return {name: self.masks[name] * w for name, w in self.weights.items()}

    def __call__(self, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        with self.autocast():
            logits: Tensor = functional_call(self.model, weights, (x,))
        return logits.to(x.dtype)

    def clamp(self) -> None:
        with torch.no_grad():
            for mask in self.masks.values():
                mask.clamp_(0, 1)

    def l1_norm(self) -> Tensor:
        return torch.stack([m.abs().sum() for m in self.masks.values()]).sum()


def ascend(
    trigger: Tensor, x: Tensor, answer: Tensor, model: MaskedModel, weights: dict[str, Tensor], lr: float
) -> Tensor:
    """One ascent step:  D <- D + eta_1 grad_D L(f(x + D; m w), y_hat).

    Args:
        answer: y_hat ``(n,)``, what the masked model says without a trigger.
    """
    trigger = trigger.detach().requires_grad_()
    loss = F.cross_entropy(model(x + trigger, weights), answer)
    (gradient,) = torch.autograd.grad(loss, trigger)
    return (trigger + lr * gradient).detach()


def scale_to(trigger: Tensor, tau: float) -> Tensor:
    """Shrink to an L1 norm of at most ``tau``: a scaling, not a projection."""
    return trigger * min(1.0, tau / max(trigger.abs().sum().item(), 1e-12))


class _Masking:
    """The two halves of a round, and what is kept from one round to the next."""

    def __init__(self, config: AWMConfig, clean: ImageSet, masked: MaskedModel, ctx: Context) -> None:
        self.config = config
        self.clean = clean
        self.masked = masked
        self.ctx = ctx
        self.images = as_floats(clean.x)
        self.optimizer = torch.optim.Adam(masked.masks.values(), lr=config.mask_lr)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, config.mask_lr_decay)
        self.tau = config.tau * self.images[0].numel() / REFERENCE_ENTRIES
        self.order = ctx.generator("awm", "batches")
        self.total = 2 * config.rounds * config.inner_epochs * steps_in_epoch(len(clean), config.batch_size)
        self.step = 0
        self.triggers: list[Tensor] = []
        self.histograms: list[Tensor] = []

    def recover_trigger(self) -> Tensor:
        """1. A universal trigger against the masks as they are, ``(1, c, h, w)``."""
        trigger = torch.zeros_like(self.images[:1])
        weights = {k: w.detach() for k, w in self.masked.masked_weights().items()}
        with torch.no_grad():
            answers = self.masked(self.images, weights).argmax(1)
        for index in self._batches():
            trigger = ascend(
                trigger, self.images[index], answers[index], self.masked, weights, self.config.trigger_lr
            )
            self._progress()
        trigger = scale_to(trigger, self.tau)
        with torch.inference_mode():
            predicted = self.masked((self.images + trigger).clamp(0, 1), weights).argmax(1)
        self.triggers.append(trigger[0])
        self.histograms.append(torch.bincount(predicted, minlength=len(self.clean.classes)))
        return trigger

    def learn_masks(self, trigger: Tensor, round_: int) -> None:
        """2. Masks that keep the clean answers, trigger or not."""
        cfg = self.config
        for index in self._batches():
            x = self.images[index]
            y = self.clean.y[index]
            both = torch.cat([x, (x + trigger).clamp(0, 1)])
            logits, triggered_logits = self.masked(both, self.masked.masked_weights()).chunk(2)
            natural = F.cross_entropy(logits, y)
            triggered = F.cross_entropy(triggered_logits, y)
            loss = cfg.alpha * natural + (1 - cfg.alpha) * triggered + cfg.gamma * self.masked.l1_norm()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.masked.clamp()
            self._progress()
        self.schedule.step()
        self.ctx.metric("clean_loss", round_, natural.item())
        self.ctx.metric("triggered_loss", round_, triggered.item())

    def patterns(self) -> Tensor:
        """The trigger of each round, ``(rounds, c, h, w)``."""
        return torch.stack(self.triggers)

    def show(self) -> None:
        """Emit the recovered trigger of each round and the masks by layer."""
        norms = torch.stack([trigger.abs().sum() for trigger in self.triggers])
        classes = list(self.clean.classes)
        found = artifacts.TriggerReconstruction(self.patterns(), torch.stack(self.histograms), norms, classes)
        self.ctx.artifact("trigger", found)
        layers = [layer_name(name.removesuffix(".weight")) for name in self.masked.masks]
        bins = histograms(list(self.masked.masks.values()))
        scores = artifacts.NeuronScores(layers, bins, "mask of each convolution weight")
        self.ctx.artifact("masks", scores)

    def _batches(self) -> Iterator[Tensor]:
        return batches(len(self.clean), self.config.batch_size, self.config.inner_epochs, self.order)

    def _progress(self) -> None:
        self.step += 1
        self.ctx.progress(self.step, self.total)


@defense("awm")
class AWM(Defense):
    """Chai and Chen, NeurIPS 2022, arXiv:2207.04497, Algorithm 1:

    min over masks m in [0, 1] of  alpha L(f(x; m w), y) + beta max over ||D||_1 <= tau of L(f(x + D; m w), y)
    + gamma ||m||_1,  with one mask value for each convolution weight and batch norm frozen in eval mode.
    """

    Config = AWMConfig
    card = Card(
        title="Adversarial weight masking",
        references=(
            Reference(
                authors="S. Chai, J. Chen",
                title="One-shot Neural Backdoor Erasing via Adversarial Weight Masking",
                venue="NeurIPS",
                year=2022,
                arxiv="2207.04497",
            ),
        ),
        summary="With a few trusted images, search for one pattern that changes the model's mind everywhere (the "
        "backdoor's trigger is the easiest such pattern), then turn down the weights that react to it. Repeat.",
        threat_model="Defender holds the trained model and a few clean images, down to one a class.",
        deviations=(
            "The budget tau is scaled with the number of pixels; the published value is for 3x32x32.",
            "The last, smaller batch of a pass is used; the repository drops it, and does nothing at all with fewer "
            "images than one batch.",
            "The preset quick moves the masks faster, in fewer steps, and weighs the clean loss more, which costs "
            "a small network less accuracy.",
        ),
    )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        cfg = self.config
        if len(clean) < cfg.augment_below:
            clean = augmented_copies(clean, cfg.copies, cfg.flip, ctx.generator("awm", "copies"))
        model = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        masking = _Masking(cfg, clean, MaskedModel(model, ctx.autocast), ctx)
        for round_ in range(1, cfg.rounds + 1):
            trigger = masking.recover_trigger()
            masking.learn_masks(trigger, round_)
        masking.show()
        model.load_state_dict(
            {k: w.detach() for k, w in masking.masked.masked_weights().items()}, strict=False
        )
        return Repair(model, Findings(trigger=RecoveredTrigger(masking.patterns())))
