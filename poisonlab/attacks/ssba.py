"""SSBA: every image carries its own trigger, drawn by a network that hides the same bits in all images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import BackdoorAttack, DirtyLabelConfig
from poisonlab.context import Context
from poisonlab.generative.stegastamp import Decoder, Encoder, bit_accuracy, encode
from poisonlab.measure.metrics import psnr
from poisonlab.models.base import EVALUATION_BATCH, as_floats, initialize
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.loop import batches, fit, steps_in_epoch

FINGERPRINTS = "artificial fingerprints repository"


class SSBAConfig(DirtyLabelConfig):
    bits: int = param(100, "Length of the hidden string", quick=16, ge=1, le=1000, source="BackdoorBench")
    filters: int = param(
        32, "Channels of the encoder's first layer", quick=16, ge=4, le=256, source=FINGERPRINTS
    )
    halvings: int = param(
        4, "How often encoder and decoder halve the resolution", quick=2, ge=1, le=5, source=FINGERPRINTS
    )
    epochs: int = param(
        20,
        "Passes over the training images",
        quick={"*": 2, "digits": 20, "gtsrb": 10},
        ge=1,
        le=1000,
        source=FINGERPRINTS,
    )
    batch_size: int = param(64, "Images in a step", ge=2, le=4096, unit="images", source=FINGERPRINTS)
    lr: float = param(1e-4, "Adam learning rate", quick=2e-3, gt=0, le=1, source=FINGERPRINTS)
    l2_weight: float = param(
        10, "Final weight of the residual's mean square", quick=3, ge=0, source=FINGERPRINTS
    )
    l2_wait: int = param(
        1000,
        "Steps after nine of ten bits are read before it counts",
        quick=0,
        ge=0,
        le=10**6,
        source=FINGERPRINTS,
    )
    l2_ramp: int = param(
        3000, "Steps over which its weight then grows", quick=100, ge=1, le=10**6, source=FINGERPRINTS
    )
    bound: float = param(255, "Largest change of a pixel", quick=48, ge=1, le=255, unit="1/255")


class Objective:
    """BCE(decoder(encoder(x, b)), b) + weight ||encoder(x, b) - x||^2 on average.

    The weight is 0 until the decoder reads nine of ten bits of a batch, and for ``l2_wait`` steps more; then it
    grows in a straight line.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, config: SSBAConfig) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self.config = config
        self.steps_since_read = -1

    def weight(self) -> float:
        cfg = self.config
        return cfg.l2_weight * min(max((self.steps_since_read - cfg.l2_wait) / cfg.l2_ramp, 0.0), 1.0)

    def __call__(self, x: Tensor, bits: Tensor) -> Tensor:
        encoded = self.encoder(x, bits)
        logits = self.decoder(encoded)
        value = F.binary_cross_entropy_with_logits(logits, bits) + self.weight() * F.mse_loss(encoded, x)
        if self.steps_since_read >= 0 or ((logits > 0) == bits.bool()).float().mean() > 0.9:
            self.steps_since_read += 1
        return value


def train_coder(encoder: Encoder, decoder: Decoder, x: Tensor, config: SSBAConfig, ctx: Context) -> None:
    """Train both networks in place, on a fresh random string for each image of each batch.

    Args:
        x: uint8 ``(n, c, h, w)``.
    """
    draws = ctx.generator("ssba", "strings")
    total = config.epochs * steps_in_epoch(len(x), config.batch_size)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=config.lr)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)

    def prepare(index: Tensor) -> tuple[Tensor, Tensor]:
        bits = torch.randint(2, (len(index), config.bits), generator=draws, device=x.device)
        return as_floats(x[index]), bits.float()

    steps = batches(len(x), config.batch_size, config.epochs, ctx.generator("ssba", "batches"))
    fit(nn.Identity(), prepare, Objective(encoder, decoder, config), optimizer, schedule, steps, total, ctx)


@attack("ssba")
class SSBA(BackdoorAttack):
    """Sample-specific backdoor (Li et al. 2021, arXiv:2012.03816, section 4)."""

    Config = SSBAConfig
    card = Card(
        title="Sample-specific backdoor (SSBA)",
        references=(
            Reference(
                authors="Y. Li, Y. Li, B. Wu, L. Li, R. He, S. Lyu",
                title="Invisible Backdoor Attack with Sample-Specific Triggers",
                venue="ICCV",
                year=2021,
                arxiv="2012.03816",
            ),
        ),
        summary="A network hides the same short message in every poisoned image, as faint changes that follow the "
        "image. No two triggers are alike, so a defense cannot count on one fixed pattern.",
        threat_model="Controls a share of the training images and their labels (dirty label); trains a network that "
        "hides messages, but needs no classifier.",
        deviations=(
            "Encoder and decoder follow the artificial fingerprints repository's in outline, as in BackdoorBench: "
            "no perceptual loss, no critic, no simulated printing. The encoder's output is added to the image, through "
            "a tanh that bounds it, and the sum is clipped; there a sigmoid of it is the image.",
            "At 32 x 32 and 100 bits the encoder has 1.28 million weights, there 1.07, the decoder 1.75, there 0.44. "
            "Bits and pixels are centered at 0. The encoder enlarges by 3 x 3 convolutions, there 2 x 2, and lacks the "
            "last of its two convolutions at full size. The decoder halves four times, by pairs of convolutions; there "
            "five times, by seven in all.",
            "The bits are drawn once and are the same in all images; BackdoorBench's released images hide one bit.",
            "The quick preset trains small networks for few passes on 16 bits, with less weight on the residual, most"
            " of which is the same in all images.",
        ),
    )

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        cfg: SSBAConfig = self.config
        train = view.train
        draws = ctx.generator("ssba", "bits")
        bits = torch.randint(2, (cfg.bits,), generator=draws, device=ctx.device).float()
        encoder = self._encoder(train.shape).to(ctx.device)
        decoder = Decoder(train.shape, cfg.bits, cfg.filters, cfg.halvings).to(ctx.device)
        for name, network in (("encoder", encoder), ("decoder", decoder)):
            initialize(network, ctx.generator("ssba", name)).to(memory_format=torch.channels_last)
        train_coder(encoder, decoder, train.x, cfg, ctx)
        shown = train.x[:EVALUATION_BATCH]
        encoded = encode(encoder, shown, bits)
        read = bit_accuracy(decoder, encoded, bits)
        strength = psnr(shown, encoded).mean().item()
        ctx.metric("bit_accuracy", 1, read)
        ctx.metric("psnr", 1, strength)
        ctx.log(f"the decoder reads {read:.1%} of the bits; the residual's PSNR is {strength:.1f} dB")
        return {"bits": bits} | {f"encoder.{name}": value for name, value in encoder.state_dict().items()}

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        c, h, w = x.shape[1:]
        with torch.device("meta"):  # draws no weights: those of the state take their place
            encoder = self._encoder((c, h, w))
        weights = {name.removeprefix("encoder."): value for name, value in state.items() if name != "bits"}
        encoder.load_state_dict(weights, assign=True)
        return encode(encoder.to(memory_format=torch.channels_last), x, state["bits"])

    def _encoder(self, shape: tuple[int, int, int]) -> Encoder:
        cfg = self.config
        return Encoder(shape, cfg.bits, cfg.filters, cfg.halvings, cfg.bound / 255)
