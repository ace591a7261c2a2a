"""Check a data set: which of its images stand out, and whether the set does among clean ones."""

from poisonlab.ui import check_data, page

page.header(
    "Check a data set",
    "A training set, as five detectors and a model of clean images see it: which images stand out, and whether the "
    "whole set does among clean ones.",
    "Nothing is attacked here; a network is trained on the set as it is.",
)
check_data.page()
