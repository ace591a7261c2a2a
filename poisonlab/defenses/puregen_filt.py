"""PureGen-Filt: an energy model says which images look unnatural; only those are purified."""

import dataclasses

from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.shared.puregen import COMBINED, TABLE, THREAT_MODEL, CombinedConfig, PureGen, Vector
from poisonlab.registry import Card, defense
from poisonlab.spec.config import param
from poisonlab.spec.papers import PUREGEN
from poisonlab.types import ImageSet


class PureGenFiltConfig(CombinedConfig):
    share: float = param(
        0.5, "Share of the images, those of highest energy, that is purified: k", ge=0, le=1, source=TABLE
    )
    ddpm_steps: int = param(
        125,
        "Noise levels there and back, T_DDPM",
        quick={"*": 125, "digits": 50},
        ge=1,
        le=1000,
        source=TABLE,
    )


@defense("puregen_filt")
class PureGenFilt(PureGen):
    """Bhat et al., NeurIPS 2024, arXiv:2405.18627, appendix C:  Psi_T(top share k by energy) and the rest untouched,
    with T = (0, T_DDPM, 1)."""

    Config = PureGenFiltConfig
    strength = ("ddpm_steps",)
    per_image = False  # the energy above which an image is purified depends on all others
    card = Card(
        title="PureGen-Filt",
        references=(PUREGEN.cited(detail="appendix C"),),
        summary="An energy model ranks the training images, poisons among them. The more unnatural half goes through a "
        "diffusion model, the other half keeps every pixel.",
        threat_model=THREAT_MODEL,
        deviations=(
            "Every image, poisoned or not, is ranked and kept or purified as it was given. The released code leaks: it "
            "fills the untouched part with poisons that were purified before, so published figures may be too good.",
            *COMBINED,
        ),
    )

    def vector(self) -> Vector:
        return 0, self.config.ddpm_steps, 1

    def purify(self, data: ImageSet, ctx: Context) -> ImageSet:
        rows = self.unnatural(data.x)
        if not len(rows):
            return data
        x = data.x.clone()
        x[rows] = super().purify(data[rows], ctx).x
        return dataclasses.replace(data, x=x)

    def unnatural(self, x: Tensor) -> Tensor:
        """Rows of the ``share`` of uint8 images with the highest energy, in the order of the images."""
        energies = self.energy(x)
        assert energies is not None
        return energies.topk(round(self.config.share * len(x))).indices.sort().values
