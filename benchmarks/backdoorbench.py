"""BackdoorBench's FT-SAM, Neural Cleanse and CLP beside the product's, for ``benchmarks/peers.py``."""

import contextlib
import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.lifted import CLASSES, IMAGES, STEPS, Drawn, Loader, Pair, flat, lift, quiet, weights
from poisonlab.context import Context
from poisonlab.defenses import clp
from poisonlab.defenses.ft_sam import SharpnessAware, over_all_classes
from poisonlab.defenses.shared.trigger_search import SearchConfig, search
from poisonlab.models.base import Classifier, as_floats
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network
from poisonlab.types import ImageSet

RHO = 2.0
SMOOTHING = 0.1
# Both are reached, so that both sides keep the same round. The product searches them together, the repository in turn.
SEARCHED = (4, 9)
CUT = 1.0  # standard deviations; at the paper's three hardly a layer of 16 channels loses one


def of_backdoorbench(folder: Path, model: Classifier, data: ImageSet) -> list[Pair]:
    return [
        ft_sam(folder, model, data),
        neural_cleanse(folder, model, data),
        channel_lipschitzness(folder, model, data),
    ]


def ft_sam(folder: Path, model: Classifier, data: ImageSet) -> Pair:
    space = _of_sam(folder)
    recipe = TrainingConfig(
        epochs=STEPS,
        batch_size=IMAGES,
        lr=0.01,
        nesterov=False,
        weight_decay=5e-4,
        schedule="constant",
        label_smoothing=over_all_classes(SMOOTHING, CLASSES),
        crop_padding=0,
        flip=False,
    )

    def product() -> Tensor:
        own = copy.deepcopy(model).requires_grad_(True)
        train_network(own, data, recipe, Context(), SharpnessAware(RHO))
        return weights(own)

    def official() -> Tensor:
        own = copy.deepcopy(model).requires_grad_(True)
        plain = torch.optim.SGD(own.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=5e-4)
        constant = torch.optim.lr_scheduler.ConstantLR(plain, factor=1.0)
        radius = space["ProportionScheduler"](constant, recipe.lr, 0.0, max_value=RHO, min_value=RHO)
        aware = space["SAM"](own.parameters(), plain, own, 0.0, radius, adaptive=True)
        numbers = SimpleNamespace(device="cpu", label_smoothing=SMOOTHING, print_freq=STEPS + 2)
        steps = Loader([(as_floats(data.x), data.y)] * STEPS)
        space["_train_sam"](None, numbers, steps, own, aware, constant, None, 1)
        return weights(own)

    return Pair("FT-SAM, fine-tuning", product, official, weights(model))


def _of_sam(folder: Path) -> dict[str, Any]:
    """The optimizer and all that it calls, which lie in four files."""
    path = folder / "utils" / "defense_utils" / "sam"
    names = ["enable_running_stats", "disable_running_stats", "smooth_crossentropy"]
    space = lift(path / "util.py", names, _BatchNorm=nn.modules.batchnorm._BatchNorm)
    space |= lift(path / "scheduler.py", ["ProportionScheduler"])
    space |= {"contextlib": contextlib, "ReduceOp": torch.distributed.ReduceOp, "logging": logging}
    space = lift(path / "sam.py", ["SAM"], **space)
    return lift(folder / "defense" / "ft-sam.py", ["_train_sam", "AverageMeter"], **space)


def neural_cleanse(folder: Path, model: Classifier, data: ImageSet) -> Pair:
    """Few rounds: Adam lets rounding grow. The product's time includes a last pass over all images, for the share that
    a trigger sends to its class; of a search of full length it is next to nothing.
    """
    config = SearchConfig(rounds=6, steps=3, patience=2)
    names = ["RegressionModel", "Recorder", "train_mask", "train_step"]
    numbers = SimpleNamespace(
        device="cpu",
        model=None,
        num_classes=CLASSES,
        dataset="gtsrb",  # the one without a normalizer: that is a layer of our network
        EPSILON=0.0,
        mask_lr=config.search_lr,
        nc_epoch=config.rounds,
        use_norm=1,
        atk_succ_threshold=100 * config.success,
        init_cost=config.cost,
        cost_multiplier=config.cost_factor,
        patience=config.patience,
        early_stop=False,
    )
    network = copy.deepcopy(model).requires_grad_(False)
    space = lift(
        folder / "defense" / "nc.py",
        names,
        args=numbers,
        generate_cls_model=lambda *rest: network,
        print=quiet,
    )
    space["Recorder"].save_result_to_dir = quiet  # pictures

    def begin() -> tuple[torch.Generator, Tensor]:
        """The draws, and the start of every class, as the product has them."""
        draws = Context().generator("trigger search")
        channels, height, width = data.shape
        return draws, torch.rand(channels + 1, height, width, generator=draws)

    def product() -> Tensor:
        found = search(network, data, torch.tensor(SEARCHED), config, Context())
        return flat([found.masks, found.patterns])

    def official() -> Tensor:
        best = []
        for label in SEARCHED:
            draws, start = begin()
            z = torch.atanh((start - 0.5) * 1.98).numpy()

            def rows(draws: torch.Generator = draws) -> Iterator[Tensor]:
                for _ in range(config.steps):
                    yield torch.randint(IMAGES, (config.search_batch,), generator=draws)

            numbers.target_label = label
            result = {"model": network.state_dict()}
            steps = Drawn(data, config.steps, rows)
            best.append(space["train_mask"](numbers, result, steps, z[:1], z[1:])[0])
        return flat([each.mask_best for each in best] + [each.pattern_best for each in best])

    start = (begin()[1] - 0.5) * 0.99 + 0.5
    return Pair(
        "Neural Cleanse", product, official, flat([start[:1]] * len(SEARCHED) + [start[1:]] * len(SEARCHED))
    )


def channel_lipschitzness(folder: Path, model: Classifier, data: ImageSet) -> Pair:
    prune = lift(folder / "defense" / "clp.py", ["CLP_prune"])["CLP_prune"]
    trained = copy.deepcopy(model).requires_grad_(False)
    draws = Context().generator("norms")
    for norm in trained.modules():
        if isinstance(norm, nn.BatchNorm2d):  # untrained ones would all be alike
            for values in (norm.weight, norm.bias, norm.running_var):
                values.uniform_(0.5, 2, generator=draws)

    def product() -> Tensor:
        return weights(clp.CLP(clp.CLPConfig(u=CUT)).repair(trained, data, Context()).model(trained))

    def official() -> Tensor:
        own = copy.deepcopy(trained)
        prune(own, CUT)
        return weights(own)

    return Pair("CLP, pruned weights", product, official, weights(trained))
