"""What must hold for every registered victim. A new file in ``models/`` is covered by being there."""

import copy

import pytest
import torch
from core_helpers import noise_images, state_of

from poisonlab import registry
from poisonlab.models.base import channel_statistics, initialize, learn_from_images, logits
from poisonlab.spec.config import Preset

SHAPES = [(1, 16, 16), (3, 16, 16), (3, 32, 32)]
every_victim = pytest.mark.parametrize("name", list(registry.victim))


@every_victim
def test_a_victim_takes_gray_and_colored_images_of_both_sizes(name: str) -> None:
    method = registry.victim[name]
    for shape in SHAPES:
        mean, std = channel_statistics(noise_images(8, shape).x)
        model = method(method.Config.for_preset("quick", "digits")).network(shape, 7, mean, std).eval()
        x = torch.rand(2, *shape)

        with torch.inference_mode():
            features, logits = model.features(x), model(x)
            from_features = model.head(features) * model.logit_scale

        assert logits.shape == (2, 7) and features.shape == (2, model.head.in_features), shape
        assert torch.equal(logits, from_features), shape


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_173_962), ("resnet8", 78_042)])
def test_victim_has_the_published_size(name: str, parameters: int) -> None:
    method = registry.victim[name]
    model = method(method.Config()).network((3, 32, 32), 10, torch.zeros(3), torch.ones(3))

    assert sum(p.numel() for p in model.parameters()) == parameters


def test_resnet8_has_336_batch_norm_channels() -> None:
    method = registry.victim["resnet8"]
    model = method(method.Config()).network((3, 32, 32), 10, torch.zeros(3), torch.ones(3))

    assert sum(m.num_features for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)) == 336


@every_victim
@pytest.mark.parametrize("preset", ["quick", "full"])
def test_drawn_anew_a_victim_keeps_what_it_took_from_the_training_images_and_tells_images_apart(
    name: str, preset: Preset
) -> None:
    """As detectors, repairs and attacks draw the networks that they train themselves."""
    method = registry.victim[name]
    data = noise_images(20, (3, 16, 16))
    model = method(method.Config.for_preset(preset, "cifar10")).network(
        (3, 16, 16), 7, *channel_statistics(data.x)
    )
    initialize(model, torch.Generator().manual_seed(0))
    learn_from_images(model, data.x)
    before = state_of(model)
    taken = [n for n, module in model.named_modules() if hasattr(module, "learn")]

    anew = initialize(copy.deepcopy(model), torch.Generator().manual_seed(1)).eval()

    assert all(torch.equal(anew.get_buffer(f"{n}.weight"), before[f"{n}.weight"]) for n in taken)
    assert float(logits(anew, data.x).std(0).max()) > 1e-6
