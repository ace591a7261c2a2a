"""Small images, networks and parameters for tests of the core."""

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poisonlab import registry
from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.surrogates import Surrogate
from poisonlab.context import Context, derive
from poisonlab.data.base import DataError, divide
from poisonlab.events import Event
from poisonlab.models.base import Classifier, channel_statistics, initialize
from poisonlab.spec.config import Config, ExperimentSpec, TrainingConfig, make_spec
from poisonlab.training.loop import train_network
from poisonlab.types import ImageSet, Splits

# Parameters by the names that methods share; a method without such a name keeps its quick value.
SMALL: dict[str, Any] = {
    "poison_rate": 0.1,
    "targets": 2,
    "poisons": 3,
    "steps": 5,
    "iterations": 3,
    "unlearn_epochs": 2,
    "recover_epochs": 2,
    "repeats": 2,
    "search_batch": 4,
    "curve_epochs": 1,
    "rounds": 1,
    "inner_epochs": 1,
    "epochs": 1,
    "teacher_epochs": 1,
    "copies": 1,
    "models": 1,
    "unroll": 1,
    "rehearse": 0,
    "architecture": "light",
    "filters": 4,
    "passes": 2,
    "updates": 4,
    "batch_size": 8,
    "bank_size": 16,
    "chain_steps": 2,
    "health_every": 2,
    "min_psnr": 0,
    "ddpm_updates": 4,
    "ddpm_batch_size": 8,
    "ddpm_steps": 3,
    "ddpm_levels": 4,  # after training, as many steps are walked to see how well it does
    "repetitions": 2,
    "weights": "train",
}


def small(method: Any, **values: Any) -> Any:
    """A method with quick parameters, the costly ones replaced by the smallest that make sense."""
    config: type[Config] = method.Config
    quick = config.for_preset("quick", "digits").model_dump()
    cheap = {name: value for name, value in SMALL.items() if name in quick}
    return method(config(**quick | cheap | values))


def listening(seed: int = 0, **more: Any) -> tuple[Context, list[Event]]:
    """A context and the list that its events go to."""
    heard: list[Event] = []
    return Context(seed=seed, send=heard.append, **more), heard


def noise_images(
    n: int = 40, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 4, seed: int = 0
) -> ImageSet:
    """Random images whose class is written into them as brightness."""
    draws = derive(seed, "images")
    y = torch.arange(n) % classes
    x = torch.randint(0, 100, (n, *shape), generator=draws) + (y * (150 // classes)).view(-1, 1, 1, 1)
    return ImageSet(x.to(torch.uint8), y, tuple(f"class {c}" for c in range(classes)))


@functools.cache
def digits(protocol: str = "from_scratch") -> Splits:
    """A few hundred digits, divided."""
    method = registry.dataset["digits"]
    config = method.Config(
        train_images=200,
        head_images=200,
        pretrain_images=200,
        reserve_images=40,
        public_images=130,
        test_images=60,
    )
    return divide(*method(config).load(), config, protocol)


def network(data: ImageSet, victim: str = "resnet8", seed: int = 0, **params: Any) -> Classifier:
    """An untrained victim for ``data``."""
    method = registry.victim[victim]
    mean, std = channel_statistics(data.x)
    made = method(method.Config(**params)).network(data.shape, len(data.classes), mean, std)
    return initialize(made, derive(seed, "init")).eval()  # type: ignore[return-value]


@functools.cache
def _trained(width: int) -> Classifier:
    train = digits().train
    model = network(train, width=width)
    recipe = TrainingConfig(epochs=4, batch_size=20, schedule="one_cycle", crop_padding=0, flip=False)
    train_network(model, train, recipe, Context())
    return model.requires_grad_(False)


def clean_model() -> Classifier:
    """A small network that knows digits, the same object for all tests: they must not change it."""
    return _trained(8)


def attackers_view(reads_public: bool = True) -> AttackerView:
    public = digits().public
    return AttackerView(
        digits().train,
        digits().test,
        clean_model,
        extractor=clean_model,
        public=public if reads_public else public[:0],
        surrogate=lambda *args, **kwargs: clean_model(),
    )


def surrogate(
    model: Classifier, depths: int = 1, dropout: float = 0.0, draws: int = 1, seed: int = 0
) -> Surrogate:
    """A network to craft on; by default its penultimate features from one plain pass."""
    return Surrogate(model, depths, dropout, draws, derive(seed, "dropout"))


@functools.cache
def smooth_net() -> Classifier:
    """Two smooth convolutions in double precision, for gradients; 4 features of 1x6x6 images."""
    blocks = [
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softplus()),
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.Softplus()),
    ]
    body = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(12, 4))
    model = Classifier(body, 4, 2, torch.full((1,), 0.4), torch.full((1,), 0.3)).double()
    for number, weight in enumerate(model.parameters()):
        nn.init.normal_(weight, generator=derive(number, "weights"))
    return model.requires_grad_(False)


def normed_net() -> Classifier:
    """Two convolutions with batch norm in double precision, 3 classes of 1x6x6 images, for numbers of other programs.

    Its weights are drawn uniformly: every machine draws the same.
    """
    body = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False),
        nn.BatchNorm2d(2),
        nn.Softplus(),
        nn.Conv2d(2, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.Softplus(),
        nn.Flatten(),
    )
    model = Classifier(body, 12, 3, torch.full((1,), 0.4), torch.full((1,), 0.3)).double()
    draws = derive(0, "normed net")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(2 * torch.rand(weight.shape, generator=draws, dtype=torch.float64) - 1)
        for name, buffer in model.body.named_buffers():
            if "running" in name:
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=draws, dtype=torch.float64))
    return model.eval()


def in_threads(work: Callable[[int], object], count: int) -> None:
    """``work(0)``, ``work(1)`` and so on, all at once; returns when all have ended."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def rest_slow(values: Iterable[Any], now: int = 1) -> list[Any]:
    """Parameters of a test of which the first ``now`` run by default, the others with ``-m slow``."""
    return [
        value if i < now else pytest.param(value, marks=pytest.mark.slow) for i, value in enumerate(values)
    ]


def state_of(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_state(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def loaded(
    name: str, monkeypatch: pytest.MonkeyPatch, preset: Any = "quick", **params: Any
) -> tuple[ImageSet, ImageSet, Any]:
    """Pool, test set and parameters of a dataset's preset; skips where its files are absent."""
    method = registry.dataset[name]
    config = method.Config(**method.Config.for_preset(preset, name).model_dump() | params)
    block_network(monkeypatch)
    try:
        return *method(config).load(), config
    except DataError as error:
        pytest.skip(f"{name} is not on this machine: {error}")


def block_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("tests do not use the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


TINY = {"training.epochs": 1, "dataset.train_images": 100, "dataset.test_images": 60}

TINY_DATA = {"dataset.train_images": 120, "dataset.test_images": 60, "dataset.reserve_images": 30}
# a targeted attack on a pretrained extractor, for a spec of digits
SMALL_TRANSFER: dict[str, Any] = {
    "dataset.head_images": 60,
    "dataset.pretrain_images": 300,
    "dataset.public_images": 130,
    "dataset.test_images": 60,
    "dataset.reserve_images": 30,
    "training.epochs": 4,
    "attack.targets": 2,
    "attack.poisons": 3,
    "attack.steps": 4,
    "victim.width": 8,
}
TINY_TARGETED = TINY_DATA | {
    "dataset.head_images": 80,
    "dataset.pretrain_images": 300,
    "dataset.public_images": 130,
    "training.epochs": 4,
    "head.epochs": 5,
    "clean_images": 20,
    "attack.targets": 3,
    "attack.poisons": 3,
    "attack.steps": 4,
    "defense.weights": "train",
    "defense.updates": 2,
    "defense.health_every": 1,
    "defense.min_psnr": 0,
    "defense.batch_size": 8,
    "defense.bank_size": 16,
    "defense.chain_steps": 2,
    "defense.steps": 4,
}


def tiny_spec(defense: str = "none", seed: int = 0, **overrides: Any) -> ExperimentSpec:
    """BadNets on a hundred digits, one epoch. Overrides are written ``training__epochs=3``."""
    more = {name.replace("__", "."): value for name, value in overrides.items()}
    return make_spec("digits", "badnets", defense, seed=seed, overrides=TINY | more)


def least(detector: str, spec: ExperimentSpec) -> Config:
    """The parameters of a detector that finds nothing, but quickly."""
    config: Config = registry.defense[detector].Config.for_preset(spec.preset, spec.dataset.name)
    few = {"rounds": 2, "steps": 2, "repeats": 2, "unlearn_epochs": 1, "search_batch": 4}
    return config.model_copy(update={name: value for name, value in few.items() if hasattr(config, name)})
