"""SAU: unlearn the adversarial examples that mislead the repaired and the given network to the same class."""

import copy
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import HOLDS_CLEAN_IMAGES
from poisonlab.models.base import Classifier, as_floats
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.training.loop import Minimizer, batches, steps_in_epoch
from poisonlab.types import ImageSet

BENCH = "BackdoorBench, by the paper's first author"
SMALLEST = 1e-6  # of a probability whose logarithm is taken


class SAUConfig(Config):
    rounds: int = param(
        100,
        "Passes over the clean images",
        quick=20,
        elsewhere={"tiny_imagenet": 20},
        ge=1,
        le=1000,
        source=BENCH,
    )
    batch_size: int = param(
        256, "Images in a step", quick={"*": 64, "digits": 25}, ge=1, le=4096, unit="images", source=BENCH
    )
    lr: float = param(1e-4, "Adam step on the weights", gt=0, le=1, source=BENCH)
    eps: float = param(0.2, "Largest change of a pixel", gt=0, le=1, source=BENCH)
    step: float = param(
        0.2, "Step of the attack along the sign of its gradient (eta)", gt=0, le=1, source=BENCH
    )
    inner_steps: int = param(5, "Steps of the attack", quick=3, ge=1, le=100, source=BENCH)
    beta_1: float = param(0.01, "Weight of misleading each network", ge=0, le=100, source=BENCH)
    beta_2: float = param(1.0, "Weight of misleading both alike", ge=0, le=100, source=BENCH)
    lambda_1: float = param(1.0, "Weight of the loss on clean images", ge=0, le=100, source=BENCH)
    lambda_2: float = param(0.0, "Weight of the loss on adversarial examples", ge=0, le=100, source=BENCH)
    lambda_3: float = param(
        1.0, "Weight of unlearning the classes that examples are led to", ge=0, le=100, source=BENCH
    )


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """JS(p, q) = (KL(p || m) + KL(q || m)) / 2,  m = (p + q) / 2, of rows of probabilities; ``(n,)``."""
    middle = ((p + q) / 2).clamp_min(SMALLEST).log()

    def divergence(one: Tensor) -> Tensor:
        return (one * (one.clamp_min(SMALLEST).log() - middle)).sum(1)

    return (divergence(p) + divergence(q)) / 2


class SharedAttack:
    """The inner step, image by image.

    Attributes:
        given: f_0, the network before its repair.
    """

    def __init__(self, given: Classifier, config: SAUConfig) -> None:
        self.given = given
        self.config = config

    def examples(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """x + delta, which need not lie in [0, 1]; ``model`` is in eval mode, and its weights get no gradient.

        Args:
            x: float images in [0, 1]. y: their labels.
        """
        cfg = self.config
        with torch.no_grad():
            own = model(x).argmax(1)
            own_given = self.given(x).argmax(1)
        delta = torch.full_like(x, cfg.eps)
        for _ in range(cfg.inner_steps):
            delta.requires_grad_()
            logits = model(x + delta)
            logits_given = self.given(x + delta)
            fooled = logits.argmax(1) != own
            fooled_given = logits_given.argmax(1) != own_given
            shared = fooled & fooled_given & (logits.argmax(1) == logits_given.argmax(1))
            loss = cfg.beta_1 * self._misleading(logits, logits_given, y, ~fooled, ~fooled_given)
            loss = loss + cfg.beta_2 * self._differing(logits, logits_given, ~shared)
            (gradient,) = torch.autograd.grad(loss, delta)
            moved = delta.detach() - cfg.step * gradient.sign()
            keep = shared.view(-1, 1, 1, 1)  # once shared, an example has no gradient of its own
            delta = torch.where(keep, delta.detach(), moved.clamp(-cfg.eps, cfg.eps))
        return x + delta.detach()

    @staticmethod
    def _misleading(
        logits: Tensor, logits_given: Tensor, y: Tensor, still: Tensor, still_given: Tensor
    ) -> Tensor:
        """L_adv = -(1 / 2b) (sum of CE of those that each network still reads as before)."""
        each = F.cross_entropy(logits, y, reduction="none") * still
        each_given = F.cross_entropy(logits_given, y, reduction="none") * still_given
        return -(each.sum() + each_given.sum()) / (2 * len(y))

    @staticmethod
    def _differing(logits: Tensor, logits_given: Tensor, apart: Tensor) -> Tensor:
        """L_share = (1 / b) sum of JS(p_f, p_f0) of those that are not yet shared."""
        each = jensen_shannon(logits.softmax(1), logits_given.softmax(1))
        return (each * apart).sum() / len(apart)


def unlearning_loss(
    model: Classifier, given: Classifier, x: Tensor, examples: Tensor, y: Tensor, config: SAUConfig
) -> Tensor:
    """L = l1 CE(f(x), y) + l2 CE(f(x'), y) + l3 (1 / b) sum over J of -log(1 - p_f(y_hat | x')).

    y_hat: what the given network says of x'. J: examples for which that is neither y nor what it says of x.
    """
    with torch.no_grad():
        before = given(x).argmax(1)
        led_to = given(examples).argmax(1)
    concerned = (led_to != y) & (led_to != before)
    logits = model(examples).float()
    likely = logits.softmax(1).gather(1, led_to[:, None]).squeeze(1)
    unlearned = -(1 - likely).clamp_min(SMALLEST).log()
    loss: Tensor = config.lambda_1 * F.cross_entropy(model(x).float(), y)
    loss = loss + config.lambda_2 * F.cross_entropy(logits, y)
    loss = loss + config.lambda_3 * (unlearned * concerned).sum() / len(y)
    return loss


@defense("sau")
class SAU(Defense):
    """Wei, Zhang, Zha and Wu, NeurIPS 2023, arXiv:2307.10562. For each batch:

    1. an adversarial example of each image, by sign steps from +eps, that misleads the network f and the given one
       f_0 to the same class: triggered images are such examples;
    2. a step of Adam on f that keeps the clean images and drops the class that f_0 gives to the examples.

    Both networks are in eval mode throughout: running statistics stay as they are.
    """

    Config = SAUConfig
    card = Card(
        title="Shared adversarial unlearning",
        references=(
            Reference(
                authors="S. Wei, M. Zhang, H. Zha, B. Wu",
                title="Shared Adversarial Unlearning: Backdoor Mitigation by Unlearning Shared Adversarial Examples",
                venue="NeurIPS",
                year=2023,
                arxiv="2307.10562",
            ),
        ),
        summary="A triggered image misleads the backdoored network and its repaired copy to the same class. So look "
        "for changes of clean images that do just that, and train the copy not to follow: the trigger goes with them.",
        threat_model=HOLDS_CLEAN_IMAGES,
        deviations=(
            "The logarithm of 1 - p is taken of 1e-6 at least; the benchmark averages two clamped forms.",
            "An example that misleads both alike is left as it is; the benchmark stops when all of them do.",
            "The last round counts, no better one is looked for on test images.",
            "The preset quick has fewer passes and steps of the attack: in full they cost twice a victim's training.",
        ),
    )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        cfg = self.config
        tuned = copy.deepcopy(model).eval().requires_grad_(True).to(memory_format=torch.channels_last)
        attack = SharedAttack(model, cfg)
        optimizer = torch.optim.Adam(tuned.parameters(), lr=cfg.lr)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        steps_in_round = steps_in_epoch(len(clean), cfg.batch_size)
        minimizer = Minimizer(tuned, optimizer, schedule, cfg.rounds * steps_in_round, ctx)
        images = as_floats(clean.x)
        order = ctx.generator("sau", "batches")
        for done, index in enumerate(batches(len(clean), cfg.batch_size, cfg.rounds, order), 1):
            x = images[index]
            y = clean.y[index]
            examples = attack.examples(tuned, x, y)
            minimizer.step(partial(unlearning_loss, tuned, model, x, examples, y, cfg))
            if done % steps_in_round == 0:
                ctx.observe("unlearning", done // steps_in_round, tuned)
        return Repair(tuned.requires_grad_(False))
