"""Leaderboard: a block ranked and in pictures, then every measured combination with its repeats over seeds."""

import streamlit as st

from poisonlab.ui import board, navigation, page, ranking, results, selector
from poisonlab.ui.command import leaderboard_command

page.header(
    "Leaderboard",
    "Defenses ranked over the attacks they were measured against, and below every experiment that was measured.",
    "A defense is only as good as its worst attack, and a low attack success means little if accuracy went "
    "with it or if chance alone (the control) does as much.",
)
names = results.names()
if not any(names.values()):
    page.nothing_yet("Here you would compare attacks and defenses.", page.BACKDOOR_DEMO)
    st.stop()
ranking.show()
ranking.agreement()

st.subheader("All experiments", anchor=False)
with st.container(border=True):
    chosen = selector.filters(names, ("dataset", "attack", "defense", "preset", "source"))
    threat, sort, descending = board.order()
rows = results.leaderboard(**chosen, sort=sort, descending=descending)
if threat != "all":
    rows = rows[rows["threat"] == threat].reset_index(drop=True)

if rows.empty:
    st.info("No measured row fits these filters. Clear one of them, or queue the missing runs.")
    navigation.link("experiment", "Set up an experiment")
    st.stop()

panel = st.container()  # stands above the table that decides what is in it
selected = board.table(rows, sort)
board.downloads(rows)
if selected is not None:
    with panel:
        board.selection(selected)
if (rows["n"] == 0).all():
    page.all_collapsed()

st.subheader("Reproduce", anchor=False)
st.code(leaderboard_command(sort, descending, **chosen), language="bash", wrap_lines=True)
