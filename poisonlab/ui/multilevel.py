"""What the page of three players asks, plays and says."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import streamlit as st

from poisonlab.figures import multilevel as figures
from poisonlab.multilevel.comparison import Comparison, cells
from poisonlab.multilevel.data import MAX_BYTES, Table, TableError, diabetes, read_table, split
from poisonlab.multilevel.spec import ORDERS, Order, Outcome, Rules, SweepSpec
from poisonlab.multilevel.sweep import Played, play
from poisonlab.ui import charts, lesson, link
from poisonlab.ui.wording import escape

PENALTIES = (2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0, 1000.0)
NOISES = tuple(round(0.05 * i, 2) for i in range(31))
STEPS = {"attacker": (1, 2, 3, 5, 8, 10), "learner": (1, 3, 5, 10, 20), "outer": (5, 10, 15, 20)}
SEEDS = (10, 20)
GUESSES = {
    "always": "Yes, at every noise",
    "above": "Only when the noise is large",
    "below": "Only when the noise is small",
    "never": "No, at no noise",
}
TRUTHS = {
    "always": "trilevel has the lower mean error at every noise",
    "above": "trilevel has the higher mean error on clean inputs and the lower one above noise {crossing:.2f}",
    "below": "trilevel has the lower mean error on clean inputs and the higher one above noise {crossing:.2f}",
    "never": "trilevel has the higher mean error at every noise",
    "diverged": "the adversary ran away, and there is no model to compare",
}


@dataclass(frozen=True)
class Settings:
    """What the sliders say; all of it stands in the URL."""

    order: Order
    penalty: float
    noise: float
    seeds: int
    rules: Rules

    def spec(self, penalties: tuple[float, ...], noises: tuple[float, ...]) -> SweepSpec:
        return SweepSpec(
            order=self.order, penalties=penalties, noises=noises, seeds=self.seeds, rules=self.rules
        )


def choose_table() -> Table:
    """diabetes, or the table that somebody brings; one that cannot be used is explained and replaced."""
    with st.expander("Bring your own table", icon=":material/upload:"):
        st.markdown(
            "A CSV with a header, numbers only, no gaps, at most 30 inputs, 160 to 10,000 rows. It stays in this "
            "session: a link restores the sliders, not the table."
        )
        upload = st.file_uploader("CSV", type="csv", max_upload_size=max(1, MAX_BYTES // 2**20))
        if upload is None:
            return diabetes()
        raw = upload.getvalue()
        try:
            table = read_table(raw, upload.name)
            target = st.selectbox("Column to be predicted", [table.target, *table.features])
            table = read_table(raw, upload.name, target)
            split(table, SweepSpec().train_rows, SweepSpec().validation_rows, 2)
            return table
        except TableError as error:
            st.error(escape(f"This table cannot be used: {error}. The diabetes table is shown instead."))
            return diabetes()


def choose_settings() -> Settings:
    """The sliders."""
    with st.container(border=True):
        first = st.columns([2, 2, 2])
        order: Any = link.choice(
            first[0],
            "Who foresees whom",
            list(ORDERS),
            lambda o: ORDERS[cast(Order, o)],
            key="order",
            help=(
                "Who foresees the other moves before it. The paper's attacker foresees how the learner will "
                "answer to the moved data; in the other order the learner foresees the attacker."
            ),
        )
        penalty = lesson.slider(
            first[1],
            "Adversary's penalty c",
            PENALTIES,
            10.0,
            "penalty",
            "What moving the data costs. Small: a strong adversary.",
        )
        noise = lesson.slider(
            first[2],
            "Noise on the test inputs",
            NOISES,
            0.5,
            "noise",
            "Standard deviation of Gaussian noise on the standardised inputs, at test time.",
        )
        second = st.columns(4)
        attacker = lesson.slider(
            second[0], "Steps of the attacker", STEPS["attacker"], 5, "attacker_steps", "Its T."
        )
        learner = lesson.slider(
            second[1], "Steps of the learner", STEPS["learner"], 20, "learner_steps", "Its T."
        )
        outer = lesson.slider(
            second[2],
            "Steps of the hyperparameter",
            STEPS["outer"],
            15,
            "outer_steps",
            "Of lambda, the weight of the learner's penalty.",
        )
        seeds = lesson.slider(
            second[3],
            "Random splits",
            SEEDS,
            SEEDS[0],
            "splits",
            "Each is 40 rows to train on, 100 to validate on, the rest to test on.",
        )
    rules = Rules(attacker_steps=attacker, learner_steps=learner, outer_steps=outer)
    return Settings(order, penalty, noise, seeds, rules)


@st.cache_resource(max_entries=64, show_spinner=False)  # what a slider did not change is not played again
def _played(
    sha256: str, _table: Table, rules: str, penalty: float | None, order: Order, seeds: int
) -> Played:
    spec = SweepSpec()
    data = split(_table, spec.train_rows, spec.validation_rows, seeds)
    return play(data, Rules.model_validate_json(rules), penalty, order)


def both(table: Table, settings: Settings) -> dict[str, Played]:
    """The bilevel and the trilevel game under the settings."""
    rules = settings.rules
    alone = rules.model_copy(
        update={"attacker_steps": Rules().attacker_steps}
    )  # nobody attacks: one cache entry
    usual: Order = "min_max_min"
    return {
        "bilevel": _played(table.sha256, table, alone.model_dump_json(), None, usual, settings.seeds),
        "trilevel": _played(
            table.sha256, table, rules.model_dump_json(), settings.penalty, settings.order, settings.seeds
        ),
    }


def bands(outcomes: list[Outcome], noises: tuple[float, ...], paired: bool) -> dict[Any, figures.Band]:
    """Mean error, or paired difference to bilevel, with its interval: by model, or by penalty."""
    found: dict[Any, list[tuple[float, float, float]]] = {}
    for cell in cells(outcomes, noises):
        if not paired:
            found.setdefault(cell.model, []).append((cell.mean, cell.low, cell.high))
        elif cell.penalty is not None:
            found.setdefault(cell.penalty, []).append(
                (cell.difference, cell.difference_low, cell.difference_high)
            )
    arrays = {key: np.array(rows).T for key, rows in found.items()}
    return {key: (mean, low, high) for key, (mean, low, high) in arrays.items() if np.isfinite(mean).all()}


def verdict(compared: Comparison) -> str:
    """What the means say, and how surely."""
    text = TRUTHS[compared.verdict].format(crossing=compared.crossing)
    if compared.verdict == "diverged":
        return f"{text[0].upper()}{text[1:]}."
    sure = (
        "At no noise up to 3 is that sure for trilevel: the 95 % interval of the difference never lies below zero."
        if compared.sure is None
        else f"Trilevel is better with a 95 % interval below zero from noise {compared.sure[0]:.2f} to "
        f"{'3, where we stop looking' if compared.sure[1] >= 3 else f'{compared.sure[1]:.2f}'}."
    )
    return f"Over {compared.n} random splits, {text}. {sure}"


def at_noise(outcomes: list[Outcome], noise: float) -> None:
    """Both errors at the chosen noise, and their difference."""
    by_model = {cell.model: cell for cell in cells(outcomes, (noise,))}
    for column, (name, cell) in zip(st.columns(2), by_model.items(), strict=True):
        column.metric(
            f"{name}, noise {noise:g}",
            f"{cell.mean:.3f}",
            border=True,
            help=f"Mean test error over {cell.n} splits, 95 % interval {cell.low:.3f} to {cell.high:.3f}.",
        )
    cell = by_model["trilevel"]
    st.markdown(
        f"Trilevel minus bilevel on the same splits: **{cell.difference:+.4f}** "
        f"(95 % interval {cell.difference_low:+.4f} to {cell.difference_high:+.4f})."
    )


def ways(table: Table, played: dict[str, Played]) -> None:
    """How the players came to their answers, and what the attacker did to one split."""
    st.subheader("The way there", anchor=False)
    left, right = st.columns(2, gap="medium")
    charts.show(
        charts.drawn(
            figures.hyperparameter_paths, {name: game.strengths.numpy() for name, game in played.items()}
        ),
        key="strengths",
        alt="Lambda after each of its steps, for both models and every split",
        place=left,
    )
    left.caption("The adversary already keeps the weights short, so lambda falls where that suffices.")
    seed = right.select_slider(
        "Split", range(len(played["trilevel"].outcomes)), key="split", bind="query-params"
    )
    moved = played["trilevel"].perturbation
    if moved is not None and moved[seed].isfinite().all():
        charts.show(
            charts.drawn(figures.perturbation, moved[seed].numpy(), table.features),
            key="moved",
            alt="How far the attacker moved each input of each training row of the chosen split",
            place=right,
        )
        right.caption(
            f"What the attacker added to the training rows of split {seed}, in standard deviations."
        )
    charts.show(
        charts.drawn(
            figures.weight_paths,
            {name: game.weights[:, seed].numpy() for name, game in played.items()},
            table.features,
        ),
        key="weights",
        alt=f"The learner's weights after each step of lambda, on split {seed}, for both models",
    )
    st.caption(
        f"The learner's weights on split {seed}, a line for each input. Play follows the steps of lambda."
    )
