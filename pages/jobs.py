"""Jobs: what is running, what ran, and everything a job said on the way."""

import streamlit as st

from poisonlab.ui import job_detail, jobs, page, people, results

page.header(
    "Jobs",
    "The queue, the progress of whatever is running, and the curves and log of any job.",
    "Watch a model learn its backdoor; jobs live in the database, so you may close this tab and come back.",
)
every = results.jobs(limit=200)

st.subheader("Now", anchor=False)
jobs.live()
if not every.empty:
    st.subheader("All jobs", anchor=False)
    picked = jobs.table(every, key=f"jobs-{hash(tuple(every['run_id']))}")
    job_detail.show(jobs.chosen(every, picked))
elif asked := st.query_params.get("job"):  # a run that never was a job has curves and a log, too
    job_detail.show(asked)
else:
    page.nothing_yet("No job has been queued yet.", page.BACKDOOR_DEMO)
people.log()
