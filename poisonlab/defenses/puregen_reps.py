"""PureGen-Reps: a short walk downhill and a short way into noise and back, over and over."""

from poisonlab.defenses.shared.puregen import COMBINED, TABLE, THREAT_MODEL, CombinedConfig, PureGen, Vector
from poisonlab.registry import Card, defense
from poisonlab.spec.config import param
from poisonlab.spec.papers import PUREGEN


class PureGenRepsConfig(CombinedConfig):
    steps: int = param(10, "Langevin steps of a round, T_EBM", ge=0, le=5000, source=TABLE)
    ddpm_steps: int = param(
        50, "Noise levels of a round, T_DDPM", quick={"*": 25, "digits": 15}, ge=1, le=1000, source=TABLE
    )
    repetitions: int = param(
        5,
        "Rounds, T_Reps; appendix D.2 says 7, which fits table 10 better",
        quick=5,
        ge=1,
        le=100,
        source=TABLE,
    )


@defense("puregen_reps")
class PureGenReps(PureGen):
    """Bhat et al., NeurIPS 2024, arXiv:2405.18627, appendix C: Psi_T with T = (T_EBM, T_DDPM, T_Reps)."""

    Config = PureGenRepsConfig
    strength = ("repetitions", "steps", "ddpm_steps")
    card = Card(
        title="PureGen-Reps",
        references=(PUREGEN.cited(detail="appendix C"),),
        summary="A few steps downhill in energy and a short way into noise and back, in several rounds with fresh "
        "noise: images never stray far, yet a perturbation is shaken many times.",
        threat_model=THREAT_MODEL,
        deviations=(
            "The paper names two settings: [10, 50, 5] in table 10, taken here, and 7 rounds in appendix D.2, which "
            "its sweep makes the likelier one behind table 10. Quick goes half as deep into noise in a round.",
            *COMBINED,
        ),
    )

    def vector(self) -> Vector:
        return self.config.steps, self.config.ddpm_steps, self.config.repetitions
