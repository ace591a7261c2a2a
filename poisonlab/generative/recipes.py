"""Where the weights of a generative model come from: shipped where they fit, else trained, once for all defenses."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from poisonlab.cache.stage_cache import run_stage
from poisonlab.context import Context
from poisonlab.generative import ddpm, ebm, unet, weights
from poisonlab.generative.langevin import LangevinConfig
from poisonlab.records import artifacts
from poisonlab.spec.config import Config
from poisonlab.types import Bundle


class Recipe(ABC):
    """One kind of model with its parameters.

    Class attributes:
        kind: name of its stage and of its shipped files. title: for people.
    """

    kind: ClassVar[str]
    title: ClassVar[str]

    @property
    @abstractmethod
    def configs(self) -> tuple[Config, ...]:
        """All that decides the weights, the images aside."""

    @property
    @abstractmethod
    def seed(self) -> int:
        """The model's own."""

    @abstractmethod
    def network(self, channels: int, generator: torch.Generator) -> nn.Module:
        """An untrained network for images of so many channels, on the generator's device."""

    @abstractmethod
    def train(self, images: Tensor, ctx: Context) -> tuple[nn.Module, Any]:
        """The frozen network and its health, a dataclass of numbers."""

    @abstractmethod
    def verdict(self, health: dict[str, float]) -> str:
        """Whether a model of this health is useful, in a few words."""

    def key(self, images: Tensor) -> list[Any]:
        return weights.key(images, *self.configs)


@dataclass(frozen=True)
class EnergyRecipe(Recipe):
    """An energy model."""

    kind: ClassVar[str] = "ebm"
    title: ClassVar[str] = "energy model"

    config: ebm.EBMConfig
    sampler: LangevinConfig

    @property
    def configs(self) -> tuple[Config, ...]:
        return self.config, self.sampler

    @property
    def seed(self) -> int:
        return self.config.seed

    def network(self, channels: int, generator: torch.Generator) -> nn.Module:
        return ebm.energy_network(self.config, channels, generator)

    def train(self, images: Tensor, ctx: Context) -> tuple[nn.Module, Any]:
        return ebm.train_ebm(images, self.config, self.sampler, ctx)

    def verdict(self, health: dict[str, float]) -> str:
        if health["noise_auroc"] > 0.6:
            return "separates noisy from clean images"
        return "hardly separates noisy from clean images: purification is weak"


@dataclass(frozen=True)
class DiffusionRecipe(Recipe):
    """A diffusion model."""

    kind: ClassVar[str] = "ddpm"
    title: ClassVar[str] = "diffusion model"

    config: ddpm.DDPMConfig

    @property
    def configs(self) -> tuple[Config, ...]:
        return (self.config,)

    @property
    def seed(self) -> int:
        return self.config.ddpm_seed

    def network(self, channels: int, generator: torch.Generator) -> nn.Module:
        return unet.noise_network(self.config.ddpm_network, channels, generator)

    def train(self, images: Tensor, ctx: Context) -> tuple[nn.Module, Any]:
        return ddpm.train_ddpm(images, self.config, ctx)

    def verdict(self, health: dict[str, float]) -> str:
        if health["psnr"] > health["psnr_noised"] + 1:
            return "brings noised images nearer to what they were"
        return "hardly undoes the noise it adds: purification destroys pictures"


def learn(recipe: Recipe, images: Tensor, origin: str, shipped: bool, ctx: Context) -> nn.Module:
    """The frozen network of a recipe learned from uint8 images ``(n, c, h, w)``; a stage of its own.

    Args:
        origin: where the images are from, for people.
        shipped: use the weights in the repository where they fit exactly.
    """
    key = recipe.key(images)

    def compute(inner: Context) -> Bundle:
        found = weights.find(key, recipe.kind) if shipped else None
        if found:
            inner.log(f"{recipe.title}: shipped weights {found.name}, trained by: {found.command}")
            _report(recipe, found.health, f"shipped weights, {origin}", inner)
            return Bundle(found.tensors)
        network, health = recipe.train(images, inner.reseeded(recipe.seed))
        _report(recipe, vars(health), f"trained in this run, {origin}", inner)
        return Bundle(dict(network.state_dict()), vars(health))

    stage_key = [*key, origin, weights.checksum(key, recipe.kind) if shipped else None]
    learned = run_stage(ctx, recipe.kind, stage_key, compute)
    network = recipe.network(images.shape[1], ctx.generator("unused"))
    network.load_state_dict(learned.tensors)
    return network.requires_grad_(False)


def _report(recipe: Recipe, health: dict[str, float], history: str, ctx: Context) -> None:
    verdict = f"{recipe.title}, {history}; {recipe.verdict(health)}"
    ctx.log(verdict)
    ctx.artifact(f"{recipe.kind}_health", artifacts.ModelHealth(health, verdict))
