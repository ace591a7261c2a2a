"""Sleeper Agent: a backdoor planted without its trigger, by noise whose training gradient is that of the trigger."""

import copy
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.alignment import parameter_gradient
from poisonlab.attacks.shared.backdoor import BackdoorAttack, BackdoorConfig
from poisonlab.attacks.shared.matched_poisons import MatchedPoisons, surrogate_recipe
from poisonlab.context import Context
from poisonlab.models.base import EVALUATION_BATCH, Classifier, as_floats
from poisonlab.models.shared.second_derivatives import check_second_derivatives
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.types import Backdoor, ImageSet, Poison

REPOSITORY = "Sleeper-Agent repository"
AT_ONCE = 16  # images whose gradients are held at a time: each is as large as the network


class SleeperAgentConfig(BackdoorConfig):
    source_class: int = param(
        -1, "Class whose images are attacked at test time; -1 for a random other one", ge=-1, source="paper"
    )
    poison_rate: float = param(
        0.01,
        "Share of the training images that is poisoned, all of the target class",
        quick={"*": 0.05, "digits": 0.08, "gtsrb": 0.01, "tiny_imagenet": 0.0025},
        elsewhere={"tiny_imagenet": 0.0025},
        gt=0,
        le=1,
        source=REPOSITORY,
    )
    eps: float = param(
        16,
        "L-infinity bound of the perturbation",
        quick={"*": 16, "digits": 96},
        ge=1,
        le=255,
        unit="1/255",
        source=REPOSITORY,
    )
    patch_size: int = param(
        8, "Side of the patch", quick=4, ge=1, le=64, unit="pixels", source=f"{REPOSITORY}, for 32x32"
    )
    sources: int = param(
        2500,
        "Training images of the source class whose gradient is matched, at most",
        quick=300,
        ge=1,
        unit="images",
        source=REPOSITORY,
    )
    steps: int = param(
        250,
        "Signed Adam steps; 0 leaves the random start, the control of equal size",
        quick=60,
        ge=0,
        le=10_000,
        source=REPOSITORY,
    )
    step_size: float = param(
        0.1, "Adam learning rate, in standard deviations of a channel", gt=0, le=10, source=REPOSITORY
    )
    retrain_every: int = param(
        50,
        "Steps after which the surrogate is trained anew, on the poisons as they then are",
        quick=30,
        ge=1,
        le=10_000,
        source=REPOSITORY,
    )
    crop_padding: int = param(
        4,
        "Random crop of the poisons after padding by this much",
        quick=1,
        ge=0,
        le=16,
        unit="pixels",
        source=REPOSITORY,
    )
    flip: bool = param(True, "Mirror the poisons half of the time", quick={"*": True, "digits": False})
    surrogate_recipe: Literal["published", "victim"] = param(
        "published",
        "How surrogates are trained: by the repository's recipe, or as the victim is",
        quick="victim",
        full="victim",
        source=f"{REPOSITORY}: 40 epochs",
    )


def stamped(x: Tensor, patch: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images with a patch, each at a place of its own.

    Args:
        x: ``(n, c, h, w)``; not modified.
        patch: ``(c, p, p)`` of the same kind.
        rows, columns: of the upper left corner, int64 ``(n,)``.
    """
    side = torch.arange(patch.shape[-1], device=x.device)
    image = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    down = (rows[:, None] + side)[:, :, None]  # (n, p, 1)
    right = (columns[:, None] + side)[:, None, :]  # (n, 1, p)
    out = x.clone()
    out[image, :, down, right] = patch.permute(1, 2, 0)  # (n, p, p, c)
    return out


def free_places(x: Tensor, patch: Tensor) -> tuple[int, int]:
    """How many rows and columns the upper left corner of a patch can take."""
    return x.shape[-2] - patch.shape[-2] + 1, x.shape[-1] - patch.shape[-1] + 1


def own_places(x: Tensor, patch: Tensor) -> tuple[Tensor, Tensor]:
    """A place for each uint8 image that looks random and is always the same: read off the sum of its pixels."""
    rows, columns = free_places(x, patch)
    pixel_sum = x.sum((1, 2, 3), dtype=torch.int64)
    return pixel_sum % rows, pixel_sum // rows % columns


def gradient_norms(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """||grad_theta CE(f(x), y)|| of each image, over all parameters; float ``(n,)``.

    Args:
        model: in eval mode.
        x: uint8 ``(n, c, h, w)``.
    """
    weights = {name: value.detach() for name, value in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, (weights, buffers), (image[None],))
        return F.cross_entropy(logits, label[None])

    def squared_norm(image: Tensor, label: Tensor) -> Tensor:
        gradients = grad(loss)(weights, image, label)
        return torch.stack([part.square().sum() for part in gradients.values()]).sum()

    norms: Tensor = vmap(squared_norm, chunk_size=AT_ONCE)(as_floats(x), y).sqrt()
    return norms


def mean_gradient(model: Classifier, x: Tensor, label: int) -> tuple[Tensor, ...]:
    """The gradient of the mean loss of uint8 images that should be given ``label``, by batches that fit into memory."""
    y = torch.full((len(x),), label, device=x.device)
    total = [torch.zeros_like(weight) for weight in model.parameters()]
    for images, labels in zip(x.split(EVALUATION_BATCH), y.split(EVALUATION_BATCH), strict=True):
        part = parameter_gradient(model, as_floats(images), labels)
        torch._foreach_add_(total, part, alpha=len(images) / len(x))
    return tuple(total)


@attack("sleeper_agent")
class SleeperAgent(BackdoorAttack):
    """Souri, Fowl, Chellappa, Goldblum and Goldstein, NeurIPS 2022, arXiv:2106.08970:

    1. g_a = grad_theta mean CE(f(T_p(x)), t) over training images of the source class, T_p pastes the patch somewhere;
    2. g_p(delta) = grad_theta mean CE(f(aug(x_i + delta_i)), t) over the poisons, images of the target class;
    3. min over |delta| <= eps of 1 - <g_a, g_p> / (||g_a|| ||g_p||);
    4. the poisons are the images of the target class with the largest ||grad_theta CE(f(x), t)||;
    5. every R steps f is drawn and trained anew on the training set with the poisons as they are, and so is g_a.
    """

    Config = SleeperAgentConfig
    recipe = "training"  # that of the other attacks whose poisons keep their labels and are made on a network
    clean_label = True
    card = Card(
        title="Sleeper Agent",
        references=(
            Reference(
                authors="H. Souri, L. Fowl, R. Chellappa, M. Goldblum, T. Goldstein",
                title="Sleeper Agent: Scalable Hidden Trigger Backdoors for Neural Networks Trained from Scratch",
                venue="NeurIPS",
                year=2022,
                arxiv="2106.08970",
            ),
        ),
        summary="The training set never shows the trigger. Correctly labeled images of the target class carry a faint "
        "noise, made so that learning them moves a network as learning patched images of another class under that "
        "label would. Whoever later pastes the patch on an image of that class is given the target.",
        threat_model="Clean label, bounded perturbation of some images of the target class; trains models of the "
        "victim's kind on the training set, knows neither the victim's start nor its order of images.",
        deviations=(
            "Success is counted on the source class alone, as in the paper.",
            "The patch is colored noise drawn once for each seed; the repository pastes a picture.",
            "At test time the place of the patch is read off the image, so that every model sees the same images; in "
            "crafting it is drawn at random.",
            "The victim's own augmentation (whole-pixel crops, zero padding) instead of bilinear shifts, in crafting "
            "as in training.",
            "All poisons are one batch; the repository matches batches of 512.",
            "The source class is drawn for each seed, the target class is a parameter; the paper draws both.",
            "The presets quick and full train surrogates by the victim's recipe, paper by the repository's.",
            "Quick: 60 steps and one retraining, since the alignment soon stands still, and five times as many "
            "poisons. It stays weak there: a small network trained for a few epochs obeys the patch on some images "
            "only. The classes of digits lie far apart and need a noise that is plain to see.",
        ),
    )

    def check_images(self, train: ImageSet) -> None:
        super().check_images(train)
        cfg: SleeperAgentConfig = self.config
        side = min(train.shape[1:])
        if cfg.patch_size > side:
            raise ValueError(
                f"attack.patch_size={cfg.patch_size} is larger than a side of {side} pixels; lower it"
            )
        if cfg.source_class == cfg.target_class:
            raise ValueError(
                f"attack.source_class={cfg.source_class} is the target class; choose another one, or -1"
            )
        self._candidates(train)  # as many as the rate asks for, before a surrogate is trained

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        check_second_derivatives(network, shape, self.name)

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        cfg: SleeperAgentConfig = self.config
        train = view.train
        source = self._source_class(train, ctx)
        patch = self._patch(train, ctx)
        targets = self._source_images(train, source, ctx)
        model = self._surrogate(view, 0, train)
        index = self._rows_of_largest_gradient(model, train)
        state = {"patch": patch, "source_class": torch.tensor(source, device=ctx.device)}
        own = train[index]
        poisons = MatchedPoisons(
            own.x,
            own.y,
            model,
            eps=cfg.eps,
            rate=cfg.step_size,
            steps=cfg.steps,
            crop_padding=cfg.crop_padding,
            flip=cfg.flip,
            draws=ctx.generator(self.name, "craft"),
        )
        places = ctx.generator(self.name, "places")
        wanted = self._adversarial_gradient(model, targets, patch, places)
        for step in range(1, cfg.steps + 1):
            loss = poisons.step([model], [wanted])
            if step == 1 or step % 10 == 0 or step == cfg.steps:
                ctx.metric("alignment_loss", step, loss.item())
            ctx.progress(step, cfg.steps)
            if step % cfg.retrain_every == 0 and step < cfg.steps:
                now = Poison(index[None], poisons.images()[None], own.y[None]).apply(train)
                model = self._surrogate(view, step // cfg.retrain_every, now)
                wanted = self._adversarial_gradient(model, targets, patch, places)
        return Poison(index[None], poisons.images()[None], own.y[None], state)

    def threat(self, poison: Poison, classes: int) -> Backdoor:
        trigger = partial(self.trigger, state=poison.state)
        source = int(poison.state["source_class"])
        return Backdoor(trigger, self._relabel(classes), self.config.target_class, source)

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return stamped(x, state["patch"], *own_places(x, state["patch"]))

    def _source_class(self, train: ImageSet, ctx: Context) -> int:
        cfg: SleeperAgentConfig = self.config
        if cfg.source_class >= 0:
            return cfg.source_class
        classes = len(train.classes)
        draws = ctx.generator(self.name, "source class")
        shift = int(torch.randint(1, classes, (), generator=draws, device=draws.device))
        return (cfg.target_class + shift) % classes

    def _patch(self, train: ImageSet, ctx: Context) -> Tensor:
        """Pixels that are black or white in each channel; uint8 ``(c, p, p)``."""
        side = self.config.patch_size
        draws = ctx.generator(self.name, "patch")
        bits = torch.randint(2, (train.shape[0], side, side), generator=draws, device=draws.device)
        return (255 * bits).to(torch.uint8)

    def _source_images(self, train: ImageSet, source: int, ctx: Context) -> Tensor:
        """S: training images of the source class, in random order."""
        rows = (train.y == source).nonzero().squeeze(1)
        if not len(rows):
            raise ValueError(f"source_class={source} has no training images; choose another one")
        draws = ctx.generator(self.name, "sources")
        order = torch.randperm(len(rows), generator=draws, device=rows.device)
        return train.x[rows[order[: self.config.sources]]]

    def _surrogate(self, view: AttackerView, number: int, train: ImageSet) -> Classifier:
        """A network trained from its own random start, to be derived by its weights."""
        trained = view.surrogate(number, train, recipe=surrogate_recipe(self.config))
        return copy.deepcopy(trained).requires_grad_(True)

    def _rows_of_largest_gradient(self, model: Classifier, train: ImageSet) -> Tensor:
        candidates, count = self._candidates(train)
        own = train[candidates]
        largest = gradient_norms(model, own.x, own.y).argsort(descending=True, stable=True)
        return candidates[largest[:count]]

    def _adversarial_gradient(
        self, model: Classifier, x: Tensor, patch: Tensor, places: torch.Generator
    ) -> tuple[Tensor, ...]:
        """g_a: of images with the patch at random places, and the target's label."""
        rows, columns = (
            torch.randint(free, (len(x),), generator=places, device=x.device)
            for free in free_places(x, patch)
        )
        return mean_gradient(model, stamped(x, patch, rows, columns), self.config.target_class)
