"""Pruning of batch-norm channels: what defenses with a mask value for each channel share.

A channel k is removed by gamma_k = 0; its beta_k stays, so that it emits a constant (ANP and RNP
repositories). Masks are learned on a copy in train mode, whose running statistics drift and are thrown
away; pruned is the original network.
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from poisonlab.context import Context
from poisonlab.defenses.base import Repair
from poisonlab.defenses.shared.layer_scores import show_channel_scores
from poisonlab.defenses.shared.surrogate_trigger import sweep_by_parameter, sweep_by_rule
from poisonlab.models.base import Classifier
from poisonlab.spec.config import Config, param
from poisonlab.types import ChannelScores, Findings, ImageSet

SHARES = (0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.0575, 0.065, 0.0725, 0.08, 0.1, 0.13, 0.16, 0.2, 0.3)


class Channels:
    """Scales and shifts of all batch-norm channels of a model, as flat vectors of length ``count``."""

    def __init__(self, model: Classifier) -> None:
        norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
        if not norms:
            raise ValueError(
                "this defense masks batch-norm channels, and the victim has none; choose another victim"
            )
        self.names = list(norms)
        self.sizes = [m.num_features for m in norms.values()]
        self.gamma = torch.cat([m.weight.detach() for m in norms.values()])
        self.beta = torch.cat([m.bias.detach() for m in norms.values()])

    @property
    def count(self) -> int:
        return len(self.gamma)

    def scaled(self, scale: Tensor, shift: Tensor | float = 1.0) -> dict[str, Tensor]:
        """State-dict entries of  scale_k gamma_k  and  shift_k beta_k."""
        weights = (scale * self.gamma).split(self.sizes)
        biases = (shift * self.beta).split(self.sizes)
        named = {f"{n}.weight": w for n, w in zip(self.names, weights, strict=True)}
        return named | {f"{n}.bias": b for n, b in zip(self.names, biases, strict=True)}


class MaskedNetwork:
    """A frozen copy of a model in train mode, which runs with some of its state-dict entries replaced.

    Args:
        autocast: makes the context of a pass, for mixed precision.
    """

    def __init__(self, model: Classifier, autocast: Callable[[], Any] = nullcontext) -> None:
        self._autocast = autocast
        self._network = copy.deepcopy(model).train().requires_grad_(False)

    def __call__(self, x: Tensor, entries: dict[str, Tensor]) -> Tensor:
        """Logits ``(n, classes)``; running statistics drift."""
        with self._autocast():
            logits: Tensor = functional_call(self._network, entries, (x,))
        return logits.to(x.dtype)

    def holding(self, entries: dict[str, Tensor]) -> Classifier:
        """A copy that has the entries for its own."""
        network = copy.deepcopy(self._network).eval()
        network.load_state_dict(entries, strict=False)
        return network


def masked_network(
    model: Classifier, autocast: Callable[[], Any] = nullcontext
) -> tuple[Channels, MaskedNetwork]:
    """The channels of a model, and the network that their masks are learned on."""
    return Channels(model), MaskedNetwork(model, autocast)


class PruningRule(Config):
    """What decides how many channels go; shared by the defenses that prune them."""

    choose_by: Literal["rule", "threshold", "number"] = param(
        "rule",
        "What decides how many channels are pruned: a rule that looks at clean images, a threshold on the masks as in "
        "the papers' repositories, or a number",
        neutral="rule",
        source="the repositories sweep thresholds or numbers and choose none",
    )
    threshold: float = param(
        0.2,
        "Channels whose mask, to four decimals, is at most this are pruned, if choose_by is threshold",
        neutral=0.2,
        ge=0,
        le=1,
        source="ANP paper, on CIFAR-10; the repositories sweep 0 to 0.90",
    )
    number: int = param(
        20,
        "So many channels with the smallest masks are pruned, if choose_by is number; equal masks go together",
        neutral=20,
        ge=0,
        le=100_000,
        source="not published",
    )
    accuracy_price: float = param(
        10.0,
        "Points of a recovered pattern's success that a point of accuracy on the clean images is worth",
        ge=0,
        le=100,
        source="not published",
    )

    free_loss: float = param(
        0.02,
        "Where no recovered pattern speaks for pruning, channels go as long as the accuracy on the clean images falls "
        "by no more than this",
        neutral=0.0,
        ge=0,
        le=1,
        source="not published",
    )

    def price(self, score: Tensor) -> Tensor:
        """Price of the accuracy that each setting loses against the first."""
        return self.accuracy_price * (score[0] - score).clamp_min(0)

    def within_free_loss(self, score: Tensor) -> int:
        """Position of the last setting before the first that loses too much against position 0."""
        too_much = score < score[0] - self.free_loss
        return int(too_much.float().argmax()) - 1 if too_much.any() else len(score) - 1

    def given_count(self, mask: Tensor) -> int | None:
        """How many channels a threshold or a number prunes; ``None`` where the rule decides."""
        if self.choose_by == "rule":
            return None
        if self.choose_by == "threshold":
            return int(((mask * 1e4).round() / 1e4 <= self.threshold).sum())
        last = min(self.number, len(mask))
        return int((mask <= mask.sort().values[last - 1]).sum()) if last else 0


def prune_by(mask: Tensor, model: Classifier, clean: ImageSet, rule: PruningRule, ctx: Context) -> Repair:
    """Prune ``model``'s channels in the order of their masks, as many as ``rule`` says.

    Args:
        mask: ``(channels,)`` in [0, 1]; small ones go first.
    """
    channels = Channels(model)
    # channels with equal masks go together: their order would mean nothing
    ranked = mask.sort().values
    marks = [round(share * channels.count) for share in SHARES]
    given = rule.given_count(mask)
    counts = sorted(
        {int((mask <= ranked[mark - 1]).sum()) if mark else 0 for mark in marks}
        | ({given} if given is not None else set())
    )
    kept = torch.stack([mask > (ranked[count - 1] if count else -1) for count in counts]).float()
    gammas = (kept * channels.gamma).split(channels.sizes, dim=1)
    variants = {f"{name}.weight": gamma for name, gamma in zip(channels.names, gammas, strict=True)}
    settings = torch.tensor(counts, dtype=torch.float32)
    scores = ChannelScores(
        score="mask of each channel",
        low_is_blamed=True,
        modules=tuple(channels.names),
        sizes=tuple(channels.sizes),
        values=mask.detach().float(),
    )
    show_channel_scores("masks", scores, ctx)
    name = "channels pruned"
    if given is None:
        sweep = sweep_by_rule(
            name, settings, variants, model, clean, rule.price, ctx, otherwise=rule.within_free_loss
        )
    else:
        sweep = sweep_by_parameter(name, settings, variants, model, clean, counts.index(given))
    return Repair(sweep, Findings(channels=scores))
