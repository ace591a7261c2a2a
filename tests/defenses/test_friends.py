"""Friendly noise: within its bound, harmless to the answer, made once; fresh noise of the promised size."""

import pytest
import torch
from core_helpers import clean_model, derive, digits, network
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.friends import FriendlyNoise, FriendsConfig, friendly_noise
from poisonlab.models.base import accuracy
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network
from poisonlab.types import ImageSet


def noise_of(**values: float) -> tuple[Tensor, Tensor]:
    """Digits and their friendly noise."""
    x = digits().train.x[:60].float() / 255
    return x, friendly_noise(clean_model(), x, FriendsConfig(**values), derive(0, "friends"))


def test_noise_keeps_its_bound_and_the_answers() -> None:
    x, eta = noise_of()
    model = clean_model()

    assert float(eta.abs().max()) <= 16 / 255 + 1e-6
    with torch.inference_mode():
        same = model((x + eta).clamp(0, 1)).argmax(1) == model(x).argmax(1)
    assert float(same.float().mean()) >= 0.9


def test_more_weight_on_size_makes_more_noise() -> None:
    sizes = [float(noise_of(mu=mu)[1].square().mean()) for mu in (0, 16, 200)]

    assert sizes == sorted(sizes) and sizes[-1] > 1.2 * sizes[0]


def test_optimized_noise_disturbs_less_than_equally_large_random_noise() -> None:
    x, eta = noise_of()
    model = clean_model()
    shuffled = eta[:, :, torch.randperm(16, generator=derive(0, "rows"))]

    def divergence(noise: Tensor) -> float:
        with torch.inference_mode():
            p, q = model(x).log_softmax(1), model((x + noise).clamp(0, 1)).log_softmax(1)
        return float((p.exp() * (p - q)).sum(1).mean())

    assert divergence(eta) < divergence(shuffled)


def test_images_do_not_see_each_other() -> None:
    x = digits().train.x[:4].float() / 255
    config = FriendsConfig(steps=5)
    pair = friendly_noise(clean_model(), x[:2], config, derive(0, "a"))
    alone = friendly_noise(clean_model(), x[:1], config, derive(0, "a"))

    assert torch.allclose(pair[:1], alone, atol=1e-5)


class Watched(FriendlyNoise):
    """Remembers the set of each epoch."""

    def begin(self, model: torch.nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        super().begin(model, data, steps_an_epoch, epochs)
        self.sets: list[ImageSet] = []

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        self.sets.append(super().epoch(number, data))
        assert self.model.training and all(p.requires_grad for p in self.model.parameters())
        return self.sets[-1]


def test_noise_is_made_once_and_training_still_learns() -> None:
    data, recipe = digits().train, TrainingConfig(epochs=8, batch_size=20, schedule="one_cycle", flip=False)
    hook, model = Watched(FriendsConfig(epoch=4), Context()), network(data, width=8)
    before = data.x.clone()

    train_network(model, data, recipe, Context(), hook)

    plain, last = hook.sets[3], hook.sets[-1]
    assert plain is data and hook.sets[4] is last and torch.equal(data.x, before)
    assert 0 < int((last.x.int() - data.x.int()).abs().max()) <= 16
    assert torch.equal(last.y, data.y) and accuracy(model, data.x, data.y) > 0.4


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "none"])
def test_fresh_noise_has_its_size_and_is_drawn_anew(kind: str) -> None:
    hook = FriendlyNoise(FriendsConfig(noise=kind), Context())
    hook.begin(network(digits().train), digits().train, 1, 10)
    x = torch.full((50, 1, 16, 16), 0.5)
    first, second = (hook.batch(x, torch.zeros(50), torch.arange(50))[0] - x for _ in range(2))

    assert torch.equal(first, second) == (kind == "none")
    assert float(first.std()) == pytest.approx(0 if kind == "none" else 8 / 255, rel=0.05, abs=1e-6)
    if kind == "bernoulli":
        assert torch.allclose(first.abs(), torch.tensor(8 / 255), atol=1e-6)


def test_a_start_after_the_last_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="epoch=9 leaves none of the 4 epochs"):
        FriendlyNoise(FriendsConfig(epoch=9), Context()).begin(network(digits().train), digits().train, 1, 4)
