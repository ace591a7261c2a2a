"""PureGen-EBM: pull training images back to where natural images live, before anybody learns from them."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from poisonlab import artifacts
from poisonlab.config import param
from poisonlab.context import Context
from poisonlab.defenses.base import Defense, evenly
from poisonlab.generative import ebm, weights
from poisonlab.generative.langevin import Chain, LangevinConfig, langevin, record, to_bytes, to_model_range
from poisonlab.metrics import psnr
from poisonlab.registry import Card, defense
from poisonlab.stages import Bundle
from poisonlab.types import ImageSet

FRAMES = 25  # recorded steps of a shown chain; more make the page heavy


class PureGenEBMConfig(ebm.EBMConfig, LangevinConfig):
    steps: int = param(
        500,
        "Langevin steps of purification, T_EBM: 150 from scratch, 500 linear transfer, 1000 fine-tuning",
        quick={"*": 450, "digits": 300},
        ge=0,
        le=5000,
        source="PureGen, appendix D.2",
    )
    purify_temperature: float = param(
        7.5e-5,
        "tau of purification: 7.5e-5 linear transfer, 1e-4 otherwise",
        quick={"*": 7.5e-5, "digits": 1e-4},
        gt=0,
        le=1,
        source="PureGen repository, configuration",
    )
    weights: Literal["shipped", "train"] = Field(
        "shipped", description="Use the weights in this repository where they fit these parameters, or always train"
    )

    def ebm(self) -> ebm.EBMConfig:
        return ebm.EBMConfig(**self.model_dump(include=set(ebm.EBMConfig.model_fields)))

    def sampler(self) -> LangevinConfig:
        """Of training."""
        return LangevinConfig(**self.model_dump(include=set(LangevinConfig.model_fields)))

    def purifier(self) -> LangevinConfig:
        return self.sampler().model_copy(update={"temperature": self.purify_temperature})


@defense("puregen_ebm")
class PureGenEBM(Defense):
    """Bhat et al., NeurIPS 2024, arXiv:2405.18627: Psi_T with T = (T_EBM, 0, 1), on training images only."""

    Config = PureGenEBMConfig
    card = Card(
        title="PureGen-EBM",
        paper="S. Bhat et al.: PureGen, NeurIPS 2024, arXiv:2405.18627",
        summary="An energy-based model learns what clean images look like. Every training image then takes a short "
        "noisy walk downhill in energy, which wipes out small perturbations and keeps what one sees.",
        threat_model="Defender holds clean images that are not in the training set, and acts before training. Test "
        "images are never purified.",
        deviations=(
            "Purified images are clamped and rounded to 8 bits; the released code wraps values around.",
            "The model learns from a disjoint part of the same dataset; the paper takes the ImageNet part of CINIC-10.",
            "The preset quick uses a small network that diverges under the plain recipe, hence SiLU, a penalty on "
            "squared energies, clipped gradients and clamped steps, and a running mean of its weights to purify with. "
            "The preset paper has none of these.",
            "Training is checked on held-out images and rolled back when it starts to diverge.",
        ),
    )

    def prepare(self, public: ImageSet, ctx: Context) -> None:
        config, sampler = self.config.ebm(), self.config.sampler()
        key = weights.key(public.x, config, sampler)
        self.network = ebm.energy_network(config, public.shape[0], ctx.generator("unused"))

        def learn(inner: Context) -> Bundle:
            if self.config.weights == "shipped" and (shipped := weights.find(key)):
                inner.log(f"energy model: shipped weights {shipped.name}, trained by: {shipped.command}")
                self._report(shipped.health, "shipped weights", inner)
                return Bundle(shipped.tensors)
            network, health = ebm.train_ebm(public.x, config, sampler, inner.reseeded(config.seed))
            self._report(vars(health), "trained in this run", inner)
            return Bundle(dict(network.state_dict()), vars(health))

        stage_key = [*key, self.config.weights == "shipped" and weights.exists(key)]
        learned = ctx.stage("ebm", stage_key, [ebm, weights], learn)
        self.network.load_state_dict(learned.tensors)
        self.network.requires_grad_(False)

    @staticmethod
    def _report(health: dict[str, float], origin: str, ctx: Context) -> None:
        sound = health["noise_auroc"] > 0.6
        verdict = f"{origin}; " + (
            "tells noisy from clean images" if sound else "hardly tells noisy from clean images: purification is weak"
        )
        ctx.artifact("ebm_health", artifacts.ModelHealth(health, verdict))

    def purify(self, data: ImageSet, ctx: Context) -> ImageSet:
        steps, batch, done = self.config.steps, 512, []
        chunks = data.x.split(batch)
        for number, chunk in enumerate(chunks):

            def visit(step: int, x: Tensor, e: Tensor, number: int = number) -> None:
                ctx.progress(number * steps + step + 1, len(chunks) * steps)

            start = to_model_range(chunk).contiguous(memory_format=torch.channels_last)
            draws = ctx.generator("langevin", str(number))
            end = langevin(self.network, start, steps, self.config.purifier(), draws, visit)
            done.append(to_bytes(end))
        purified = torch.cat(done)
        shown = slice(0, 512)
        ctx.metric("psnr_purified", steps, psnr(purified[shown], data.x[shown]).clamp_max(99).mean().item())
        return ImageSet(purified, data.y, data.classes, data.split)

    def energy(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([self.network(to_model_range(part)).float() for part in x.split(512)])

    def trace(self, x: Tensor, ctx: Context) -> Chain:
        keep = evenly(max(2 * self.config.steps, 20), FRAMES)
        return record(self.network, to_model_range(x), keep, self.config.purifier(), ctx.generator("trace"))
