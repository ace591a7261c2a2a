"""Budget: how many clean images a defense needs."""

import streamlit as st

from poisonlab.figures.budget import budget_curves
from poisonlab.store.budget import means
from poisonlab.ui import budget, charts, glossary, page

page.header(
    "Budget",
    "Accuracy, attack success and DER of each defense against the number of clean images it was given.",
    "Repairs learn from trusted images, and those are scarce: a defense that needs a twentieth of the training set "
    "helps nobody who holds one image a class.",
)
setting = budget.choose()

if setting.rows.empty:
    budget.elsewhere(setting)
elif setting.rows["success"].isna().all():
    page.all_collapsed()
else:
    st.subheader(
        "What a budget buys",
        anchor=False,
        help="  \n".join(
            glossary.help_for(name) for name in ("clean_accuracy", "success", "der", "clean_images")
        ),
    )
    charts.show(
        charts.drawn(budget_curves, setting.rows, means(setting.rows)),
        key="budget",
        alt="Clean accuracy, attack success and DER by number of clean images, a line for each defense",
    )
    st.caption(
        "Small marks are seeds, lines their means, bars 95 % intervals where there are at least two seeds. The dotted "
        "line is the model without a defense, in the last panel no effect."
    )

budget.launcher(setting)
