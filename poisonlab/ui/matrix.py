"""Setting up every combination of several choices."""

from itertools import product
from typing import Any

import streamlit as st

from poisonlab.spec.config import PRESETS, ExperimentSpec, SpecError, make_spec
from poisonlab.ui import launch, link, page
from poisonlab.ui.command import sweep_command
from poisonlab.ui.entered import SHOWN
from poisonlab.ui.experiment import DEFAULTS, MAX_REPEATS, MAX_SEED, REPEATS_HELP, SEED_HELP
from poisonlab.ui.offered import offered
from poisonlab.ui.wording import escape

MAX_JOBS = 2000  # of one matrix: a whole board of one dataset


def matrix() -> None:
    """Every combination of the chosen datasets, attacks, defenses and seeds, with the preset's values."""
    chosen: dict[str, list[str]] = {}
    for column, kind in zip(st.columns(3), ("dataset", "attack", "defense"), strict=True):
        chosen[kind] = column.multiselect(
            f"{kind.capitalize()}s",
            offered(kind),
            default=[DEFAULTS[kind]],
            key=f"many_{kind}",
            bind="query-params",
        )
    left, middle, right = st.columns(3)
    preset = left.selectbox("Preset", PRESETS, key="many_preset", bind="query-params")
    first = link.number(middle, "First seed", 0, MAX_SEED, key="many_seed", help=SEED_HELP)
    count = link.number(right, "Seeds", 1, MAX_REPEATS, key="many_seeds", help=REPEATS_HELP, usual=3)
    seeds = [first + i for i in range(count)]
    number = len(chosen["dataset"]) * len(chosen["attack"]) * len(chosen["defense"]) * len(seeds)
    if number == 0:
        st.info("Choose at least one dataset, one attack and one defense.")
        return
    if number > MAX_JOBS:
        st.error(f"{number} runs are more than the {MAX_JOBS} that can be queued at once; choose fewer.")
        return
    specs, refused = _combine(chosen, seeds, preset)
    for message in refused[:SHOWN]:
        st.warning(escape(message))
    if len(refused) > SHOWN:
        st.caption(f"{len(refused) - SHOWN} more cannot be run.")
    if not specs:
        return
    st.code(
        sweep_command(chosen["dataset"], chosen["attack"], chosen["defense"], seeds, preset),
        language=None,
        wrap_lines=True,
    )
    device = launch.bar(specs, f"Queue {len(specs)} runs")
    if device is not None:
        page.submit(specs, device)


def _combine(
    chosen: dict[str, list[str]], seeds: list[int], preset: Any
) -> tuple[list[ExperimentSpec], list[str]]:
    """The specs, and a line for each combination that cannot be."""
    specs = []
    refused = []
    for seed, dataset, attack, defense in product(
        seeds, chosen["dataset"], chosen["attack"], chosen["defense"]
    ):
        try:
            specs.append(make_spec(dataset, attack, defense, preset=preset, seed=seed))
        except SpecError as error:
            refused.append(f"{dataset}, {attack}, {defense}: {error}")
    return specs, list(dict.fromkeys(refused))
