"""Check a network: what the detectors say of weights that somebody brings, beside clean networks of the same kind."""

from poisonlab.ui import check_model, page

page.header(
    "Check a network",
    "A network that you were given: how right it is, whether the detectors find a backdoor in it, and what they say of "
    "clean networks of the same kind.",
    "Nothing is attacked here; nineteen clean networks are trained for the comparison.",
)
check_model.page()
