"""Which setting the Budget page shows, and the runs that are missing from it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from poisonlab import registry
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.runner import runtime
from poisonlab.spec.config import PRESETS, usual_victim
from poisonlab.spec.overrides import changed
from poisonlab.store import StoreError
from poisonlab.store.job import parse_spec
from poisonlab.ui import glossary, link, navigation, page, results, series
from poisonlab.ui.experiment import DEFAULTS
from poisonlab.ui.offered import offered
from poisonlab.ui.tables import dicts
from poisonlab.ui.wording import escape

KINDS = ("dataset", "attack", "preset", "victim")
PRESETS_OWN = "preset"  # the setting that no run was measured in yet
USUAL_DEFENSES = 4  # lines that the launcher starts with, at most


def learns_from_clean_images(defense: str) -> bool:
    """Whether more clean images can change what a defense does."""
    if defense not in list(registry.defense):
        return False
    kind = registry.defense[defense]
    return bool(kind.repairs() and kind.needs_clean_images)


def choose() -> series.Setting:
    """Dataset, attack, victim and preset, each in the URL; and, of several settings that these have, which one."""
    store = runtime.get().store
    with st.container(border=True):
        names: dict[str, Any] = {}
        for column, kind in zip(st.columns(len(KINDS)), KINDS, strict=True):
            options: list[str] = list(PRESETS) if kind == "preset" else offered(kind)
            usual = DEFAULTS.get(kind, PRESETS[0])
            if kind == "victim":
                usual = usual_victim(names["dataset"], names["preset"])
            options = [usual, *(o for o in options if o != usual)]
            link.hint_choice(_key(kind, names), kind, options)
            names[kind] = column.selectbox(
                kind.capitalize(), options, key=_key(kind, names), bind="query-params"
            )
        values = _measured(names)
        chosen = next(iter(values), PRESETS_OWN)
        if len(values) > 1:
            link.hint_choice("setting", "setting", values)
            chosen = st.selectbox(
                "Parameters",
                list(values),
                format_func=lambda name: _named(values[name]),
                key="setting",
                bind="query-params",
                help="Runs of this attack were measured with different parameters.",
            )
    rows = store.budgets.rows(chosen)
    rows = rows[rows["defense"].map(learns_from_clean_images).astype(bool)].reset_index(drop=True)
    return series.Setting(**names, values=values.get(chosen, {}), rows=rows)


def _key(kind: str, names: Mapping[str, str]) -> str:
    """Of a selector in the URL; each dataset and preset has its own usual victim."""
    return f"of_{kind}_{names['dataset']}_{names['preset']}" if kind == "victim" else f"of_{kind}"


def _measured(names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Settings with runs -> the values that the preset does not have; the preset's own setting comes first."""
    every = results.budget_settings()
    found = {}
    for row in dicts(every[(every[list(names)] == pd.Series(names)).all(axis=1)]):
        try:
            found[row["setting"]] = _shared(parse_spec(row["spec"]))
        except StoreError:  # measured by another version of the program
            continue
    return dict(sorted(found.items(), key=lambda item: bool(item[1])))


def _shared(spec: RecordedSpec) -> dict[str, Any]:
    """Values that differ from the preset's and belong to all runs of the setting."""
    return {k: v for k, v in changed(spec).items() if k != "clean_images" and not k.startswith("defense.")}


def _named(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "the preset's values"


def elsewhere(setting: series.Setting) -> None:
    """Instead of a picture: what it would show, a way to fill it, and links to what was measured."""
    every = results.budget_settings()
    taught = every["defenses"].map(lambda names: any(map(learns_from_clean_images, names))).astype(bool)
    measured = every[taught]
    if measured.empty:
        page.nothing_yet("Here you would see how many clean images each defense needs.", page.UNLEARNING_DEMO)
        return
    st.info(
        f"No defense that learns from clean images was measured against {escape(setting.attack)} on "
        f"{escape(setting.dataset)} yet. Queue some runs below, or look at what there is:"
    )
    with st.container(horizontal=True):
        for row in dicts(measured.drop_duplicates(list(KINDS)).head(8)):
            query = {_key(kind, row): row[kind] for kind in KINDS}
            navigation.link("budget", f"{row['dataset']} × {row['attack']} ({row['preset']})", **query)


def usual_budgets(setting: series.Setting) -> list[int]:
    """1, 2, 5, 10, ...: from one image a class to 5 % of the training set."""
    spec = setting.spec("none", 0, {"clean_images": 0})
    dataset: Any = spec.dataset.params
    training = dataset.train_images if spec.protocol == "from_scratch" else dataset.head_images
    every = getattr(registry.dataset[setting.dataset], "class_count", 10)
    first = getattr(dataset, "classes", every)  # a dataset may be cut to some of its classes
    last = max(first, min(round(0.05 * training), dataset.reserve_images))
    steps = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
    return [first, *(n for n in steps if 1.5 * first <= n <= last / 1.5), *([last] if last > first else [])]


def launcher(setting: series.Setting) -> None:
    """Queue the points that are missing from the chosen lines."""
    st.subheader("Measure more", anchor=False)
    options = [name for name in registry.defense if learns_from_clean_images(name)]
    measured = list(setting.rows["defense"].value_counts().index[:USUAL_DEFENSES])
    left, right = st.columns(2)
    defenses = left.multiselect(
        "Defenses",
        options,
        default=measured or [page.UNLEARNING_DEMO[2]],
        key="budget_defense",
        bind="query-params",
    )
    usual = ", ".join(str(n) for n in usual_budgets(setting))
    text = right.text_input(
        "Clean images",
        usual,
        key="budgets",
        bind="query-params",
        max_chars=200,
        help=f"{glossary.help_for('clean_images')} Whole numbers, separated by commas; at first from one image a class "
        "to 5 % of the training set.",
    )
    seeds = series.choose_seeds(*st.columns(2), "budget", count=3)
    budgets = series.whole_numbers(text)
    if not budgets or not defenses:
        st.info("Choose at least one defense and one number of clean images, such as 10, 50, 500.")
        return
    series.launcher(setting, defenses, seeds, "clean_images", budgets)
