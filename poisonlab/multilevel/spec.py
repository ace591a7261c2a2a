"""What decides a sweep of the games, and where one of them ended. No torch here: records and the store read these."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from poisonlab.spec.config import Config

Order = Literal["min_max_min", "min_min_max"]
ORDERS: dict[Order, str] = {
    "min_max_min": "attacker foresees the learner",
    "min_min_max": "learner foresees the attacker",
}
Model = Literal["bilevel", "trilevel"]
MAX_STEPS = 2_000_000  # of the last player, in all of a sweep
MAX_FEATURES = 30  # columns of a table
MAX_NAME = 60  # characters of a column's name


class Rules(Config):
    """Steps, step sizes and bounds of the players."""

    attacker_steps: int = Field(10, ge=1, le=100, description="Steps of the attacker")
    learner_steps: int = Field(20, ge=1, le=200, description="Steps of the learner")
    outer_steps: int = Field(30, ge=1, le=200, description="Steps of the hyperparameter, at most")
    patience: int = Field(
        0, ge=0, le=200, description="Stops after so many steps without a lower F_1; 0 never does"
    )
    tolerance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="A descent below the first ends when no coordinate moves further; 0 never does",
    )
    attacker_step: float = Field(
        0.1, gt=0, lt=1, description="In units of n d / c; 0.5 inverts the price's curvature"
    )
    learner_step: float = Field(0.1, gt=0, le=1, description="For standardised inputs")
    outer_step: float = Field(10.0, gt=0, le=1000, description="Of lambda, whose gradient is about 0.001")
    smoothing: float = Field(0.25, gt=0, le=10, description="mu, where the penalty's kink is rounded off")
    lowest: float = Field(-8.0, ge=-20, le=0, description="lambda is kept above this")
    highest: float = Field(4.0, ge=0, le=20, description="lambda is kept below this")


class SweepSpec(Config):
    """Everything but the table that decides a sweep's numbers."""

    order: Order = Field("min_max_min", description="Who foresees whom")
    penalties: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1e6)], ...], Field(min_length=1, max_length=12)
    ] = Field((6.0, 10.0, 20.0, 30.0, 100.0), description="c, what the attacker pays")
    noises: Annotated[
        tuple[Annotated[float, Field(ge=0, le=10)], ...], Field(min_length=1, max_length=20)
    ] = Field(
        (0.0, 0.1, 0.3, 0.5, 0.7, 1.0),
        description="Deviation of the Gaussian noise on standardised test inputs",
    )
    seeds: int = Field(10, ge=2, le=50, description="Random splits")
    train_rows: int = Field(40, ge=5, le=500, description="Rows the learner fits and the attacker moves")
    validation_rows: int = Field(100, ge=5, le=2000, description="Untouched rows that lambda is evaluated on")
    rules: Rules = Rules()

    @field_validator("penalties", "noises")
    @classmethod
    def _each_once(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(values)))

    @property
    def last_steps(self) -> int:
        """How many steps the last player takes, one penalty after the other."""
        rules = self.rules
        return (
            len(self.penalties) * rules.outer_steps * (rules.attacker_steps + 1) * (rules.learner_steps + 1)
        )


class Outcome(Config):
    """Where one game of a sweep ended; ``None`` stands for a number that is not finite."""

    model: Model
    penalty: float | None = Field(description="c; the bilevel game has none")
    seed: int = Field(ge=0)
    strength: float | None = Field(description="lambda")
    weight_norm: float | None = Field(description="|theta|")
    perturbation: float | None = Field(description="Root mean square of P")
    validation_mse: float | None
    test_mse: float | None = Field(description="Without noise")
    bounded: bool = Field(
        description="c exceeds d |theta|^2: no perturbation of these weights pays without end"
    )
    steps: int = Field(ge=0, description="Of the hyperparameter")

    def mse(self, noise: float) -> float | None:
        """Expected test error under Gaussian noise on the inputs."""
        if self.test_mse is None or self.weight_norm is None:
            return None
        return self.test_mse + noise**2 * self.weight_norm**2
