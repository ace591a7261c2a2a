"""In words: what unlearning did to a model."""

from poisonlab.records.artifacts import PredictionHistogram, RepairTrace
from poisonlab.ui.wording import escape, percent

NO_COLLAPSE = 0.25  # share of the clean images: a smaller one names no class

# What is done to the model in each phase; a phase that is not here needs no words.
PHASES = {
    "unlearning": "gradient ascent on the defender's clean images, until the model has forgotten them",
    "recovering": "the channels of the unlearned model are turned up or down so that clean images come back",
    "fine-tuning": "the attacked model, with its most changed weights set to zero, is trained on clean images",
    "polarizing": "one layer that was put into the attacked model learns to stop what leads images to another class",
}


def phases(trace: RepairTrace) -> str:
    """What happens in each panel."""
    return " ".join(
        f"**{escape(name.capitalize())}**: {PHASES[name]}." for name in trace.phases if name in PHASES
    )


def path(trace: RepairTrace) -> str:
    """From where to where accuracy and ASR went in the first phase, and what that means."""
    first = trace.phase == 0
    epochs = int(trace.step[first][-1])
    (known, left), (asr, asr_left) = (v[first][[0, -1]].tolist() for v in (trace.accuracy, trace.asr))
    plural = "s" if epochs > 1 else ""
    text = f"In {epochs} epoch{plural} of unlearning clean accuracy went from {percent(known)} to {percent(left)}"
    if not trace.asr.isnan().any():
        text += f", ASR from {percent(asr)} to {percent(asr_left)}"
    if left > 0.8 * known:
        return f"{text}: the model has hardly forgotten its task."
    if asr > 0.5:  # else there is no backdoor to speak of
        kept = asr_left >= 0.5 * asr
        return f"{text}: {'the backdoor outlives the task' if kept else 'the backdoor was forgotten, too'}."
    return f"{text}."


def named(histogram: PredictionHistogram, target: int | None) -> str:
    """Which class the unlearned model prefers, and what that is worth."""
    top = int(histogram.after.argmax())
    share = float(histogram.after[top] / histogram.after.sum().clamp_min(1))
    name = escape(histogram.classes[top])
    text = f"After unlearning the model reads {percent(share)} of the clean images as **{name}**"
    if target is None:
        return f"{text}."
    verdict = "the attacker's class" if top == target else "which is not the attacker's class"
    if share < NO_COLLAPSE:
        return (
            f"{text}, {verdict}. That is no collapse: it forgot too little for its answers to name a target. What the "
            "defense reads off this unlearning lies in the weights."
        )
    return (
        f"{text}, {verdict}. A defender can take this for the name of the target, but not for proof of a backdoor: "
        "gradient ascent drives clean models into one class, too."
    )
