"""Input-aware dynamic backdoor: a network draws another trigger for every image."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import SPARES_THE_TARGET, BackdoorAttack, DirtyLabelConfig
from poisonlab.attacks.shared.batch_poisoning import BatchPoisoning
from poisonlab.attacks.shared.pixels import to_bytes
from poisonlab.context import Context
from poisonlab.models.base import EVALUATION_BATCH, Normalize, as_floats, channel_statistics, initialize
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import TrainingHook, backward, batches, fit, steps_in_epoch
from poisonlab.training.optimizers import falling
from poisonlab.types import ImageSet, Poison

REPOSITORY = "input-aware repository"


class IABConfig(DirtyLabelConfig):
    cross_rate: float = param(
        0.1,
        "Share of each batch that gets another image's trigger and keeps its label",
        quick={"*": 0.03, "digits": 0.02},
        gt=0,
        le=0.5,
        source=REPOSITORY,
    )
    mask_density: float = param(
        0.032,
        "How much of the image the mask may cover",
        quick={"*": 0.032, "digits": 0.1},
        gt=0,
        le=1,
        source=REPOSITORY,
    )
    mask_weight: float = param(
        100, "Weight of the mask's density against its diversity", ge=0, source=REPOSITORY
    )
    mask_epochs: int = param(
        25, "Passes that train the mask", quick={"*": 6, "cifar10": 2}, ge=1, le=1000, source=REPOSITORY
    )
    diversity: float = param(
        1, "Weight of the patterns' diversity in the victim's loss", quick=0.2, ge=0, source=REPOSITORY
    )
    width: int = param(
        32, "Channels of the generator's first stage", quick=8, ge=2, le=128, source=REPOSITORY
    )
    lr: float = param(0.01, "Adam learning rate of mask and generator", gt=0, le=1, source=REPOSITORY)
    batch_size: int = param(
        128,
        "Images in a step of the mask's training",
        quick={"*": 32, "cifar10": 128},
        ge=4,
        le=4096,
        source=REPOSITORY,
    )


def conv(inputs: int, outputs: int, relu: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs, momentum=0.05)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of ``(n, c, h, w)`` as two matrix products: its gradient is repeatable on GPUs, too."""
    rows, columns = (
        F.interpolate(torch.eye(old, device=x.device)[None], size=new, mode="linear")[0]
        for old, new in zip(x.shape[-2:], size, strict=True)
    )
    return rows.T @ x @ columns


class EncoderDecoder(nn.Module):
    """Float images ``(n, c, h, w)`` in [0, 1] -> maps ``(n, outputs, h, w)`` in [0, 1], by tanh(z) / 2 + 1/2."""

    def __init__(self, channels: int, outputs: int, w: int, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.down = nn.ModuleList(
            nn.Sequential(conv(i, o), conv(o, o)) for i, o in ((channels, w), (w, 2 * w), (2 * w, 4 * w))
        )
        self.middle = conv(4 * w, 4 * w)
        self.up = nn.ModuleList(
            [
                nn.Sequential(conv(4 * w, 4 * w), conv(4 * w, 2 * w)),
                nn.Sequential(conv(2 * w, 2 * w), conv(2 * w, w)),
                nn.Sequential(conv(w, w), conv(w, outputs, relu=False)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.normalize(x)
        sizes: list[tuple[int, int]] = []
        for block in self.down:
            x = block(x)
            height, width = x.shape[-2:]
            sizes.append((height, width))
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for block in self.up:
            x = block(enlarge(x, sizes.pop()))
        return torch.tanh(x) / 2 + 0.5


def sharpened(z: Tensor) -> Tensor:
    """A mask that is nearly 0 or 1: m = tanh(20 z - 10) / 2 + 1/2."""
    return torch.tanh(20 * z - 10) / 2 + 0.5


def paint(x: Tensor, pattern: Tensor, mask: Tensor) -> Tensor:
    """x' = x + (p - x) m."""
    return x + (pattern - x) * mask


def sameness(x1: Tensor, x2: Tensor, out1: Tensor, out2: Tensor) -> Tensor:
    """mean ||x1 - x2|| / (||out1 - out2|| + 1e-7) in root mean squares: large where unlike images get like outputs."""

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b).square().flatten(1).mean(1) + 1e-12).sqrt()  # without it, 0 has no gradient

    return (distance(x1, x2) / (distance(out1, out2) + 1e-7)).mean()


def train_mask(network: EncoderDecoder, data: ImageSet, config: IABConfig, ctx: Context) -> None:
    """Minimize  weight mean relu(m - density) + sameness  in place: small masks that differ from image to image."""
    total = config.mask_epochs * steps_in_epoch(len(data), config.batch_size)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr, betas=(0.5, 0.9))
    schedule = falling(optimizer, "0.4, 0.8", total)

    def prepare(index: Tensor) -> tuple[Tensor, Tensor]:
        x = as_floats(data.x[index])
        return x, network.normalize(x)

    def loss(z: Tensor, x: Tensor) -> Tensor:
        mask = sharpened(z.float())
        covered = F.relu(mask - config.mask_density).mean()
        return config.mask_weight * covered + sameness(x, x.roll(1, 0), mask, mask.roll(1, 0))

    steps = batches(len(data), config.batch_size, config.mask_epochs, ctx.generator("iab", "mask batches"))
    network.train()
    fit(network, prepare, loss, optimizer, schedule, steps, total, ctx)
    network.eval().requires_grad_(False)


class JointTraining(BatchPoisoning):
    """Generator G and victim f learn together; a false trigger is the one that belongs to another image:

    min over f, G of  L(f(x'), y') + diversity mean ||x1 - x2|| / ||G(x1) - G(x2)||.
    """

    def __init__(self, attack: "IAB", poison: Poison, ctx: Context) -> None:
        super().__init__(attack, poison, attack.config.cross_rate, ctx)
        self.config = attack.config

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        super().begin(model, data, steps_an_epoch, epochs)
        self.generator, self.mask = networks(self.config, self.poison.state)
        self.generator.train().requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=self.config.lr, betas=(0.5, 0.9))
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps_an_epoch * epochs)

    def checkpoint(self) -> Checkpoint:
        learned = self.generator.state_dict()
        return Checkpoint(learned, self.optimizer, schedule=self.schedule, beside=super().checkpoint())

    def paste(self, x: Tensor, decoys: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        k = len(x)
        sources = torch.cat([x, others])
        patterns = self.generator(sources)
        masks = sharpened(self.mask(sources))
        n = min(k, len(others))
        pairs = sources[:n], sources[k : k + n], patterns[:n], patterns[k : k + n]
        self.sameness = sameness(*pairs) if n else x.new_zeros(())
        return paint(x, patterns[:k], masks[:k]), paint(decoys, patterns[k:], masks[k:])

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        diversity: float = self.config.diversity
        return super().loss(logits, y, label_smoothing) + diversity * self.sameness

    def backward(self, model: nn.Module, forward: Callable[[], Tensor]) -> Tensor:
        self.optimizer.zero_grad()
        loss = backward(forward)
        self.optimizer.step()
        self.schedule.step()
        return loss

    def learned(self) -> dict[str, Tensor]:
        return flat("generator", self.generator)


def flat(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value.detach() for name, value in network.state_dict().items()}


def networks(config: IABConfig, state: dict[str, Tensor]) -> list[EncoderDecoder]:
    """Generator and mask network with the weights in ``state``, in eval mode."""
    built = []
    for prefix in ("generator.", "mask."):
        weights = {
            name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
        }
        mean = weights["normalize.mean"].flatten()
        std = weights["normalize.std"].flatten()
        outputs = len(mean) if prefix == "generator." else 1
        network = EncoderDecoder(len(mean), outputs, config.width, mean, std)
        network.load_state_dict(weights)
        built.append(network.to(mean.device).eval().requires_grad_(False))
    return built


@attack("iab")
class IAB(BackdoorAttack):
    """Input-aware dynamic backdoor (Nguyen and Tran, NeurIPS 2020, arXiv:2010.08138, section 3)."""

    Config = IABConfig
    card = Card(
        title="Input-aware dynamic backdoor (IAB)",
        references=(
            Reference(
                authors="T. A. Nguyen, A. T. Tran",
                title="Input-Aware Dynamic Backdoor Attack",
                venue="NeurIPS",
                year=2020,
                arxiv="2010.08138",
            ),
        ),
        summary="A second network paints a trigger of its own into each image, at places that a third one chooses. The "
        "trigger of one image does not work on another, so there is no single pattern that a defense could find.",
        threat_model="Controls the victim's training: trains the trigger's generator together with the victim, poisons "
        "other images in every batch and relabels them (dirty label).",
        deviations=(
            "The generator's gradient is zeroed at each step; in the repository it adds up.",
            "The generator's learning rate falls along half a cosine, the mask's at 2/5 and 4/5 of its training; the "
            "repository's steps are counted in epochs of a longer training.",
            "Pairs of different images come from one batch, and the generator sees both in one pass; the repository "
            "loads a second batch.",
            "Distances between images and between patterns are those of [0, 1]; the repository's are normalized, "
            "which leaves their ratio as it is but for unlike channels. The mask's loss takes normalized images.",
            "A distance is the root of the mean square plus 1e-12. In the repository it is the root alone, whose "
            "gradient is not a number where two patterns or masks are equal.",
            "The mask is trained on the images as they are; the repository pads and crops, rotates and mirrors them, "
            "and shows each batch to the mask three times, so that its batch norms' statistics move thrice a step.",
            "Shares of a batch are rounded: of 128 images 13 carry the trigger and 13 a false one, in the repository "
            "12 and 12.",
            "The victim is trained by the common recipe; the repository takes 600 epochs, BackdoorBench 100.",
            SPARES_THE_TARGET.format("the repository"),
            "Defenses that train anew get a fixed share of images with the final trigger, without cross samples.",
            "The quick preset shows far fewer cross samples, and weighs diversity less: a small network trained for a "
            "few epochs cannot tell whose trigger it sees. Another image's trigger often works there, too. On digits "
            "the mask may cover three times as much.",
            "All-to-all needs a poison_rate of 0.3 in the quick preset and costs clean accuracy.",
        ),
    )

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        """The trained mask, and the generator as drawn: it is trained with the victim."""
        train = view.train
        channels = train.shape[0]
        mean, std = channel_statistics(train.x)
        state: dict[str, Tensor] = {}
        for name, outputs in (("generator", channels), ("mask", 1)):
            network = EncoderDecoder(channels, outputs, self.config.width, mean, std).to(ctx.device)
            initialize(network, ctx.generator("iab", name))
            if name == "mask":
                train_mask(network, train, self.config, ctx)
            state |= flat(name, network)
        return state

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        generator, mask = networks(self.config, state)

        def painted(part: Tensor) -> Tensor:
            x = as_floats(part)
            return to_bytes(paint(x, generator(x), sharpened(mask(x))))

        with torch.inference_mode():
            parts = [painted(part) for part in x.split(EVALUATION_BATCH)]
        return torch.cat(parts).clone().contiguous()

    def training_hook(self, poison: Poison, ctx: Context) -> TrainingHook:
        return JointTraining(self, poison, ctx)
