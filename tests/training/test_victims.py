"""Victim networks: published sizes, any side and channel count, and what each family promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from core_helpers import network, noise_images, state_of
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab import registry
from poisonlab.context import Context, derive
from poisonlab.models.base import Classifier, as_floats, initialize, learn_from_images, logits
from poisonlab.models.hyperlight import DiracConv, Whitening
from poisonlab.models.resnet import Strided1x1, projection
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network
from poisonlab.types import ImageSet

ROOT = Path(__file__).resolve().parents[2]
SHAPES = [(1, 16, 16), (3, 16, 16), (3, 32, 32), (3, 64, 64)]
# parameters at ten classes and 3 channels, and features
SIZES = {
    "resnet18": (11_173_962, 512),
    "resnet34": (21_282_122, 512),
    "mobilenetv2": (2_296_922, 1280),
    "densenet121": (6_956_298, 1024),
    "hyperlight": (1_972_816 + 10 - 1_176, 256),  # and the bias of the head; scales of norms are fixed
    "preact_resnet18": (11_171_146, 512),
    "vgg19_bn": (20_040_522, 512),
}
SMALL = {
    "resnet34": {
        "width": 16
    },  # fewer crash torch 2.15 at 64 pixels: oneDNN, strided 1x1 convolutions, channels last
    "mobilenetv2": {"width": 0.25},
    "densenet121": {"growth": 4},
    "hyperlight": {"first": 8, "others": 16},
    "preact_resnet18": {"width": 16},
    "vgg19_bn": {"width": 8},
}

every_new_victim = pytest.mark.parametrize("name", SMALL)


def untrained(
    name: str, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10, **params: float
) -> Classifier:
    method = registry.victim[name]
    made: Classifier = method(method.Config(**params)).network(
        shape, classes, torch.zeros(shape[0]), torch.ones(shape[0])
    )
    return made


@pytest.mark.parametrize("name", SIZES)
def test_a_victim_has_its_published_parameters_and_features(name: str) -> None:
    model = untrained(name)

    assert (sum(p.numel() for p in model.parameters()), model.head.in_features) == SIZES[name]


def test_the_medium_preset_of_hyperlight_has_its_published_parameters() -> None:
    model = untrained("hyperlight", first=128, others=384)

    assert sum(p.numel() for p in model.parameters()) == 4_606_544 + 10 - 1_816  # the norms' scales are fixed


@every_new_victim
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_victim_keeps_channels_last_at_every_side_and_sends_gradients_to_the_image(
    name: str, shape: tuple[int, int, int]
) -> None:
    model = untrained(name, shape, classes=7, **SMALL[name]).to(memory_format=torch.channels_last)
    initialize(model, derive(0, "init")).eval()
    seen: list[bool] = []

    def look(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        if min(out.shape[1:]) > 1:  # one place or one channel is in any order
            seen.append(out.is_contiguous(memory_format=torch.channels_last))

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(look)
    x = torch.rand(2, *shape).to(memory_format=torch.channels_last).requires_grad_()
    model(x).sum().backward()

    assert seen and all(seen)
    assert x.grad is not None and bool((x.grad != 0).any())


@pytest.mark.parametrize(
    "name", ["mobilenetv2", "densenet121", "hyperlight"]
)  # resnet34 has resnet8's blocks
def test_a_victim_learns_what_brightness_tells(name: str) -> None:
    data = noise_images(40, (3, 16, 16))
    model = network(data, name, **SMALL[name])
    recipe = TrainingConfig(
        epochs=12, batch_size=14, lr=0.05, schedule="one_cycle", weight_decay=0.0, crop_padding=0, flip=False
    )
    train_network(model, data, recipe, Context())

    with torch.inference_mode():
        found = model(data.x.float() / 255).argmax(1)
    assert (found == data.y).float().mean() > 0.6


@every_new_victim
def test_the_same_draws_give_the_same_start(name: str) -> None:
    data = noise_images(8, (3, 16, 16))
    first, again, other = (state_of(network(data, name, seed, **SMALL[name])) for seed in (0, 0, 1))

    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_a_block_of_mobilenet_that_keeps_its_shape_adds_to_its_input() -> None:
    model = untrained("mobilenetv2", **SMALL["mobilenetv2"]).eval()
    block = next(m for m in model.body if getattr(m, "keeps_side", False) and not len(m.shortcut))
    nn.init.zeros_(block.bn3.weight)
    x = torch.randn(2, block.conv1.in_channels, 4, 4)

    assert torch.equal(block(x), x)


def test_a_layer_of_densenet_hands_on_all_that_came_before() -> None:
    model = untrained("densenet121", **SMALL["densenet121"]).eval()
    layer = model.body[1]
    x = torch.randn(2, 8, 4, 4)

    assert layer(x).shape == (2, 12, 4, 4) and torch.equal(layer(x)[:, 4:], x)


def test_hyperlight_starts_as_the_identity_and_learns_no_scales() -> None:
    model = network(noise_images(8, (3, 16, 16)), "hyperlight", **SMALL["hyperlight"])
    last = [m for m in model.modules() if isinstance(m, DiracConv)][-1]
    x = torch.randn(2, last.in_channels, 5, 5)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]

    assert torch.allclose(last(x), x, atol=1e-6)
    assert len(norms) == 7 and all(m.bias.requires_grad for m in norms)
    model.requires_grad_(True)  # as a repair does
    assert not any(m.weight.requires_grad for m in norms)


def test_the_pieces_of_an_evaluation_change_no_logit() -> None:
    images = noise_images(300, (3, 16, 16))
    model = network(images)

    with torch.inference_mode():
        at_once = model(as_floats(images.x))

    assert torch.equal(logits(model, images.x), at_once)


def test_an_image_too_small_for_hyperlight_is_refused_with_its_side() -> None:
    assert untrained("hyperlight", (1, 9, 9)).eval()(torch.rand(2, 1, 9, 9)).shape == (2, 10)
    with pytest.raises(ValueError, match="images of side 9 or more, got 8x8"):
        untrained("hyperlight", (1, 8, 8))


def test_a_narrow_projection_gives_what_a_strided_convolution_gives() -> None:
    layer = projection(8, 12, 2)
    x = torch.randn(3, 8, 7, 7, generator=derive(0, "x"))

    assert isinstance(layer, Strided1x1) and not isinstance(projection(16, 32, 2), Strided1x1)
    assert torch.allclose(layer(x), F.conv2d(x, layer.weight, stride=2), atol=1e-6)


@pytest.mark.slow
def test_a_narrow_network_learns_on_two_threads() -> None:
    """In a process of its own: oneDNN's strided kernel ended it, within three epochs."""
    code = """
from poisonlab.context import Context
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import make_spec
small = {"dataset.train_images": 120, "dataset.test_images": 60, "training.epochs": 3, "victim.width": 8}
for seed in range(3):
    run_experiment(make_spec("digits", "label_noise", "none", seed=seed, overrides=small), Context())
"""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}

    ended = subprocess.run([sys.executable, "-c", code], env=environment, check=False)

    assert ended.returncode == 0


def test_whitened_patches_are_uncorrelated_and_of_variance_one() -> None:
    images = smooth_photographs()
    model = network(images, "hyperlight", whitening=True, **SMALL["hyperlight"])
    learn_from_images(model, images.x)
    layer = next(m for m in model.modules() if isinstance(m, Whitening))
    out = layer(model.normalize(as_floats(images.x)))[:, :12].transpose(0, 1).flatten(1)
    covariance = out @ out.T / out.shape[1]

    large = covariance.diagonal() > 0.9  # directions whose variance is far above what is added to it
    assert int(large.sum()) >= 6 and not layer.weight.requires_grad
    assert torch.allclose(covariance[large][:, large], torch.eye(int(large.sum())), atol=0.05)
    assert torch.equal(layer.weight[:12], -layer.weight[12:])


def smooth_photographs() -> ImageSet:
    """Noise whose neighboring pixels are alike, as those of photographs are."""
    coarse = torch.rand(200, 3, 8, 8, generator=derive(0, "coarse"))
    x = F.interpolate(coarse, size=(16, 16), mode="bilinear") * 200 + 20 * torch.rand(
        200, 3, 16, 16, generator=derive(0, "fine")
    )
    return ImageSet(x.to(torch.uint8), torch.arange(200) % 10, tuple("abcdefghij"))
