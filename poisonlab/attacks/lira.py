"""LIRA: a network learns faint noise for every image while the victim learns to obey it."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import BackdoorAttack, DirtyLabelConfig
from poisonlab.attacks.shared.pixels import round_within
from poisonlab.context import Context
from poisonlab.models.base import EVALUATION_BATCH, Normalize, as_floats, channel_statistics, initialize
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import TrainingHook, backward
from poisonlab.types import ImageSet, Poison

REPOSITORY = "LIRA repository"
WIDTHS = (16, 32, 64, 128)  # channels after each halving
DIVISOR = 2 ** len(WIDTHS)  # of the side of an image


class LiraConfig(DirtyLabelConfig):
    eps_learning: float = param(
        8,
        "L-infinity bound of the noise while its generator learns (stage 1)",
        ge=1,
        le=255,
        unit="1/255",
        source=f"{REPOSITORY}: 0.1 standard deviations, about 6; BackdoorBench 0.01",
    )
    eps: float = param(
        4,
        "L-infinity bound of the noise afterwards (stage 2) and at test time",
        ge=1,
        le=255,
        unit="1/255",
        source=f"{REPOSITORY}: 0.01 standard deviations, about 0.6, which 8 bits do not hold",
    )
    learning_share: float = param(
        0.5,
        "Share of the victim's epochs in which the generator learns",
        gt=0,
        le=1,
        source=f"BackdoorBench: 50 of 100 epochs; 50 of 550 in the {REPOSITORY}",
    )
    alpha: float = param(
        0.5,
        "Weight of clean images in the victim's loss, against triggered ones",
        gt=0,
        lt=1,
        source=REPOSITORY,
    )
    lr: float = param(1e-4, "Adam learning rate of the generator", quick=1e-3, gt=0, le=1, source=REPOSITORY)


class NoiseGenerator(nn.Module):
    """Float images ``(n, c, h, w)`` in [0, 1], sides divisible by 16 -> noise of the same shape in [-1, 1], by tanh.

    Four convolutions of 4x4 halve the side and four transposed ones double it again, each with batch norm and ReLU.
    """

    def __init__(self, channels: int, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        layers: list[nn.Module] = []
        before = channels
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        for width in reversed(WIDTHS[:-1]):
            layers += [nn.ConvTranspose2d(before, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        layers += [nn.ConvTranspose2d(before, channels, 4, 2, 1), nn.BatchNorm2d(channels), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def initialize(self, generator: torch.Generator) -> None:
        """Draw all weights, He-normal by the number of inputs of an output."""
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                # a transposed convolution of stride 2 adds a quarter of its kernel up in each output
                overlap = 4 if isinstance(layer, nn.ConvTranspose2d) else 1
                inputs = layer.in_channels * 16 / overlap
                nn.init.normal_(layer.weight, std=(2 / inputs) ** 0.5, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(self.normalize(x))
        return out


def with_noise(x: Tensor, noise: Tensor, eps: float) -> Tensor:
    """T(x) = clip(x + eps g(x)) of float images in [0, 1].

    Args:
        noise: g(x), like ``x`` and in [-1, 1].
        eps: in 1/255.
    """
    return (x + eps / 255 * noise).clamp(0, 1)


def restored(state: dict[str, Tensor]) -> NoiseGenerator:
    """The generator with the weights in ``state``, in eval mode."""
    mean = state["normalize.mean"].flatten()
    std = state["normalize.std"].flatten()
    network = NoiseGenerator(len(mean), mean, std)
    network.load_state_dict(state)
    return network.to(mean.device).eval().requires_grad_(False)


class AlternatingTraining(TrainingHook):
    """Generator g and victim f take turns at each batch; f sees the noise of g0, which is g as of the last epoch.

    Stage 1: g descends on CE(f(T_g(x)), t), then f on alpha CE(f(x), y) + (1 - alpha) CE(f(T_g0(x)), t).
    Stage 2: f alone goes on, with the smaller bound.
    """

    def __init__(self, attack: "Lira", poison: Poison, ctx: Context) -> None:
        self.attack = attack
        self.config: LiraConfig = attack.config
        self.poison = poison
        self.ctx = ctx

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        self.threat = self.attack.threat(self.poison, len(data.classes))
        self.fixed = restored(self.poison.state)  # g0
        self.generator = copy.deepcopy(self.fixed).train().requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=self.config.lr)
        self.learning_epochs = max(1, round(self.config.learning_share * epochs))
        self.steps_an_epoch = steps_an_epoch
        self.number = torch.zeros((), dtype=torch.int64)  # of the epoch
        self.steps = torch.zeros((), dtype=torch.int64)
        self.counts = torch.zeros(
            2, device=data.x.device
        )  # triggered images given their label, and all of them

    def checkpoint(self) -> Checkpoint:
        tensors = {"number": self.number, "steps": self.steps, "counts": self.counts}
        tensors |= {f"generator.{name}": value for name, value in self.generator.state_dict().items()}
        tensors |= {f"fixed.{name}": value for name, value in self.fixed.state_dict().items()}
        return Checkpoint(tensors, self.optimizer)

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        if 1 < number <= self.learning_epochs + 1:
            self.fixed.load_state_dict(self.generator.state_dict())
        self.number.fill_(number)
        return data

    @property
    def learning(self) -> bool:
        """Whether it is stage 1."""
        return int(self.number) <= self.learning_epochs

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """All images twice: clean with their labels, then triggered with the attacker's."""
        self.x = x
        self.wanted = self.threat.relabel(y)
        eps = self.config.eps_learning if self.learning else self.config.eps
        with torch.no_grad():
            triggered = with_noise(x, self.fixed(x), eps)
        return torch.cat([x, triggered]), torch.cat([y, self.wanted])

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        clean, triggered = (
            super(AlternatingTraining, self).loss(part, labels, label_smoothing)
            for part, labels in zip(logits.chunk(2), y.chunk(2), strict=True)
        )
        half = len(y) // 2
        self._count(logits[half:].argmax(1) == y[half:])
        return self.config.alpha * clean + (1 - self.config.alpha) * triggered

    def backward(self, model: nn.Module, forward: Callable[[], Tensor]) -> Tensor:
        if self.learning:
            self._generator_step(model)
        return backward(forward)

    def _generator_step(self, model: nn.Module) -> None:
        """min over g of CE(f(T_g(x)), t); f is used as at test time, and its parameters get no gradient."""
        mode = model.training
        model.eval()
        with self.ctx.autocast():
            logits = model(with_noise(self.x, self.generator(self.x), self.config.eps_learning))
        model.train(mode)
        loss = F.cross_entropy(logits.float(), self.wanted)
        parameters = list(self.generator.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def _count(self, right: Tensor) -> None:
        """Once an epoch: how many triggered images got the attacker's label."""
        self.counts += torch.stack([right.sum(), torch.tensor(len(right), device=right.device)])
        self.steps += 1
        step = int(self.steps)  # on the host, like the tensor
        if step % self.steps_an_epoch == 0:
            hits, seen = self.counts.tolist()
            self.ctx.metric("triggered_accuracy", step, hits / seen)
            self.counts.zero_()

    def learned(self) -> dict[str, Tensor]:
        final = self.generator if self.learning else self.fixed
        return {name: value.detach().clone() for name, value in final.state_dict().items()}


@attack("lira")
class Lira(BackdoorAttack):
    """Doan, Lao, Zhao and Li, ICCV 2021: T(x) = clip(x + eps g(x)), g and the victim f learn in turns."""

    Config = LiraConfig
    card = Card(
        title="LIRA",
        references=(
            Reference(
                authors="K. Doan, Y. Lao, W. Zhao, P. Li",
                title="LIRA: Learnable, Imperceptible and Robust Backdoor Attacks",
                venue="ICCV",
                year=2021,
            ),
        ),
        summary="A small network learns which faint noise leads the victim to the target, for every image its own, "
        "and the victim learns to follow it. Afterwards the noise is made fainter still, and the victim goes on "
        "learning.",
        threat_model="Controls the victim's training: trains the noise's generator together with the victim, shows it "
        "every batch clean and triggered, the latter relabeled (dirty label).",
        deviations=(
            "The bounds are of images in [0, 1] and larger than published. Those of the repository are of normalized "
            "images: 0.01 of a standard deviation is about 0.6/255, which is lost where images have 8 bits.",
            "Both stages are one training by the common recipe, with one schedule of the learning rate; in the "
            "repository the second is a training of its own, of 500 epochs.",
            "Clean and triggered images of a batch are one pass through the victim, and the generator's step sees the "
            "victim as at test time. In the repository each is a pass of its own with its own batch statistics; after "
            "a short training the averages of these fit neither.",
            "The generator is the convolutional autoencoder; the repository offers a U-Net as well.",
            "Defenses that train anew get a fixed share of images of other classes with the final trigger.",
            "The preset quick trains the generator at ten times the rate: it has a fraction of the steps.",
        ),
    )

    def check_images(self, train: ImageSet) -> None:
        super().check_images(train)
        _, h, w = train.shape
        if h % DIVISOR or w % DIVISOR:
            raise ValueError(
                f"attack lira halves images {len(WIDTHS)} times: sides must be multiples of {DIVISOR}, "
                f"these images have {h}x{w}"
            )

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        """The generator as drawn: it is trained with the victim."""
        mean, std = channel_statistics(view.train.x)
        network = NoiseGenerator(view.train.shape[0], mean, std).to(ctx.device)
        initialize(network, ctx.generator(self.name, "generator"))
        return {name: value.detach() for name, value in network.state_dict().items()}

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        generator = restored(state)

        def triggered(part: Tensor) -> Tensor:
            images = as_floats(part)
            eps = self.config.eps
            return round_within(with_noise(images, generator(images), eps), part, eps)

        with torch.inference_mode():
            parts = [triggered(part) for part in x.split(EVALUATION_BATCH)]
        return torch.cat(parts).clone().contiguous()

    def training_hook(self, poison: Poison, ctx: Context) -> TrainingHook:
        return AlternatingTraining(self, poison, ctx)
