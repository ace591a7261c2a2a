"""PureGen-Naive: the energy model's walk, then the diffusion model's."""

from poisonlab.defenses.shared.puregen import COMBINED, TABLE, THREAT_MODEL, CombinedConfig, PureGen, Vector
from poisonlab.registry import Card, defense
from poisonlab.spec.config import param
from poisonlab.spec.papers import PUREGEN


class PureGenNaiveConfig(CombinedConfig):
    steps: int = param(150, "Langevin steps, T_EBM", quick=150, ge=0, le=5000, source=TABLE)
    ddpm_steps: int = param(
        75, "Noise levels there and back, T_DDPM", quick={"*": 75, "digits": 40}, ge=1, le=1000, source=TABLE
    )


@defense("puregen_naive")
class PureGenNaive(PureGen):
    """Bhat et al., NeurIPS 2024, arXiv:2405.18627, appendix C: Psi_T with T = (T_EBM, T_DDPM, 1)."""

    Config = PureGenNaiveConfig
    strength = ("steps", "ddpm_steps")
    card = Card(
        title="PureGen-Naive",
        references=(PUREGEN.cited(detail="appendix C"),),
        summary="Both walks, one after the other: downhill in energy first, then into noise and back with a diffusion "
        "model.",
        threat_model=THREAT_MODEL,
        deviations=COMBINED,
    )

    def vector(self) -> Vector:
        return self.config.steps, self.config.ddpm_steps, 1
