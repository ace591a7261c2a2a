"""Series of runs that share all but a few values: the points that are missing, and the command that measures them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd
import streamlit as st

from poisonlab import registry
from poisonlab.runner import runtime
from poisonlab.spec.config import ExperimentSpec, SpecError, make_spec, usual_victim
from poisonlab.ui import launch, link, page, theme
from poisonlab.ui.command import sweep_command
from poisonlab.ui.experiment import MAX_REPEATS, MAX_SEED, REPEATS_HELP, SEED_HELP
from poisonlab.ui.matrix import MAX_JOBS
from poisonlab.ui.wording import escape


@dataclass(frozen=True)
class Setting:
    """What all runs of a picture share.

    Attributes:
        values: dotted name -> value, those that the preset does not have.
        rows: the finished runs, with ``group`` and ``seed``.
    """

    dataset: str
    attack: str
    victim: str
    preset: Any
    values: dict[str, Any]
    rows: pd.DataFrame

    def spec(self, defense: str, seed: int, overrides: Mapping[str, Any] | None = None) -> ExperimentSpec:
        """A run of this setting; ``overrides`` are the values in which it differs from others."""
        return make_spec(
            self.dataset,
            self.attack,
            defense,
            preset=self.preset,
            seed=seed,
            victim=self.victim,
            overrides=self.values | dict(overrides or {}),
        )

    def command(
        self, defenses: Sequence[str], seeds: Sequence[int], varied: str, values: Sequence[Any]
    ) -> str:
        """What measures a series from a shell; the command has lists for clean images only, others take a loop."""
        budgets = values if varied == "clean_images" else ()
        usual = usual_victim(self.dataset, self.preset)
        command = sweep_command(
            [self.dataset],
            [self.attack],
            defenses,
            seeds,
            self.preset,
            victim="" if self.victim == usual else self.victim,
            clean_images=budgets,
            settings=self.values,
        )
        if not varied or budgets:
            return command
        name = varied.rpartition(".")[2]
        return f'for {name} in {" ".join(map(str, values))}; do\n  {command} --set "{varied}=${name}"\ndone'


def choose_seeds(
    first_place: Any, count_place: Any, key: str, first: Any = "min", count: Any = "min"
) -> list[int]:
    """Consecutive seeds, in the URL; ``first`` and ``count`` are what the fields start with."""
    start = link.number(
        first_place, "First seed", 0, MAX_SEED, key=f"{key}_seed", help=SEED_HELP, usual=first
    )
    many = link.number(
        count_place, "Seeds", 1, MAX_REPEATS, key=f"{key}_seeds", help=REPEATS_HELP, usual=count
    )
    return [start + i for i in range(many)]


def whole_numbers(text: str) -> list[int]:
    """Those of a list that commas separate, each once; none where the text is anything else."""
    listed = re.fullmatch(r"[0-9,\s]+", text)
    return list(dict.fromkeys(int(n) for n in re.findall(r"[0-9]{1,6}", text))) if listed else []


def launcher(
    setting: Setting,
    defenses: Sequence[str],
    seeds: Sequence[int],
    varied: str = "",
    values: Sequence[Any] = (),
    *,
    what: str = "points",
) -> None:
    """Queue those runs of a series that are neither measured nor queued, after saying what they cost.

    Args:
        varied: dotted name of what takes all of ``values``; empty where only defense and seed differ.
        what: the runs are called.
    """
    changes: list[dict[str, Any]] = [{varied: value} for value in values] if varied else [{}]
    if len(defenses) * len(changes) * len(seeds) > MAX_JOBS:
        st.error(f"These are more than the {MAX_JOBS} runs that can be queued at once; choose fewer.")
        return
    try:
        specs = [setting.spec(d, seed, change) for seed, d, change in product(seeds, defenses, changes)]
    except (SpecError, registry.UnknownName) as error:
        st.error(escape(error), icon=":material/error:")
        return
    known = (
        set(zip(setting.rows["group"], setting.rows["seed"], strict=True))
        | runtime.get().store.jobs.queued().keys()
    )
    missing = [spec for spec in specs if (spec.group(), spec.seed) not in known]
    if missing:
        expected = launch.cost(missing)
        with st.container(horizontal=True, vertical_alignment="center"):
            pressed = st.button(
                f"Queue {len(missing)} missing run{'s' * (len(missing) > 1)}",
                type=theme.main_button(),
                icon=":material/playlist_add:",
            )
            device = launch.device()
        if launch.decided(missing, expected, pressed):
            page.submit(missing, device)
    else:
        st.success(f"All of these {what} are measured or queued.")
    st.code(setting.command(defenses, seeds, varied, values), language=None, wrap_lines=True)
