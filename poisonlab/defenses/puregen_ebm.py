"""PureGen-EBM: pull training images back to where natural images live, before anybody learns from them."""

from poisonlab.defenses.shared.puregen import (
    CLAMPED,
    PUBLIC_PART,
    ROLLED_BACK,
    SMALL_EBM,
    THREAT_MODEL,
    EnergyConfig,
    LearnedConfig,
    PureGen,
    Vector,
)
from poisonlab.registry import Card, defense
from poisonlab.spec.config import param
from poisonlab.spec.papers import PUREGEN


class PureGenEBMConfig(EnergyConfig, LearnedConfig):
    steps: int = param(
        500,
        "Langevin steps of purification, T_EBM: 150 from scratch, 500 linear transfer, 1000 fine-tuning",
        quick={"*": 450, "digits": 300},
        ge=0,
        le=5000,
        source="PureGen, appendix D.2",
    )


@defense("puregen_ebm")
class PureGenEBM(PureGen):
    """Bhat et al., NeurIPS 2024, arXiv:2405.18627: Psi_T with T = (T_EBM, 0, 1), on training images only."""

    Config = PureGenEBMConfig
    strength = ("steps",)
    card = Card(
        title="PureGen-EBM",
        references=(PUREGEN,),
        summary="An energy-based model learns what clean images look like. Every training image then takes a short "
        "noisy walk downhill in energy, which wipes out small perturbations and keeps what one sees.",
        threat_model=THREAT_MODEL,
        deviations=(CLAMPED, PUBLIC_PART, SMALL_EBM, ROLLED_BACK),
    )

    def vector(self) -> Vector:
        return self.config.steps, 0, 1

    def shown(self) -> Vector:
        """Twice as far, so that one sees what more steps would do."""
        return max(2 * self.config.steps, 20), 0, 1
