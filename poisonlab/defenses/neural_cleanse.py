"""Neural Cleanse: the backdoor's class is the one that a far smaller trigger than all others reaches."""

import copy
from typing import Literal

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import BENCH, HOLDS_CLEAN_IMAGES, FTConfig, fine_tune
from poisonlab.defenses.shared.sample_scores import ANOMALY_INDEX, anomaly_index
from poisonlab.defenses.shared.trigger_search import SearchConfig, Triggers, find_triggers, paste
from poisonlab.models.base import Classifier
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.loop import TrainingHook
from poisonlab.types import Detection, ImageSet

SMALLEST_NORM = 1e-3


class NCConfig(FTConfig, SearchConfig):
    lr: float = param(
        0.01,
        "Learning rate at the start, falling as a cosine",
        quick={"*": 0.05, "cifar10": 0.005},
        gt=0,
        le=10,
        source=BENCH,
    )
    anomaly: float = param(
        ANOMALY_INDEX,
        "Anomaly index, in robust standard deviations below the median, above which a class is flagged",
        quick=2.4,
        full=2.4,
        gt=0,
        le=100,
        source="the paper",
    )
    of: Literal["norm", "log_norm"] = param(
        "norm",
        "What the anomaly index is of: the L1 norms of the masks, or their logarithms",
        quick="log_norm",
        full="log_norm",
        source="the paper",
    )
    least_spread: float = param(
        0.0,
        "Robust standard deviations below this count as this",
        quick=0.35,
        full=0.35,
        ge=0,
        le=100,
        source="the paper",
    )
    share: float = param(0.2, "Share of a batch that carries a recovered trigger", gt=0, le=1, source=BENCH)


class Vaccination(TrainingHook):
    """Recovered triggers on some images of each batch, with their true labels."""

    def __init__(self, triggers: Triggers, share: float, generator: torch.Generator) -> None:
        self.triggers = triggers
        self.share = share
        self.generator = generator

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        count = max(1, round(self.share * len(x)))
        which = torch.randint(len(self.triggers.masks), (count,), generator=self.generator, device=x.device)
        pasted = paste(x[:count], self.triggers.masks[which], self.triggers.patterns[which])
        return torch.cat([pasted, x[count:]]), y


@defense("neural_cleanse")
class NeuralCleanse(Defense):
    """Wang et al., IEEE S&P 2019:

    1. for each class c:  min over M, P of  L(f((1 - M) x + M P), c) + lambda ||M||_1;
    2. flag classes whose ||M||_1 lies more than 2 robust standard deviations below the median (MAD);
    3. unlearn: fine-tune on clean images, a fifth of them with the flagged triggers and their true labels.

    A model without a flagged class is left as it is. The search has batch norm in eval mode, unlearning in train mode.
    """

    Config = NCConfig
    judges_models = True
    card = Card(
        title="Neural Cleanse",
        references=(
            Reference(
                authors="B. Wang, Y. Yao, S. Shan, H. Li, B. Viswanath, H. Zheng, B. Y. Zhao",
                title="Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks",
                venue="IEEE Symposium on Security and Privacy",
                year=2019,
            ),
        ),
        summary="For each class, search for the smallest sticker that sends every image there. A backdoor is a "
        "shortcut: its class needs a far smaller sticker than the others. Then teach the model to ignore that sticker.",
        threat_model=HOLDS_CLEAN_IMAGES,
        deviations=(
            "All classes are searched together for a fixed number of rounds; the repository does one after the other "
            "and stops early.",
            "Of the rounds that succeed, the one with the smallest mask at its end is kept, and the last one where "
            "none does. BackdoorBench goes by the mean norm along a round, and keeps the first. It starts from 0.88 in "
            "mask and pattern, not at random, and its median of an even number of norms is the lower middle one.",
            "Unlearning is that of BackdoorBench: fine-tuning with a fifth of the images triggered.",
            "The presets quick and full have fewer, shorter rounds, and lambda moves after two of them. They compare "
            "logarithms: the norms of a small network's classes differ so much that an empty mask would hardly stand "
            "out.",
            "They also take the norms to be spread by a factor of 1.4 (0.35 in logarithms) at least: where most "
            "classes agree, one that is naturally easy to reach would be flagged.",
        ),
    )

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        found, index = self._search(model, clean, ctx)
        target = int(index.argmax()) if bool((index > self.config.anomaly).any()) else None
        return Detection(
            target is not None,
            target,
            "anomaly index",
            index,
            self.config.anomaly,
            trigger_classes=torch.arange(len(index), device=index.device),
            patterns=found.patterns,
            masks=found.masks,
        )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        cfg = self.config
        repaired = copy.deepcopy(model)
        found, index = self._search(model, clean, ctx)
        flagged = index > cfg.anomaly
        if not bool(flagged.any()):
            ctx.log("no class stands out: the model is left as it is")
            return Repair(repaired)
        triggers = Triggers(found.patterns[flagged], found.masks[flagged], found.success[flagged])
        fine_tune(
            repaired, clean, cfg, ctx, Vaccination(triggers, cfg.share, ctx.generator("neural_cleanse"))
        )
        return Repair(repaired)

    def _search(self, model: Classifier, clean: ImageSet, ctx: Context) -> tuple[Triggers, Tensor]:
        """The smallest trigger of every class, and the anomaly index of its norm."""
        everyone = torch.arange(len(clean.classes), device=ctx.device)
        found = find_triggers(model, clean, everyone, self.config, ctx)
        norms = found.l1_norm if self.config.of == "norm" else found.l1_norm.clamp_min(SMALLEST_NORM).log()
        return found, anomaly_index(norms, self.config.least_spread)
