"""What must hold for every registered victim. A new file in ``models/`` is covered by being there."""

import pytest
import torch
from core_helpers import noise_images

from poisonlab import registry
from poisonlab.models.base import channel_statistics

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
