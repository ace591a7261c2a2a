"""PureGen-DDPM: drown a perturbation in noise, and let a diffusion model take both away."""

from poisonlab.defenses.shared.puregen import (
    CLAMPED,
    ONE_LEVEL,
    PUBLIC_PART,
    SMALL_DDPM,
    THREAT_MODEL,
    DiffusionConfig,
    LearnedConfig,
    PureGen,
    Vector,
)
from poisonlab.registry import Card, defense
from poisonlab.spec.papers import PUREGEN


class PureGenDDPMConfig(DiffusionConfig, LearnedConfig):
    pass


@defense("puregen_ddpm")
class PureGenDDPM(PureGen):
    """Bhat et al., NeurIPS 2024, arXiv:2405.18627: Psi_T with T = (0, T_DDPM, 1), on training images only."""

    Config = PureGenDDPMConfig
    strength = ("ddpm_steps",)
    card = Card(
        title="PureGen-DDPM",
        references=(PUREGEN,),
        summary="Every training image is drowned in a little noise, which hides small perturbations, and a diffusion "
        "model trained on clean images takes the noise away step by step.",
        threat_model=THREAT_MODEL,
        deviations=(CLAMPED, PUBLIC_PART, ONE_LEVEL, SMALL_DDPM),
    )

    def vector(self) -> Vector:
        return 0, self.config.ddpm_steps, 1
