"""Trials: how sure a rate of success is, target by target and class by class."""

import streamlit as st

from poisonlab import registry
from poisonlab.figures.trials import class_success, target_intervals
from poisonlab.ui import charts, glossary, link, page, trials

page.header(
    "Trials",
    "The success of an attack over its targets or target classes, each a trial of its own, with intervals.",
    "One percentage hides how few trials are behind it and how much they differ: an attack that owns one class and "
    "fails on nine is not an attack of 10 %.",
)
view = link.segments(
    st,
    "Trials are",
    list(trials.THREATS),
    default="targets",
    key="view",
    help="Targets of a targeted poison, or target classes of a backdoor. " + glossary.help_for("trials"),
)
setting = trials.choose(view)
if setting is None:
    trials.nothing(view)
    st.stop()
models = trials.by_line(setting.rows)
class_count = getattr(registry.dataset[setting.dataset], "class_count", 10)

if models["success"].isna().all():
    page.all_collapsed()
elif view == "targets":
    lines = trials.over_targets(models)
    st.subheader("Share of targets fooled", anchor=False, help=glossary.help_for("wilson"))
    charts.show(
        charts.drawn(target_intervals, lines),
        key="intervals",
        alt="Share of targets fooled with its interval, for each model",
    )
    st.caption("Marks are shares, bars Wilson's 95 % intervals. Targets of all seeds are counted together.")
    st.markdown(trials.resolution(int(lines["n"].max())))

    st.subheader("Target by target", anchor=False)
    record = trials.choose_run(setting)
    found = page.load(record, "TargetGallery") if record else {}
    if found:
        trials.targets(found["TargetGallery"], defended=record.spec.defense.name != "none")
    else:
        st.info("The targets of this run cannot be read.")
else:
    classes = trials.over_seeds(models)
    lines = trials.over_classes(classes)
    names = trials.class_names(setting)
    st.subheader("Success by target class", anchor=False, help=glossary.help_for("asr"))
    charts.show(
        charts.drawn(class_success, classes, lines, names),
        key="classes",
        alt="Attack success for each target class and model, with means and worst classes",
    )
    st.caption(
        "Each mark is the mean over the seeds of its class. On the right the mean over classes with its bootstrap "
        "interval, and a dash where the worst class is."
    )
    trials.class_table(lines, names)
    measured = int(lines["classes"].max())
    if measured < class_count:
        st.info(
            f"Measured for {measured} of {class_count} target classes: a mean over few classes says little of the "
            "others, and below three there is no interval. Queue the missing ones below."
        )

trials.launcher(setting, view, class_count)
