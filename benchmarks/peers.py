"""Methods beside the papers' own code: how far apart the results are, and the time of both.

    python benchmarks/peers.py FOLDER

FOLDER holds checkouts under their own names: TSBD, RNP, ANP_backdoor, PureGen_PoisonDefense; a method whose checkout is
missing is left out. Functions are taken out of their files and executed as they stand; the scripts around them are not
run. Both sides start from one network and see the same images in the same order, with the same noise, one thread.
"""

import argparse
import ast
import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.defenses import anp, rnp
from poisonlab.defenses.shared.unlearning import Unlearning, unlearn
from poisonlab.defenses.tsbd import ActivenessAware
from poisonlab.generative.langevin import LangevinConfig, langevin
from poisonlab.models.base import Classifier, as_floats, initialize
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network
from poisonlab.types import ImageSet

IMAGES = 128
STEPS = 5
CHAINS = 64  # images of Langevin dynamics
CLASSES = 10
Work = Callable[[], Tensor]


@dataclass(frozen=True)
class Pair:
    """One computation, twice; each side starts anew and returns what came out as one vector.

    Attributes:
        start: what both sides start from.
    """

    name: str
    product: Work
    official: Work
    start: Tensor


def lift(path: Path, names: Sequence[str], **around: Any) -> dict[str, Any]:
    """Functions and classes of a file, executed in a namespace of ``around``."""
    wanted = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names
    ]
    space: dict[str, Any] = {
        "torch": torch,
        "nn": nn,
        "F": F,
        "Tensor": Tensor,
        "copy": copy,
        "device": "cpu",
    }
    space |= {"init": nn.init, "Parameter": nn.Parameter} | around
    exec(compile(ast.Module(list(wanted), []), str(path), "exec"), space)  # noqa: S102 - a checkout named by the user
    return space


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


def weights(model: nn.Module) -> Tensor:
    return flat(list(model.parameters()))


def victim(ctx: Context) -> Classifier:
    """A small ResNet with random weights; contiguous, as the official loops want it."""
    method = registry.victim["resnet8"]
    model: Classifier = method(method.Config()).network(
        (3, 32, 32), CLASSES, torch.full((3,), 0.5), torch.full((3,), 0.25)
    )
    return initialize(model, ctx.generator("init")).eval()


def images(ctx: Context) -> ImageSet:
    draws = ctx.generator("images")
    x = torch.randint(256, (IMAGES, 3, 32, 32), generator=draws).to(torch.uint8)
    return ImageSet(x, torch.arange(IMAGES) % CLASSES, tuple(str(c) for c in range(CLASSES)))


class Loader(list[tuple[Tensor, Tensor]]):
    """Batches as an official loop asks for them."""

    @property
    def dataset(self) -> range:
        return range(sum(len(y) for _, y in self))


def with_norms(model: Classifier, kind: type[nn.BatchNorm2d]) -> Classifier:
    """A copy in which each batch norm is one of the repository's, with the old weights."""
    changed = copy.deepcopy(model)
    for parent in list(changed.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:
                new = kind(norm.num_features)
                new.load_state_dict(norm.state_dict(), strict=False)
                setattr(parent, name, new)
    return changed


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
        own = with_norms(model, kind).requires_grad_(True)
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
        own = with_norms(model, kind).requires_grad_(True)
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
    "PureGen_PoisonDefense": of_puregen,
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
