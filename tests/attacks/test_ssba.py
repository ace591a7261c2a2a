"""What is special about SSBA: bits that can be read back, a bounded residual that follows the image."""

import functools

import pytest
import torch
from core_helpers import attackers_view, digits, listening, small
from torch import Tensor

from poisonlab.attacks.ssba import SSBA, Objective, SSBAConfig
from poisonlab.context import Context
from poisonlab.events import Metric
from poisonlab.generative.stegastamp import Decoder, Encoder, encode
from poisonlab.models.base import initialize

ATTACK = SSBA(
    SSBAConfig(
        bits=8,
        filters=8,
        halvings=2,
        epochs=15,
        batch_size=10,
        lr=4e-3,
        l2_weight=3,
        l2_wait=0,
        l2_ramp=50,
        bound=40,
        poison_rate=0.1,
    )
)


@functools.cache
def learned() -> tuple[dict[str, Tensor], dict[str, float]]:
    """What the attack learns from digits, and the last value of each of its metrics."""
    ctx, heard = listening()
    state = ATTACK.learn(attackers_view(), ctx)
    return state, {e.name: e.value for e in heard if isinstance(e, Metric)}


def residual(x: Tensor) -> Tensor:
    return ATTACK.trigger(x, learned()[0]).int() - x.int()


def test_the_decoder_reads_the_bits() -> None:
    assert learned()[1]["bit_accuracy"] > 0.9


def test_the_residual_is_bounded_and_its_strength_is_reported() -> None:
    changes = residual(digits().train.x)
    error = changes.float().square().flatten(1).mean(1)

    assert 0 < int(changes.abs().max()) <= 40
    assert learned()[1]["psnr"] == pytest.approx(float((10 * torch.log10(255**2 / error)).mean()), abs=1e-3)


def test_the_residual_differs_between_images_and_depends_on_nothing_else() -> None:
    x = digits().test.x[:10]
    changes = residual(x)

    assert len(changes.flatten(1).unique(dim=0)) == 10
    assert torch.equal(changes[3:5], residual(x[3:5]))


def test_other_bits_change_the_image_otherwise() -> None:
    encoder = initialize(Encoder((3, 16, 12), 8, 4, 2, 0.1), Context().generator("init"))
    x = torch.full((2, 3, 16, 12), 100, dtype=torch.uint8)

    assert not torch.equal(encode(encoder, x, torch.ones(8)), encode(encoder, x, torch.zeros(8)))


@pytest.mark.parametrize("mapping", ["all_to_one", "all_to_all"])
def test_poisoned_images_carry_the_trigger_and_the_attackers_label(mapping: str) -> None:
    attack, train = small(SSBA, mapping=mapping, target_class=3), digits().train
    made = attack.poison(attackers_view(), Context())
    given = train.y[made.index[0]]

    assert torch.equal(made.images[0], attack.trigger(train.x[made.index[0]], made.state))
    assert torch.equal(
        made.labels[0], (given + 1) % 10 if mapping == "all_to_all" else torch.full_like(given, 3)
    )


def test_the_weight_of_the_residual_waits_until_bits_are_read_and_then_grows() -> None:
    config = SSBAConfig(bits=4, l2_weight=10, l2_wait=2, l2_ramp=4)
    read = [False, True, True, True, True, True, False, True, True, True]
    bits = torch.ones(3, 4)
    answers = iter(bits if right else -bits for right in read)
    objective = Objective(lambda x, bits: x, lambda x: next(answers), config)  # type: ignore[arg-type]
    weights = []
    for _ in read:
        weights.append(objective.weight())
        objective(torch.zeros(3, 1, 2, 2), bits)

    assert weights == [0, 0, 0, 0, 0, 2.5, 5, 7.5, 10, 10]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 5), (3, 32, 32)], ids=str)
def test_encoder_and_decoder_take_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    x, bits = torch.rand(2, *shape), torch.ones(2, 5)
    encoded = Encoder(shape, 5, 4, 4, 0.1)(x, bits)

    assert encoded.shape == x.shape and float((encoded - x).detach().abs().max()) <= 0.1 + 1e-6
    assert Decoder(shape, 5, 4, 4)(encoded).shape == bits.shape
