"""A victim that loads weights is refused, since they would be drawn anew; all registered ones draw theirs."""

import pytest
import torch
from torch import nn

from poisonlab import registry
from poisonlab.models.base import Classifier
from poisonlab.spec.config import Config, VictimPart
from poisonlab.training.own_weights import own_weights, refuse_own_weights


class Pretrained:
    """A network whose first layer is loaded."""

    Config = Config

    def __init__(self, config):
        self.config = config

    def network(self, shape, classes, mean, std):
        body = nn.Sequential(nn.Conv2d(shape[0], 4, 3, padding=1), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        network = Classifier(body, 16, classes, mean, std)
        body[0].load_state_dict({"weight": torch.ones(4, shape[0], 3, 3), "bias": torch.zeros(4)})
        return network


@pytest.fixture
def pretrained(monkeypatch):
    registry.victim["resnet8"]  # all modules are imported
    monkeypatch.setitem(registry.victim._items, "pretrained", Pretrained)
    yield VictimPart.model_validate({"name": "pretrained"})
    refuse_own_weights.cache_clear()


def test_a_victim_that_loads_weights_is_refused_with_their_names(pretrained):
    with pytest.raises(ValueError, match=r"'pretrained' brings weights of its own \(body.0.weight\)"):
        refuse_own_weights(pretrained, (3, 8, 8), 10)


@pytest.mark.parametrize("name", sorted(registry.victim))
def test_every_victim_draws_its_weights(name):
    shape = (3, 16, 16)
    victim = registry.victim[name]
    mean = torch.full((3,), 0.5)
    assert own_weights(lambda: victim(victim.Config()).network(shape, 10, mean, mean)) == []


def test_the_random_state_outside_is_not_touched():
    before = torch.get_rng_state()
    own_weights(lambda: nn.Sequential(nn.Linear(3, 3)))
    assert torch.equal(torch.get_rng_state(), before)
