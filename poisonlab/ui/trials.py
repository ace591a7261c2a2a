"""Which attack the Trials page shows, its tables, and the trials that are missing."""

import base64
import math
from typing import Any

import pandas as pd
import streamlit as st

from poisonlab import registry
from poisonlab.figures.pixels import enlarged
from poisonlab.figures.png import as_png
from poisonlab.figures.style import POISONED
from poisonlab.measure import intervals
from poisonlab.records.artifacts import TargetGallery
from poisonlab.runner import runtime
from poisonlab.spec.overrides import changed
from poisonlab.store import StoreError, trials
from poisonlab.store.job import parse_spec
from poisonlab.ui import glossary, link, navigation, page, series, shared, tables
from poisonlab.ui.tables import dicts
from poisonlab.ui.wording import NONE, percent

THREATS = {"targets": "targeted", "classes": "backdoor"}
DEMOS = {"targets": page.TARGETED_DEMO, "classes": page.BACKDOOR_DEMO}
# of a setting's runs, computed once for all viewers: the bootstrap over classes takes a while
by_line = shared.of_arguments(trials.by_line)
over_targets = shared.of_arguments(trials.over_targets)
over_seeds = shared.of_arguments(trials.over_seeds)
over_classes = shared.of_arguments(trials.over_classes)
PICTURE = 48  # pixels of a target in the table
WISHED = {
    "p_control": "p, control",
    "p_undefended": "p, undef.",
    "p_defended": "p, defended",
}
COLUMN = st.column_config


def choose(view: str) -> series.Setting | None:
    """One of the measured attacks, in the URL; ``None`` where there is none yet."""
    found = _settings(THREATS[view])
    if not found:
        return None
    chosen = link.choice(st, "Attack", list(found), lambda name: _label(found[name], view), key=f"{view}_of")
    names = {k: found[chosen][k] for k in ("dataset", "attack", "victim", "preset", "values")}
    return series.Setting(**names, rows=_rows(chosen))


@shared.of_results
def _settings(threat: str) -> dict[str, dict[str, Any]]:
    """The measured attacks of a threat by their settings; ``values`` are those that differ from the preset's."""
    found = {}
    for row in dicts(runtime.get().store.trials.settings(threat)):
        try:
            spec = parse_spec(row["spec"])
        except StoreError:  # measured by another version of the program
            continue
        own = ("defense.", "attack.target_class") if threat == THREATS["classes"] else ("defense.",)
        values = {k: v for k, v in changed(spec).items() if not k.startswith(own)}
        found[row["setting"]] = row | {"values": values, "preset": spec.preset}
    return found


@shared.of_results
def _rows(setting: str) -> pd.DataFrame:
    """The runs of a setting, see :meth:`~poisonlab.store.trials.Trials.rows`."""
    return runtime.get().store.trials.rows(setting)


def _label(row: dict[str, Any], view: str) -> str:
    marks = [f"{row['dataset']} · {row['attack']}", f"{row['victim']}, {row['preset']}"]
    marks += [", ".join(f"{k} {v}" for k, v in row["values"].items())] if row["values"] else []
    count = f"{row['classes']} classes, {row['runs']} runs" if view == "classes" else f"{row['runs']} runs"
    return "  |  ".join([*marks, count])


def nothing(view: str) -> None:
    """Instead of a picture: what it would show, and a run that begins it."""
    sees = {
        "targets": "how sure the success of a targeted poison is",
        "classes": "a backdoor by its target class",
    }
    page.nothing_yet(f"Here you would see {sees[view]}.", DEMOS[view])


# -- targets --------------------------------------------------------------------------------------------


def resolution(n: int) -> str:
    """In words: how far apart rates must be for ``n`` targets to tell them apart."""
    low, high = intervals.proportion_interval(n // 2, n)
    none = intervals.proportion_interval(0, n)[1]
    deviation = 50 / n**0.5
    return (
        f"Each target is one throw of a coin. With **{n} targets** a rate near one half has a standard error of "
        f"{deviation:.0f} points, and its 95 % interval reaches from {percent(low)} to {percent(high)}, that is "
        f"{50 * (high - low):.0f} points to either side; none fooled of {n} still allows a true rate of up to "
        f"{percent(none)}. Half the width takes four times as many targets."
    )


def choose_run(setting: series.Setting) -> Any | None:
    """The record of one run of the setting, in the URL; those with a defense come first."""
    rows = setting.rows.sort_values("defense", key=lambda names: names == "none", kind="stable")
    labels = {row["run_id"]: f"{row['line']}, seed {row['seed']}" for row in dicts(rows)}
    return page.known(link.choice(st, "Run", list(labels), labels.__getitem__, key="targets_run"))


def known_targets(gallery: TargetGallery, defended: bool) -> str:
    """In words: how many of the targets that the control reads rightly are fooled, and how sure the models are."""
    known = gallery.predicted_control == gallery.true_labels
    n = int(known.sum())
    if not n:
        return "The control reads none of the targets rightly: nothing here can be put down to the poison."
    parts = []
    predictions = {"undefended": gallery.predicted_undefended} | (
        {"defended": gallery.predicted_defended} if defended else {}
    )
    for number, (name, labels) in enumerate(predictions.items(), 1):
        hits = int((labels == gallery.adversarial_labels)[known].sum())
        low, high = intervals.proportion_interval(hits, n)
        part = f"**{hits}** are fooled {name} (95 % interval {percent(low)} to {percent(high)}"
        if len(gallery.adversarial_probability):
            sure = gallery.adversarial_probability[number][known].tolist()
            low, high = intervals.bootstrap_interval(sure)
            within = "" if math.isnan(low) else f", {low:.2f} to {high:.2f}"
            part += f"; mean probability of the adversarial class {sum(sure) / n:.2f}{within}"
        parts.append(f"{part})")
    control = (
        f" The control gives it {gallery.adversarial_probability[0][known].mean():.2f}."
        if len(gallery.adversarial_probability)
        else ""
    )
    return (
        f"The control reads **{n}** of {len(known)} targets rightly. Of these {' and '.join(parts)}.{control}"
    )


def targets(gallery: TargetGallery, defended: bool) -> None:
    """Every target of a run with the answer of each model, and what changed between undefended and defended."""
    st.markdown(known_targets(gallery, defended), help=glossary.help_for("adversarial_probability"))
    wish = gallery.adversarial_labels
    before = gallery.predicted_undefended == wish
    after = gallery.predicted_defended == wish
    lost = int((before & ~after).sum())
    gained = int((~before & after).sum())
    if defended:
        st.markdown(
            f"The defense saves **{lost}** targets that are fooled without it and loses **{gained}** that are not; "
            f"{int((before & after).sum())} are fooled either way. If it made no difference, one at least as large "
            f"would arise by chance with probability {intervals.sign_test(lost, gained):.2g} (exact McNemar test)."
        )
    frame = _target_table(gallery)
    st.dataframe(
        frame,
        column_config={
            "image": COLUMN.ImageColumn("Target", width="small"),
            "true": COLUMN.TextColumn("True class"),
            "wished": COLUMN.TextColumn(
                "Wished", help="The class that the attacker wants the image to be given."
            ),
            "control": COLUMN.TextColumn("Control", help=glossary.help_for("control")),
            "undefended": COLUMN.TextColumn("Undefended", help="What the undefended model says."),
            "fooled": COLUMN.CheckboxColumn(
                "Fooled", help="The undefended model gives the adversarial class."
            ),
            "defended": COLUMN.TextColumn("Defended", help="What the defended model says."),
            "still": COLUMN.CheckboxColumn(
                "Fooled still", help="The defended model gives the adversarial class."
            ),
        }
        | {
            column: COLUMN.ProgressColumn(
                label,
                help="Probability of the wished class.",
                min_value=0,
                max_value=1,
                format="%.2f",
                width="small",
            )
            for column, label in WISHED.items()
        },
        row_height=PICTURE + 8,
        height=tables.HEADER + (PICTURE + 8) * min(len(frame), 50) + 2,
        key="target_table",
        alt="Every target image with its true class, the adversarial class, and the prediction of each model",
    )


@shared.of_arguments
def _target_table(gallery: TargetGallery) -> pd.DataFrame:
    """One row a target: its picture, its class, what each model says of it, and how sure it is of what is wished."""

    def named(labels: Any) -> list[str]:
        return [gallery.classes[int(i)] for i in labels]

    wish = gallery.adversarial_labels
    frame = pd.DataFrame(
        {
            "image": [_picture(image) for image in gallery.images],
            "true": named(gallery.true_labels),
            "wished": named(wish),
            "control": named(gallery.predicted_control),
            "undefended": named(gallery.predicted_undefended),
            "fooled": (gallery.predicted_undefended == wish).tolist(),
            "defended": named(gallery.predicted_defended),
            "still": (gallery.predicted_defended == wish).tolist(),
        },
        index=range(1, len(wish) + 1),
    )
    for column, sure in zip(WISHED, gallery.adversarial_probability, strict=False):
        frame[column] = sure.tolist()
    return frame


def _picture(image: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(as_png(enlarged(image, PICTURE))).decode()


# -- classes --------------------------------------------------------------------------------------------


def class_names(setting: series.Setting) -> list[str]:
    """As a run of the setting calls them, else their numbers."""
    record = page.known(str(setting.rows["run_id"].iloc[0]))
    found = page.load(record, "TriggerTruth") if record else {}
    last = int(setting.rows["target_class"].max())
    return found["TriggerTruth"].classes if found else [str(i) for i in range(last + 1)]


def class_table(lines: pd.DataFrame, names: list[str]) -> None:
    """One row a line: mean, spread, interval and worst class."""
    interval = [
        NONE if pd.isna(low) else f"{percent(low)} to {percent(high)}"
        for low, high in zip(lines["low"], lines["high"], strict=True)
    ]
    st.dataframe(
        lines.assign(interval=interval, worst_name=[names[c] for c in lines["worst_class"]]),
        column_order=[
            "line",
            "classes",
            "n",
            "success",
            "deviation",
            "interval",
            "worst",
            "worst_name",
            "clean_accuracy",
        ],
        column_config={
            "line": COLUMN.TextColumn("Model"),
            "classes": COLUMN.NumberColumn("Classes"),
            "n": COLUMN.NumberColumn("Runs", help="Over classes and seeds."),
            "success": tables.share("success", "Mean", POISONED),
            "deviation": tables.percentage("class_spread", "Deviation"),
            "interval": COLUMN.TextColumn("95 % interval", help=glossary.help_for("bootstrap")),
            "worst": tables.share("worst_class", "Maximum", POISONED),
            "worst_name": COLUMN.TextColumn("Worst class"),
            "clean_accuracy": tables.percentage("clean_accuracy", "Clean accuracy"),
        },
        hide_index=True,
        placeholder=NONE,
        height=tables.height(len(lines)),
        key="class_table",
        alt="Mean, deviation, interval and maximum of the attack's success over target classes, for each model",
    )


# -- more of them ---------------------------------------------------------------------------------------


def launcher(setting: series.Setting, view: str, class_count: int) -> None:
    """Queue trials that are missing: every target class, or more seeds with other targets."""
    st.subheader("Measure more", anchor=False)
    measured = [name for name in setting.rows["defense"].unique() if name in list(registry.defense)]
    left, middle, right = st.columns([2, 1, 1])
    defenses = left.multiselect(
        "Defenses", list(registry.defense), default=measured, key=f"{view}_defense", bind="query-params"
    )
    seeds = series.choose_seeds(middle, right, view)
    if not defenses:
        st.info("Choose at least one defense; none is one, too.")
        return
    if view == "classes":
        series.launcher(setting, defenses, seeds, "attack.target_class", range(class_count), what="trials")
    else:
        series.launcher(setting, defenses, seeds, what="trials")
    navigation.link("leaderboard", "All repeats as rows", attack=setting.attack, dataset=setting.dataset)
