"""Budget: how many clean images a defense needs."""

import streamlit as st

from poisonlab.figures.budget import budget_curves
from poisonlab.store.budget import means
from poisonlab.ui import budget, glossary, page

page.header(
    "Budget",
    "Accuracy, attack success and DER of each defense against the number of clean images it was given.",
    "Repairs learn from trusted images, and those are scarce: a defense that needs a twentieth of the training set "
    "helps nobody who holds one image a class.",
)
setting = budget.choose()

if setting.rows.empty:
    budget.elsewhere()
else:
    columns = st.columns(3)
    for column, name in zip(columns, ("clean_accuracy", "success", "der"), strict=True):
        column.markdown(f"**{glossary.label(name)}**", help=glossary.help_for(name))
    st.plotly_chart(
        budget_curves(setting.rows, means(setting.rows)),
        key="budget",
        alt="Clean accuracy, attack success and DER by number of clean images, a line for each defense",
    )
    st.caption(
        "Small marks are seeds, lines their means, bars 95 % intervals where there are at least two seeds. The dotted "
        "line is the model without a defense; a DER of 50 % means no effect."
    )

budget.launcher(setting)
