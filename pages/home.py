"""Home: what poisoning is in four pictures, one button to learn it, one to see it work, and what is measured."""

import streamlit as st

from poisonlab.ui import first_look, glossary, jobs, navigation, page, ranking, results, tables
from poisonlab.ui.wording import WELCOME

PIPELINE = """
%%{init: {"flowchart": {"nodeSpacing": 26, "rankSpacing": 28, "padding": 8}, "themeVariables": {"fontSize": "19px"}}}%%
flowchart LR
    D[Dataset] --> P["Poison<br/>the attack changes a few images"]
    P --> U["Purify<br/>some defenses clean the images"]
    U --> T["Train<br/>the victim learns from them"]
    T --> R["Repair<br/>other defenses mend the model"]
    R --> E["Evaluate<br/>accuracy and attack success"]
    D --> C["Control<br/>the same training without poison"]
    C --> E
    class P poison
    class U,R defense
    classDef poison fill:#fbe3d6,stroke:#D55E00,color:#1F2933
    classDef defense fill:#d9f0e8,stroke:#009E73,color:#1F2933
    classDef default fill:#eef3f7,stroke:#5B6770,color:#1F2933
"""
LESSON = "lesson_backdoor"

page.header("PoisonLab", WELCOME, "")
first_look.show()
with st.container(horizontal=True, vertical_alignment="center"):
    if st.button("Start the five-minute lesson", icon=":material/school:"):
        navigation.go(LESSON)
    page.demo_button(page.BACKDOOR_DEMO, label="Run it live")
    st.caption("About a minute on a laptop, no download.", width="content")
    navigation.link("experiment", "Set up your own")

best, running = st.columns([3, 2], gap="large")
with best:
    st.subheader("Which defense is best?", anchor=False)
    ranking.small()
    navigation.link("leaderboard", "The whole leaderboard")
with running:
    st.subheader("Running now", anchor=False)
    jobs.live(compact=True)
    counts = results.counts()
    st.caption(
        f"{counts['done']} finished runs are here, {counts['queued'] + counts['running']} in the queue."
    )

st.subheader("What happens in an experiment", anchor=False)
st.mermaid_chart(
    PIPELINE,
    alt="Pipeline: dataset, poison, purify, train, repair, evaluate, beside a control trained without poison",
)

st.subheader("Latest results", anchor=False)
latest = results.find(limit=8)
if latest.empty:
    st.info(
        "No results yet. The button at the top queues the first run; its row appears here when it is done."
    )
else:
    tables.runs(latest, key="latest")
    st.caption(f"{glossary.label('control')}: {glossary.help_for('control')}")
    with_pictures = results.find(kind="PoisonGallery", limit=1)  # of shipped runs, not all have them
    for newest in with_pictures.to_dict("records"):
        page_name = "triggers" if newest["threat"] == "backdoor" else "poisons"
        navigation.link(page_name, "Look at the newest one", run=newest["run_id"])
