"""Leaderboard: a block ranked, then every measured combination, with repeats over seeds and their spread."""

import streamlit as st

from poisonlab.figures import board as figures
from poisonlab.measure import catalogue
from poisonlab.runner import runtime
from poisonlab.ui import board, charts, glossary, link, navigation, page, ranking, selector
from poisonlab.ui.command import leaderboard_command

page.header(
    "Leaderboard",
    "Defenses ranked over the attacks they were measured against, and below every experiment that was measured.",
    "A defense is only as good as its worst attack, and a low attack success means little if accuracy went "
    "with it or if chance alone (the control) does as much.",
)
store = runtime.get().store
names = store.runs.names()
if not any(names.values()):
    page.nothing_yet("Here you would compare attacks and defenses.", page.BACKDOOR_DEMO)
    st.stop()
ranking.show()
ranking.agreement()

st.subheader("All experiments", anchor=False)
with st.container(border=True):
    chosen = selector.filters(names, ("dataset", "attack", "defense", "preset", "source"))
    threat, sort, descending = board.order()
rows = store.leaderboard.rows(**chosen, sort=sort, descending=descending)
if threat != "all":
    rows = rows[rows["threat"] == threat].reset_index(drop=True)

if rows.empty:
    st.info("No measured row fits these filters. Clear one of them, or queue the missing runs.")
    navigation.link("experiment", "Set up an experiment")
    st.stop()

selected = board.table(rows)
board.downloads(rows)
if selected is not None:
    board.selection(selected)
if (rows["n"] == 0).all():
    page.all_collapsed()
    st.stop()

st.subheader("Attack × defense", anchor=False)
left, right = st.columns([3, 1], vertical_alignment="bottom")
metric = link.segments(
    left,
    "Metric",
    [metric.name for metric in catalogue.comparable()],
    default=catalogue.SUCCESS,
    format_func=glossary.label,
    key="metric",
)
of_one = board.of_one_dataset(rows, right)
st.caption(
    f"{glossary.help_for(metric)} Each cell is the mean over the rows above that have the preset's own values. "
    "Where only changed values were measured it is the mean over those, with a star; empty cells were not measured."
)
charts.show(
    figures.heatmap(of_one, metric, glossary.label(metric)),
    key="heatmap",
    alt=f"Heatmap of {glossary.label(metric)} by attack and defense",
)

st.subheader("What a defense costs", anchor=False)
st.caption(
    "Lower right is best: the attack fails and the model still works. Filter: few rows get bars, which are 95 % "
    "intervals over seeds, and very few a dotted line from the undefended model to the defended one."
)
charts.show(
    figures.trade_off(rows.head(board.SCATTERED)),
    key="tradeoff",
    alt="Scatter of clean accuracy against attack success, one mark for each row of the table",
)
if len(rows) > board.SCATTERED:
    st.caption(f"The first {board.SCATTERED} of {len(rows)} rows are drawn; filter to see others.")

st.subheader("Reproduce", anchor=False)
st.code(leaderboard_command(sort, descending, **chosen), language="bash", wrap_lines=True)
