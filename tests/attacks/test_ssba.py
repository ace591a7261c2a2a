"""What is special about SSBA: bits that can be read back, a bounded residual that follows the image."""

import functools

import pytest
import torch
from core_helpers import attackers_view, digits, listening, noise_images, small
from torch import Tensor, nn

from poisonlab.attacks.ssba import SSBA, Objective, SSBAConfig, train_coder
from poisonlab.context import Context, derive
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


# SCLBD/BackdoorBench @ f02e353, resource/ssba/train.py:238-310, in float64, on the encoder and decoder below:
# the loss of 16 steps. From the eighth on nine of ten bits are read; the residual weighs 10/3, 20/3 and then 10.
PUBLISHED_LOSSES = [
    *[
        0.6084468626,
        0.6812568748,
        0.6139139329,
        0.8910751302,
        0.5766631276,
        0.7044114753,
        0.5483531932,
        0.4441030867,
    ],
    *[
        0.4098709158,
        0.4029663244,
        0.4565487388,
        0.6787663938,
        0.7303558622,
        0.7547252016,
        0.6754102291,
        0.7262681554,
    ],
]


class LinearEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 16)

    def forward(self, x: Tensor, bits: Tensor) -> Tensor:
        return x + 0.3 * torch.tanh(self.layer(bits - 0.5)).view_as(x)


class LinearDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer((x - 0.5).flatten(1))
        return logits


def test_encoder_and_decoder_are_trained_as_in_backdoorbench() -> None:
    encoder, decoder, draws = LinearEncoder(), LinearDecoder(), derive(0, "ssba published")
    with torch.no_grad():
        for weight in [*encoder.parameters(), *decoder.parameters()]:
            weight.copy_(2 * torch.rand(weight.shape, generator=draws, dtype=torch.float64) - 1)
    config = SSBAConfig(bits=4, epochs=16, batch_size=6, lr=0.1, l2_weight=10, l2_wait=1, l2_ramp=3)
    ctx, heard = listening()

    train_coder(encoder, decoder, noise_images(6, (1, 4, 4), 3).x, config, ctx)  # type: ignore[arg-type]

    assert [e.value for e in heard if isinstance(e, Metric)] == pytest.approx(PUBLISHED_LOSSES, rel=1e-5)
