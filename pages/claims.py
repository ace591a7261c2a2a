"""Claims: what papers report beside what was measured here under their setting."""

import streamlit as st

from poisonlab.figures.claims import dumbbell
from poisonlab.ui import charts, claims, navigation, page

page.header(
    "Claims",
    "What papers and repositories report, beside what this program measures under the same setting: a ring is a "
    "published number, a disc a measured one.",
    "A benchmark deserves trust as far as it meets the numbers of others, or can say why it does not.",
)
with st.container(border=True):
    table, recipe = claims.choose()
rows, specs = claims.cells_of(table, recipe)
claims.warn(table)

st.subheader("Published and measured", anchor=False)
attack = claims.choose_attack(table, rows)
shown = rows[rows["attack_key"] == attack]
charts.show(
    charts.drawn(dumbbell, shown),
    key="dumbbell",
    alt=f"Published and measured accuracy and attack success of every defense against {table.attacks[attack].label}",
)
claims.source(table)
claims.missing(table, recipe, rows, attack)

st.subheader("Setting", anchor=False)
claims.setting(table, recipe, next((own[0] for cell, own in specs.items() if cell[0] == attack), None))

st.subheader("Every cell", anchor=False)
st.caption(
    "Measured values are means over n runs with the preset paper and exactly these settings: over seeds, or over the "
    "target classes or groups of targets that a cell stands for. Runs of the preset quick never stand beside published "
    "numbers; those of the preset full do only where they are asked for, as another network's."
)
claims.table_of(rows, table)
navigation.link("leaderboard", "Every measured run", preset="paper")
