"""Methods beside the papers' own code: how far apart the results are, and the time of both.

    python benchmarks/peers.py FOLDER

FOLDER holds checkouts under their own names: TSBD, RNP, ANP_backdoor, AWM, PureGen_PoisonDefense, BackdoorBench; a
method whose checkout is missing is left out. Functions are taken out of their files and executed as they stand; the
scripts around them are not run. Both sides start from one network and see the same images in the same order, with the
same noise, one thread.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.backdoorbench import of_backdoorbench
from benchmarks.lifted import (
    IMAGES,
    STEPS,
    Drawn,
    Loader,
    Pair,
    Work,
    flat,
    images,
    lift,
    quiet,
    victim,
    weights,
    with_modules,
)
from poisonlab.context import Context
from poisonlab.defenses import anp, awm, rnp
from poisonlab.defenses.shared.unlearning import Unlearning, unlearn
from poisonlab.defenses.tsbd import ActivenessAware
from poisonlab.generative.langevin import LangevinConfig, langevin
from poisonlab.models.base import Classifier, as_floats
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import batches, train_network
from poisonlab.types import ImageSet

CHAINS = 64  # images of Langevin dynamics
AWM_BATCH = 32
AWM_BUDGET = 50.0  # small enough that the trigger is scaled to it


# -- the pairs --------------------------------------------------------------------------------------


def tsbd(folder: Path, model: Classifier, data: ImageSet) -> list[Pair]:
    step = lift(folder / "tsbd.py", ["train_finetuning_reg"])["train_finetuning_reg"]

    def product() -> Tensor:
        own = copy.deepcopy(model).requires_grad_(True)
        recipe = TrainingConfig(
            epochs=STEPS,
            batch_size=IMAGES,
            lr=0.01,
            nesterov=False,
            weight_decay=0,
            schedule="constant",
            crop_padding=0,
            flip=False,
        )
        train_network(own, data, recipe, Context(), ActivenessAware(0.05, 0.7))
        return weights(own)

    def official() -> Tensor:
        own = copy.deepcopy(model).requires_grad_(True)
        optimizer = torch.optim.SGD(own.parameters(), lr=0.01, momentum=0.9)
        batches = Loader([(as_floats(data.x), data.y)])
        for _ in range(STEPS):
            step(
                None, SimpleNamespace(device="cpu"), own, nn.CrossEntropyLoss(), optimizer, batches, 0.05, 0.7
            )
        return weights(own)

    return [Pair("TSBD, fine-tuning", product, official, weights(model))]


def of_rnp(folder: Path, model: Classifier, data: ImageSet) -> list[Pair]:
    space = lift(folder / "main.py", ["train_step_unlearning", "train_step_recovering", "clip_mask"])
    kind = lift(folder / "models" / "mask_batchnorm.py", ["MaskBatchNorm2d"])["MaskBatchNorm2d"]
    batches = Loader([(as_floats(data.x), data.y)])

    def unlearned() -> Tensor:
        how = Unlearning(0.01, 0.9, 5e-4, (), STEPS, IMAGES, -1.0, 0, False)
        return weights(unlearn(model, data, how, Context()))

    def unlearned_there() -> Tensor:
        own = copy.deepcopy(model).requires_grad_(True)
        optimizer = torch.optim.SGD(own.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        for _ in range(STEPS):
            space["train_step_unlearning"](None, own, nn.CrossEntropyLoss(), optimizer, batches)
        return weights(own)

    def recovered() -> Tensor:
        config = rnp.RNPConfig(recover_epochs=STEPS, batch_size=IMAGES, crop_padding=0, flip=False)
        return _mask_of(rnp, rnp.RNP(config), model, data)

    def recovered_there() -> Tensor:
        own = with_modules(model, nn.BatchNorm2d, lambda norm: kind(norm.num_features)).requires_grad_(True)
        masks = [value for name, value in own.named_parameters() if name.endswith("neuron_mask")]
        optimizer = torch.optim.SGD(masks, lr=0.2, momentum=0.9)
        for _ in range(STEPS):
            space["train_step_recovering"](
                SimpleNamespace(alpha=0.2), own, nn.CrossEntropyLoss(), optimizer, batches
            )
        return flat(masks)

    ones = torch.ones_like(recovered_there())
    return [
        Pair("RNP, unlearning", unlearned, unlearned_there, weights(model)),
        Pair("RNP, recovering", recovered, recovered_there, ones),
    ]


def of_anp(folder: Path, model: Classifier, data: ImageSet) -> list[Pair]:
    kind = lift(folder / "models" / "anp_batchnorm.py", ["NoisyBatchNorm2d"])["NoisyBatchNorm2d"]
    config = anp.ANPConfig(iterations=STEPS, batch_size=IMAGES, crop_padding=0, flip=False)
    names = ["mask_train", "clip_mask", "sign_grad", "include_noise", "exclude_noise"]

    def product() -> Tensor:
        return _mask_of(anp, anp.ANP(config), model, data)

    def official() -> Tensor:
        own = with_modules(model, nn.BatchNorm2d, lambda norm: kind(norm.num_features)).requires_grad_(True)
        norms = [module for module in own.modules() if isinstance(module, kind)]
        sizes = [norm.num_features for norm in norms]
        draws = Context().generator("anp")

        def reset(model: nn.Module, rand_init: bool) -> None:
            """The noise that the product draws: of all scales at once, then of all shifts."""
            for name in ("neuron_noise", "neuron_noise_bias"):
                drawn = config.eps * (2 * torch.rand(sum(sizes), generator=draws) - 1)
                for norm, part in zip(norms, drawn.split(sizes), strict=True):
                    getattr(norm, name).data.copy_(part)

        numbers = SimpleNamespace(anp_eps=config.eps, anp_steps=1, anp_alpha=config.alpha)
        models = SimpleNamespace(NoisyBatchNorm2d=kind, NoisyBatchNorm1d=kind)
        space = lift(folder / "optimize_mask_cifar.py", names, args=numbers, models=models, reset=reset)
        masks = [norm.neuron_mask for norm in norms]
        noise = [value for norm in norms for value in (norm.neuron_noise, norm.neuron_noise_bias)]
        mask_steps = torch.optim.SGD(masks, lr=config.mask_lr, momentum=0.9)
        noise_steps = torch.optim.SGD(noise, lr=config.eps)
        for _ in range(STEPS):
            rows = torch.randint(IMAGES, (IMAGES,), generator=draws)
            batch = Loader([(as_floats(data.x[rows]), data.y[rows])])
            space["mask_train"](own, nn.CrossEntropyLoss(), mask_steps, noise_steps, batch)
        return flat(masks)

    return [Pair("ANP, masks", product, official, torch.ones_like(official()))]


class OldConvolution(nn.Conv2d):
    """As it was when AWM's masks were written: the bias need not be handed over."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return super()._conv_forward(input, weight, self.bias)


def of_awm(folder: Path, model: Classifier, data: ImageSet) -> list[Pair]:
    """One round. Adam makes whole steps of gradients that are little but rounding, so that some masks differ by part
    of such a step in single precision; in double precision two rounds agree to 1e-15.
    """
    path = folder / "models" / "maskedconv.py"
    kind = lift(path, ["MaskedConv2d"], nn=SimpleNamespace(Conv2d=OldConvolution))["MaskedConv2d"]
    config = awm.AWMConfig(rounds=1, inner_epochs=1, batch_size=AWM_BATCH, tau=AWM_BUDGET)
    numbers = SimpleNamespace(trigger_norm=config.tau, alpha=config.alpha, gamma=config.gamma)
    names = ["mask_train", "clip_mask", "Regularization"]
    wash = lift(folder / "main.py", names, args=numbers, print=quiet)["mask_train"]

    def masked(old: nn.Conv2d) -> nn.Module:
        new = kind(old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=False)
        new.include_mask()
        return new

    def product() -> tuple[Tensor, Tensor]:
        repair = awm.AWM(config).repair(model, data, Context())
        assert repair.findings.trigger is not None
        return weights(repair.model(model)), flat([repair.findings.trigger.patterns])

    def official() -> tuple[Tensor, Tensor]:
        own = with_modules(model, nn.Conv2d, masked).requires_grad_(True)
        steps = torch.optim.Adam([m.mask for m in own.modules() if isinstance(m, kind)], lr=config.mask_lr)
        draws = Context().generator("awm", "batches")
        halves = Drawn(data, IMAGES // AWM_BATCH, lambda: batches(IMAGES, AWM_BATCH, 1, draws))
        triggers: list[Tensor] = []
        sgd = torch.optim.SGD

        def ascent(params: list[Tensor], lr: float) -> torch.optim.Optimizer:
            """The trigger is a local variable of the round: it is caught on its way to the optimizer."""
            triggers.extend(params)
            return sgd(params, lr)

        with patch.object(torch.optim, "SGD", ascent):
            wash(own, nn.CrossEntropyLoss(), steps, halves)
        with torch.no_grad():
            for module in own.modules():
                if isinstance(module, kind):
                    module.weight.mul_(module.mask)
        washed = dict(own.named_parameters())
        shrunk = [awm.scale_to(trigger.detach(), config.tau) for trigger in triggers]
        return flat([washed[name] for name, _ in model.named_parameters()]), flat(shrunk)

    return [
        Pair("AWM, trigger", lambda: product()[1], lambda: official()[1], torch.zeros_like(official()[1])),
        Pair("AWM, masked weights", lambda: product()[0], lambda: official()[0], weights(model)),
    ]


class Energy(nn.Module):
    """Any smooth energy will do: the squared logits of the network."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        squares: Tensor = self.model(x).square()
        return squares.mean(1) / 100  # a chain of large steps would blow up the last digits


def of_puregen(folder: Path, model: Classifier, data: ImageSet) -> list[Pair]:
    path = folder / "utils" / "ebm_train.py"
    step = lift(path, ["langevin_step"], xm=SimpleNamespace(mark_step=lambda: None))["langevin_step"]
    config = LangevinConfig()
    energy = Energy(model)
    start = as_floats(data.x[:CHAINS]) * 2 - 1

    def product() -> Tensor:
        return flat([langevin(energy, start, STEPS, config, Context().generator("chain"))])

    def official() -> Tensor:
        draws = Context().generator("chain")
        state = start.clone().requires_grad_()

        def noise_like(x: Tensor) -> Tensor:
            """The product draws it in the usual memory layout."""
            return torch.empty(x.shape).normal_(generator=draws)

        with patch.object(torch, "randn_like", noise_like):
            for _ in range(STEPS):
                state, _ = step(energy, state, config.temperature, config.noise)
        return flat([state])

    return [Pair("Langevin", product, official, flat([start]))]


def _mask_of(module: Any, method: Any, model: Classifier, data: ImageSet) -> Tensor:
    """The mask that a defense hands on to pruning; RNP's is learned on the network as it is."""
    handed_on: list[Tensor] = []
    with (
        patch.object(module, "prune_by", lambda mask, *rest: handed_on.append(mask)),
        patch.object(rnp, "unlearn", lambda model, *rest: copy.deepcopy(model)),
        patch.object(rnp, "show_predictions", lambda *rest: None),
    ):
        method.repair(model, data, Context())
    return flat(handed_on)


PEERS: dict[str, Callable[[Path, Classifier, ImageSet], list[Pair]]] = {
    "TSBD": tsbd,
    "RNP": of_rnp,
    "ANP_backdoor": of_anp,
    "AWM": of_awm,
    "PureGen_PoisonDefense": of_puregen,
    "BackdoorBench": of_backdoorbench,
}


def measure(pair: Pair, repeats: int) -> str:
    """How far apart, as a share of the way gone; milliseconds of each side, in turns."""
    apart = (pair.product() - pair.official()).abs().max().item()
    gone = (pair.official() - pair.start).abs().max().item()
    taken: dict[Work, list[float]] = {pair.product: [], pair.official: []}
    for _ in range(repeats):
        for side, seconds in taken.items():
            started = time.process_time()
            side()
            seconds.append(time.process_time() - started)
    own, other = (1000 * statistics.median(seconds) for seconds in taken.values())
    return f"{pair.name:20} {apart:9.1e} {gone:9.1e} {own:9.0f} {other:9.0f} {other / own:6.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="holds the checkouts")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each side")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    ctx = Context()
    model = victim(ctx)
    data = images(ctx)
    print(f"{'':20} {'apart':>9} {'gone':>9} {'ours, ms':>9} {'theirs':>9} {'ratio':>6}")
    for name, pairs in PEERS.items():
        folder = chosen.folder / name
        if not folder.is_dir():
            print(f"{name}: no checkout in {chosen.folder}")
            continue
        for pair in pairs(folder, model, data):
            print(measure(pair, chosen.repeats), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
