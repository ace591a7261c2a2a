"""The family of PureGen (Bhat et al. 2024, arXiv:2405.18627, section 3 and appendix C): one stochastic transform

    Psi_T,  T = (T_EBM, T_DDPM, T_Reps):   T_Reps times  T_EBM Langevin steps, then T_DDPM steps of noise there and back

of which each member is a choice of T.
"""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, evenly
from poisonlab.generative import ddpm, ebm
from poisonlab.generative.langevin import (
    Chain,
    LangevinConfig,
    Visit,
    langevin,
    record,
    to_bytes,
    to_model_range,
)
from poisonlab.generative.recipes import DiffusionRecipe, EnergyRecipe, learn
from poisonlab.generative.sources import PUBLIC, Source, described, training_images
from poisonlab.measure.metrics import psnr
from poisonlab.spec.config import Config, param
from poisonlab.types import Bundle, ImageSet

FRAMES = 25  # recorded steps of a shown walk; more make the page heavy
BATCH = 512  # images that walk together

CLAMPED = "Purified images are clamped and rounded to 8 bits; the released code wraps values around."
PUBLIC_PART = (
    "The models learn from a disjoint part of the same dataset by default; the paper takes the ImageNet part of "
    "CINIC-10, which the source cinic10 stands for. Any dataset can be named as source; its labels are not used."
)
SMALL_EBM = (
    "The presets quick and full use a small energy model that diverges under the plain recipe, hence SiLU, a penalty "
    "on squared energies, clipped gradients and clamped steps, and a running mean of its weights to purify with. The "
    "preset paper has none of these."
)
ROLLED_BACK = (
    "Training of the energy model is checked on held-out images and rolled back when it starts to diverge."
)
ONE_LEVEL = (
    "Images are noised exactly to the level of the first reverse step; the released code noises them one of 1000 "
    "levels more."
)
SMALL_DDPM = (
    "The presets quick and full use a tiny UNet on patches of 2x2 pixels, trained on the 150 lowest noise levels "
    "(quick on digits: 75)."
)
COMBINED = (
    CLAMPED,
    PUBLIC_PART,
    ONE_LEVEL,
    SMALL_EBM,
    SMALL_DDPM,
    ROLLED_BACK,
)  # of all that use both models
TABLE = "PureGen, table 10"  # of the combinations
THREAT_MODEL = (
    "Defender holds clean images that are not in the training set, and acts before training. Test images are never "
    "purified."
)


class LearnedConfig(Config):
    """Where generative models come from."""

    source: Source = Field(
        PUBLIC,
        description="What they learn from: public, a part of the dataset that is not attacked, or another dataset's "
        "name, whose images are made to fit",
    )
    source_images: int = Field(
        0, ge=0, le=10**6, description="Images taken of another dataset, at most; 0 for as many as are public"
    )
    weights: Literal["shipped", "train"] = Field(
        "shipped",
        description="Use the weights in this repository where they fit these parameters, or always train",
    )


class EnergyConfig(ebm.EBMConfig, LangevinConfig):
    """An energy model and how it purifies."""

    purify_temperature: float = param(
        7.5e-5,
        "tau of purification: 7.5e-5 linear transfer, 1e-4 otherwise",
        quick={"*": 7.5e-5, "digits": 1e-4},
        gt=0,
        le=1,
        source="PureGen repository, configuration",
    )

    def ebm(self) -> ebm.EBMConfig:
        return ebm.EBMConfig(**self.model_dump(include=set(ebm.EBMConfig.model_fields)))

    def sampler(self) -> LangevinConfig:
        """Of training."""
        return LangevinConfig(**self.model_dump(include=set(LangevinConfig.model_fields)))

    def purifier(self) -> LangevinConfig:
        return self.sampler().model_copy(update={"temperature": self.purify_temperature})

    def energy_recipe(self) -> EnergyRecipe:
        return EnergyRecipe(self.ebm(), self.sampler())


class DiffusionConfig(ddpm.DDPMConfig):
    """A diffusion model and how far it goes."""

    ddpm_steps: int = param(
        125,
        "Noise levels there and back, T_DDPM: 75 from scratch, 125 transfer",
        quick={"*": 100, "digits": 50},
        ge=1,
        le=1000,
        source="PureGen, appendix D.2",
    )

    def diffusion_recipe(self) -> DiffusionRecipe:
        return DiffusionRecipe(ddpm.DDPMConfig(**self.model_dump(include=set(ddpm.DDPMConfig.model_fields))))

    @model_validator(mode="after")
    def _levels_are_learned(self) -> Self:
        if self.ddpm_steps > self.ddpm_levels:
            raise ValueError(
                f"ddpm_steps={self.ddpm_steps} asks for noise levels that the network never sees; "
                f"ddpm_levels is {self.ddpm_levels}"
            )
        return self


Vector = tuple[int, int, int]  # T_EBM, T_DDPM, T_Reps


class CombinedConfig(EnergyConfig, DiffusionConfig, LearnedConfig):
    """Both models."""


class PureGen(Defense):
    """Learns the generative models that its configuration names, and walks training images with them."""

    energy_model: nn.Module | None = None
    noise_model: nn.Module | None = None

    def vector(self) -> Vector:
        """T of Psi_T."""
        raise NotImplementedError

    def shown(self) -> Vector:
        """T of the walk that is recorded for display."""
        return self.vector()

    def check_images(self, public: ImageSet) -> None:
        config = self.config
        least = 2 * (ebm.HELD_OUT if isinstance(config, EnergyConfig) else ddpm.HELD_OUT)
        if config.source == PUBLIC and len(public) < least:
            raise ValueError(
                f"{self.name} needs at least {least} public images, got {len(public)}: raise dataset.public_images, or "
                "name another dataset as defense.source"
            )

    def prepare(self, public: ImageSet, ctx: Context) -> None:
        config = self.config
        images = training_images(config.source, public, config.source_images)
        origin = described(config.source, public)
        shipped = config.weights == "shipped"
        if isinstance(config, EnergyConfig):
            self.energy_model = learn(config.energy_recipe(), images, origin, shipped, ctx)
        if isinstance(config, DiffusionConfig):
            self.noise_model = learn(config.diffusion_recipe(), images, origin, shipped, ctx)

    def psi(
        self, x: Tensor, vector: Vector, generator: torch.Generator, ctx: Context, visit: Visit
    ) -> Tensor:
        """Psi_T of float32 images ``(n, c, h, w)`` in [-1, 1].

        Args:
            visit: called with the number of steps done and the state before every step.
        """

        def noise(x: Tensor, t: Tensor) -> Tensor:
            with ctx.autocast():
                assert self.noise_model is not None
                predicted: Tensor = self.noise_model(x.contiguous(memory_format=torch.channels_last), t)
                return predicted

        langevin_steps, noise_steps, repetitions = vector
        for repetition in range(repetitions):
            start = repetition * steps_of((langevin_steps, noise_steps, 1))
            if langevin_steps:
                assert self.energy_model is not None

                def after(step: int, x: Tensor, energy: Tensor, start: int = start) -> None:
                    visit(start + step, x)

                purifier = self.config.purifier()
                with ctx.autocast():  # inside the network; the state stays float32
                    x = langevin(self.energy_model, x, langevin_steps, purifier, generator, after)
            if noise_steps:

                def within(step: int, x: Tensor, start: int = start + langevin_steps) -> None:
                    visit(start + step, x)

                x = ddpm.purify(noise, x, noise_steps, generator, within)
        return x

    def purify(self, data: ImageSet, ctx: Context) -> ImageSet:
        vector = self.vector()
        kept = ctx.resume()
        steps = steps_of(vector)
        chunks = data.x.split(BATCH)
        done = list(kept.tensors["x"].split(BATCH)) if kept else []  # chunks of an interrupted attempt
        for number, chunk in list(enumerate(chunks))[len(done) :]:

            def visit(step: int, x: Tensor, number: int = number) -> None:
                ctx.progress(number * steps + step + 1, len(chunks) * steps)

            start = to_model_range(chunk).contiguous(memory_format=torch.channels_last)
            draws = ctx.generator("langevin", str(number))
            done.append(to_bytes(self.psi(start, vector, draws, ctx, visit)))
            ctx.keep(lambda: Bundle({"x": torch.cat(done)}))
        purified = torch.cat(done)
        shown = slice(0, 512)
        ctx.metric("psnr_purified", steps, psnr(purified[shown], data.x[shown]).clamp_max(99).mean().item())
        return ImageSet(purified, data.y, data.classes, data.split)

    def energy(self, x: Tensor) -> Tensor | None:
        if self.energy_model is None:
            return None
        with torch.inference_mode():
            return torch.cat([self.energy_model(to_model_range(part)).float() for part in x.split(BATCH)])

    def trace(self, x: Tensor, ctx: Context) -> Chain:
        vector = self.shown()

        def walk(visit: Visit) -> Tensor:
            return self.psi(to_model_range(x), vector, ctx.generator("trace"), ctx, visit)

        def energy(state: Tensor) -> Tensor:
            if self.energy_model is None:
                return torch.full((len(state),), torch.nan, device=state.device)
            with torch.inference_mode():
                energies: Tensor = self.energy_model(state).float()
                return energies

        steps, states, energies = record(walk, energy, evenly(steps_of(vector), FRAMES))
        moments = [moment(step, vector) for step in steps.tolist()]
        return Chain(steps, states, energies, steps_of(self.vector()), moments)


def steps_of(vector: Vector) -> int:
    """Steps of Psi_T: each of a Langevin chain, the jump to a noise level, each of the way back."""
    langevin_steps, noise_steps, repetitions = vector
    return repetitions * (langevin_steps + (noise_steps + 1 if noise_steps else 0))


def moment(step: int, vector: Vector) -> str:
    """What Psi_T has done after some of its steps, in words."""
    langevin_steps, noise_steps, repetitions = vector
    if step == 0:
        return "as given"
    round_, within = divmod(step - 1, steps_of((langevin_steps, noise_steps, 1)))
    within += 1
    where = f"round {round_ + 1}: " if repetitions > 1 else ""
    if within <= langevin_steps:
        return f"{where}{within} Langevin steps"
    return f"{where}{langevin_steps + noise_steps + 1 - within} of {noise_steps} noise levels left"
