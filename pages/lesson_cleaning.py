"""Lesson: what a detector flags is not all bad, and sorting it beats throwing it away."""

import streamlit as st
import torch

from poisonlab.figures import digits
from poisonlab.figures.style import CATEGORICAL
from poisonlab.lessons import cleaning
from poisonlab.ui import charts, images, lesson
from poisonlab.ui.wording import percent

ANSWERS = {
    "drop": "Training without all flagged images",
    "take back": "Taking some of them back",
    "take back and relabel": "Taking some back and relabeling the rest",
}
SHORT = {"take back and relabel": "also relabel"}  # where there is no room
SHOWN = 10

lesson.begin(
    "lesson_cleaning",
    "Some labels in this training set are wrong: 40 % of the ones and sevens, threes and eights, fours and nines were "
    "swapped with their look-alike. You have 40 images whose labels you trust.",
    "A detector ranks the 500 others by how suspicious they are, and you flag the top of the list. Nobody tells you "
    "where to stop.",
)
with st.container(border=True):
    columns = st.columns(2)
    factor = lesson.slider(
        columns[0],
        "Flagged images, as a multiple of the wrong ones",
        cleaning.FACTORS,
        3.0,
        "flagged",
        "At 1 the detector flags as many images as have a wrong label; above 1 it must flag right ones, too.",
    )
    draw = lesson.slider(
        columns[1], "Random draw", lesson.DRAWS, 0, "draw", "Other images, other wrong labels."
    )

place = cleaning.FACTORS.index(factor)
scene = st.container()
guess = lesson.predict(
    f"You flag {factor:g} times as many images as have a wrong label. Which of these gives the best accuracy on "
    "test images?",
    ANSWERS,
    (factor, draw),
)
if guess is None:
    used, given, _ = cleaning.mislabeled(draw)
    labels = [f"label {label}" for label in given[:SHOWN].tolist()]
    with scene:
        images.strip("Ten of the 500 images", used.x[:SHOWN], labels, [f"Digit, {word}" for word in labels])
        st.caption("As they came. Which of these labels would you distrust?")
else:
    cleaned = lesson.cached(cleaning.clean, "Training, scoring and cleaning")(draw)
    accuracy = dict(zip(cleaning.WAYS, cleaned.accuracy[place].tolist(), strict=True))
    best = max(ANSWERS, key=lambda way: accuracy[way])
    lesson.compare(
        guess,
        best,
        f"{ANSWERS[best][0].lower()}{ANSWERS[best][1:]} gives {percent(accuracy[best])}, the data as it is "
        f"{percent(accuracy['as it is'])}. The test set has 397 images: a difference of a point "
        "may be luck, so try other draws.",
    )
    for column, way in zip(st.columns(len(cleaning.WAYS)), cleaning.WAYS, strict=True):
        column.metric(
            SHORT.get(way, way).capitalize(),
            percent(accuracy[way]),
            border=True,
            help={
                "as it is": "Fine-tuned on all 540 images with the labels they came with.",
                "drop": "Fine-tuned on what was not flagged, and the 40 trusted images.",
                "trusted only": "Fine-tuned on the 40 trusted images alone: what they do without any cleaning.",
                "take back": "And on the flagged images whose label the second model agrees with.",
                "take back and relabel": "And on the other flagged ones, with the second model's label.",
            }[way],
        )
    limit, order = cleaned.flagged[place], cleaned.order
    wrong, agrees = cleaned.wrong[order], cleaned.agrees[place, order]
    charts.show(
        charts.drawn(digits.flagged, cleaned.score[order].numpy(), wrong.numpy(), agrees.numpy(), limit),
        key="ranking",
        alt="All training images by their score, the flagged ones marked by what became of them",
    )
    out = ~agrees[:limit]
    mended = (cleaned.relabeled[place, order] == cleaned.true[order])[:limit][out]
    precision = wrong[:limit].float().mean()
    st.caption(
        f"{limit} of 500 images are flagged; {percent(precision)} of them really have a wrong label. Those are "
        f"{percent(wrong[:limit].sum() / wrong.sum())} of all wrong ones. {int(out.sum())} flagged images are not "
        f"taken back; the second model's label is right for {int(mended.sum())} of these. Play goes through the steps: "
        "score all images, flag the first, sort what was flagged."
    )
    for title, chosen in (("Flagged and taken back", agrees), ("Flagged and not taken back", ~agrees)):
        rows = order[:limit][chosen[:limit]][:SHOWN]
        if len(rows):
            words = [
                f"label {cleaned.given[row]}"
                + (f", really {cleaned.true[row]}" if cleaned.wrong[row] else ", right")
                for row in rows.tolist()
            ]
            blank = cleaned.images.new_full((SHOWN - len(rows), *cleaned.images.shape[1:]), 255)
            shown = torch.cat([cleaned.images[rows], blank])
            images.strip(
                title,
                shown,
                words + [""] * len(blank),
                [f"Digit with {w}" for w in words] + ["none"] * len(blank),
            )
    names = {"as it is": 6, "trusted only": 4, "drop": 1, "take back": 2, "take back and relabel": 3}
    charts.show(
        charts.drawn(
            digits.shares,
            [f"{f:g}" for f in cleaning.FACTORS],
            {
                way: (cleaned.accuracy[:, n].numpy(), CATEGORICAL[names[way]])
                for n, way in enumerate(cleaning.WAYS)
            },
            "flagged images, as a multiple of the wrong ones",
            f"{factor:g}",
            low=0.7,
        ),
        key="ways",
        alt="Test accuracy against how much is flagged, for five ways to treat what was flagged",
    )
    lesson.explain(
        "Flag few images, and wrong labels stay. Flag many, and right images are lost. Sorting makes the second "
        "cheap. A second model learns from what was *not* flagged and from the trusted images. Where it agrees with "
        "the label of a flagged image, the image was probably flagged by mistake: *take it back*. Where it "
        "disagrees, the picture may still be good and only the label bad: *relabel* it with what the second model "
        "says. Relabeling helps while the second model is better than the labels it replaces, and hurts where "
        "it is not.",
        r"r(z) = \ell(z; \theta_S) - \ell(z; \theta), \qquad \theta_S = \arg\min_{\theta'} \; "
        r"\frac{1}{|S|}\sum_{z \in S} \ell(z; \theta') + \frac{\lambda}{2} \sum_i F_i\, (\theta'_i - \theta_i)^2",
    )
    st.markdown(
        r"The score $r$ of an image $z$ grows when tuning the model $\theta$ on the trusted set $S$ speaks against its "
        r"label; $\ell$ is the loss. $F$ says how much each weight matters for the data, and $\lambda$ how firmly such "
        "weights are held, so that tuning does not forget everything else."
    )
lesson.end("lesson_cleaning")
