"""Several purifications of the same images in numbers, and one of them as its strength varies."""

from typing import Any

import pandas as pd
import streamlit as st

from poisonlab import registry
from poisonlab.figures.purification import strength_curve
from poisonlab.figures.style import POISONED
from poisonlab.measure.metrics import psnr
from poisonlab.records.artifacts import PurificationTrace
from poisonlab.spec.config import SpecError
from poisonlab.spec.overrides import changed
from poisonlab.store.purification import by_strength
from poisonlab.ui import beside, charts, galleries, glossary, link, page, results, series, tables
from poisonlab.ui.energy import decibels
from poisonlab.ui.wording import NONE, escape, percent

COLUMN = st.column_config
Run = tuple[str, Any, PurificationTrace]  # name of the defense, record of the run, what it showed


def pictures(runs: list[Run], recorded: int) -> None:
    """The images that all runs hold, before and after each.

    Args:
        recorded: how many images the run of the page recorded.
    """
    first = runs[0][2]
    above = st.container()
    which = link.segments(
        st,
        "Images",
        ["poisoned", "untouched"],
        default="poisoned",
        key="which",
        help="Poisoned images should lose their perturbation; untouched ones should stay as they are.",
    )
    rows = (first.poisoned if which == "poisoned" else ~first.poisoned).nonzero().squeeze(1)
    with above:
        if len(rows):
            galleries.purified([(label, beside.take(trace, rows)) for label, _, trace in runs])
        else:
            st.info(f"There are no {which} images to show.")
    if len(first.before) < recorded:
        st.caption(f"{len(first.before)} of the {recorded} images of this run were shown by all of them.")


def numbers(runs: list[Run]) -> None:
    """One row a run: what its purification costs, what it leaves, and what came of it."""
    rows = []
    for name, record, trace in runs:
        metrics = record.metrics
        success = "asr" if "asr" in metrics else "poison_success"
        rows.append(
            {
                "defense": name,
                "untouched": decibels(psnr(trace.after[~trace.poisoned], trace.original[~trace.poisoned])),
                "poisoned": decibels(psnr(trace.after[trace.poisoned], trace.original[trace.poisoned])),
                "surviving": percent(metrics.get("surviving_share")),
                "clean_accuracy": metrics.get("clean_accuracy"),
                "success": metrics.get(success),
            }
        )
    st.dataframe(
        pd.DataFrame(rows),
        column_config={
            "defense": COLUMN.TextColumn("Purified by"),
            "untouched": COLUMN.TextColumn("PSNR, clean", help=glossary.help_for("psnr_untouched_purified")),
            "poisoned": COLUMN.TextColumn("PSNR, poisoned", help=glossary.help_for("psnr_poisoned_purified")),
            "surviving": COLUMN.TextColumn("Surviving share", help=glossary.help_for("surviving_share")),
            "clean_accuracy": tables.share("clean_accuracy"),
            "success": tables.share("success", color=POISONED),
        },
        hide_index=True,
        placeholder=NONE,
        height=tables.height(len(rows)),
        key="purified_by",
        alt="PSNR, surviving share of the perturbation, clean accuracy and attack success of each run shown",
    )


def strengths(record: Any) -> None:
    """Accuracy against success as this defense purifies harder or less, and the values that are missing."""
    defense = record.spec.defense
    knobs = registry.defense[defense.name].strength if defense.name in registry.defense else ()
    if not knobs:
        return
    st.subheader(
        "More or less of it",
        anchor=False,
        help="  \n".join(glossary.help_for(name) for name in ("clean_accuracy", "success", "interval")),
    )
    knob = knobs[0]
    if len(knobs) > 1:
        knob = link.segments(
            st,
            "Vary",
            list(knobs),
            default=knob,
            key="knob",
            help="What tells the runs below apart; all else is equal.",
        )
    own = getattr(defense.params, knob)
    if not isinstance(own, int):  # recorded by another version of the defense
        return
    described = registry.defense[defense.name].Config.model_fields[knob].description
    st.markdown(f"`{knob}`: {escape(described)}. This run: **{own}**.")
    rows = results.strengths(record.run_id, knob)
    measured = rows.dropna(subset=["clean_accuracy", "success"])
    if measured.empty and not rows.empty:
        page.all_collapsed()
    elif measured["value"].nunique() < 2:
        st.info(
            f"Only one value of {escape(knob)} was measured, with all else equal. Queue others below, to see what more "
            "or less purification gives."
        )
    else:
        charts.show(
            charts.drawn(strength_curve, measured, by_strength(measured), knob, own),
            key="strengths",
            alt=f"Clean accuracy against attack success for each value of {knob}, with intervals",
        )
        st.caption(
            f"Each mark is a value of {escape(knob)}, the star this run; up and to the left is better. Bars are 95 % "
            "intervals: across for success, Wilson's over targets or Student's over seeds, upright for accuracy over "
            "seeds, both where there are enough."
        )
    _launcher(record, knob, own, rows)


def _launcher(record: Any, knob: str, own: int, rows: pd.DataFrame) -> None:
    """Queue the values of the parameter that are missing."""
    spec = record.spec
    name = f"defense.{knob}"
    values = {k: v for k, v in changed(spec).items() if k != name}
    setting = series.Setting(spec.dataset.name, spec.attack.name, spec.victim.name, spec.preset, values, rows)
    if spec.obstacle():
        return
    st.markdown("**Measure more**")
    left, middle, right = st.columns([2, 1, 1])
    usual = ", ".join(str(v) for v in _usual(setting, spec, name, own, rows))
    text = left.text_input(
        f"Values of {escape(knob)}",
        usual,
        key=f"values_{knob}",
        bind="query-params",
        max_chars=200,
        help="Whole numbers, separated by commas; at first those measured, and a quarter, half and twice this run's.",
    )
    seeds = series.choose_seeds(middle, right, "strength", first=spec.seed)
    wanted = series.whole_numbers(text)
    if not wanted:
        st.info("Enter at least one whole number, such as 50, 100.")
        return
    series.launcher(setting, [spec.defense.name], seeds, name, wanted, what="values")


def _usual(setting: series.Setting, spec: Any, name: str, own: int, rows: pd.DataFrame) -> list[int]:
    """Values to start with; those that the method refuses are left out."""
    found = set(rows["value"].astype(int))
    for value in (own // 4, own // 2, own, 2 * own):
        try:
            setting.spec(spec.defense.name, spec.seed, {name: value})
        except SpecError:
            continue
        found.add(value)
    return sorted(found)
