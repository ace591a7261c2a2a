"""A network checked in the browser: weights and clean images, how far it is, the verdict, a repair to take away."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from poisonlab import registry
from poisonlab.check import model
from poisonlab.check.data import CHECK, CONTROLS
from poisonlab.check.evidence import title
from poisonlab.figures import check_data as figures
from poisonlab.models.shared.weights_file import Tensors, WeightsError, read_weights
from poisonlab.runner import runtime
from poisonlab.runner.background import Task
from poisonlab.runner.recorder import context_at
from poisonlab.runner.rules import NotAllowed
from poisonlab.spec.config import ExperimentSpec, SpecError, make_spec, usual_victim
from poisonlab.ui import at_work, charts, images, launch, link, navigation, people, theme
from poisonlab.ui.offered import offered
from poisonlab.ui.wording import escape
from poisonlab.words.pages import CHECK_MODEL_LIMITS

MOST_MB = 100  # of an upload; the command line takes any file
LIBRARIES = ("timm", "torchvision")  # whose networks have names of their own
NORMALIZED = {
    "best": "find out by accuracy",
    "images": "by the clean images' own statistics",
    "none": "none: pixels from 0 to 1",
    "half": "halves: pixels from -1 to 1",
    "imagenet": "ImageNet's",
    "cifar10": "CIFAR-10's",
}
SHORT = {"file": "its own", "images": "the images'", "imagenet": "ImageNet's", "cifar10": "CIFAR-10's"}
TRIGGERS = 8  # in the row
_tasks: dict[str, "Asked"] = {}  # by person: a check outlives the page that started it


@dataclass(frozen=True)
class Found:
    """What a check gave, and what a repair needs of it."""

    spec: ExperimentSpec
    check: model.ModelCheck
    splits: Any


@dataclass
class Asked:
    """What somebody asked for.

    Attributes:
        name: of the file. task: the check. repair: of the network, once it was asked for, and by which defense.
    """

    name: str
    task: Task
    repair: Task | None = None
    defense: str = ""


def page() -> None:
    """The form; below it the work in progress, or what the last check found."""
    try:
        runtime.get().runner.rules.check_upload(people.person())
    except NotAllowed as error:
        st.info(escape(error))
        return
    asked = _tasks.get(people.name())
    running = asked is not None and asked.task.state == "running"
    _form(disabled=running)
    if asked is not None and running:
        at_work.progress(asked.task, asked.name, CHECK)
    elif asked is not None and at_work.ended_well(asked.task):
        _found(asked)
    _limits()


def _form(disabled: bool) -> None:
    upload = st.file_uploader(
        "Weights: .safetensors, or a state dict of torch.save",
        type=["safetensors", "pt", "pth", "tar", "bin"],
        max_upload_size=MOST_MB,
        help="Also under state_dict or model, with module. before the names, or a result file of BackdoorBench. Files "
        "that hold other Python objects are not opened.",
    )
    first, second, third, fourth = st.columns([2, 2, 2, 1], vertical_alignment="bottom")
    dataset = link.choice(first, "Clean images of its classes", offered("dataset"), str, key="dataset")
    usual = usual_victim(dataset, "quick")
    victims = list(registry.victim)
    victim = second.selectbox(
        "Architecture",
        victims,
        victims.index(usual),
        format_func=lambda name: registry.victim[name].card.title,
    )
    if victim in LIBRARIES:
        named = second.text_input("Its name there", registry.victim[victim].Config().model)
        victim = f"{victim}:{named.strip()}"
    normalization = third.selectbox(
        "Normalization",
        list(NORMALIZED),
        format_func=NORMALIZED.__getitem__,
        help="Weights that state theirs keep it.",
    )
    ready = upload is not None and not disabled
    if fourth.button(
        "Check", type=theme.main_button(), icon=":material/troubleshoot:", disabled=not ready, width="stretch"
    ):
        _start(upload, dataset, victim, normalization)
    _how_long(dataset, victim)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Pictures of your own become a dataset first:", width="content")
        navigation.link("own_pictures", "Your pictures")


def _how_long(dataset: str, victim: str) -> None:
    """What the clean networks take, which is nearly all of a first check."""
    try:
        spec = make_spec(dataset, "none", "none", victim=victim)
    except SpecError:
        return  # said once a check is started
    clean = model.clean_specs(spec, CONTROLS)
    st.caption(
        f"Beside it {CONTROLS} clean networks are judged, which the first check trains: {launch.in_words(clean)}"
    )


def _start(upload: Any, dataset: str, victim: str, normalization: str) -> None:
    """Begin a check, unless the rules of this server say no or somebody else's is at work."""
    try:
        spec = make_spec(dataset, "none", "none", victim=victim)
        runtime.get().runner.rules.check([spec], "auto", people.person(), 0, runtime.get().results)
        weights = _weights(upload)
    except (NotAllowed, SpecError, WeightsError) as error:
        st.error(escape(error), icon=":material/error:")
        return

    def work(send: Any) -> Found:
        ctx = context_at(runtime.get().results, send=send)
        splits = model.opened(spec, ctx)
        brought = model.bring(spec, weights, splits, ctx, normalization)
        return Found(spec, model.check_model(spec, brought, splits, ctx), splits)

    task = at_work.begun("check model", work)
    if task is None:
        return
    _tasks[people.name()] = Asked(upload.name, task)
    st.rerun()


def _weights(upload: Any) -> Tensors:
    """The tensors of an upload, which lies on disk only while it is read; its name decides nothing but its kind.

    Raises:
        WeightsError: it cannot be read.
    """
    suffix = ".safetensors" if upload.name.endswith(".safetensors") else ".pt"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"weights{suffix}"
        file.write_bytes(upload.getbuffer())
        return read_weights(file)


# -- what was found -------------------------------------------------------------------------------------------


def _found(asked: Asked) -> None:
    """The verdict, the network beside clean ones, what was searched for each class, and a repair."""
    found: Found = asked.task.result
    check = found.check
    if not check.calibration.can_accuse:
        st.info(escape(check.verdict), icon=":material/balance:")
    elif check.calibration.stands_out:
        st.warning(escape(check.verdict), icon=":material/warning:")
    else:
        st.success(escape(check.verdict), icon=":material/check:")
    _numbers(check)
    left, right = st.columns(2, gap="small")
    charts.show(
        charts.drawn(figures.among_clean_networks, check.calibration),
        key="among_clean_networks",
        alt="The number of each detector for this network beside those of the clean ones",
        place=left,
    )
    left.caption("Each mark is a clean network, trained here on the clean images.")
    rows = [
        (title(f.detector), check.classes[f.suspect], f"{f.value:.3g}", f"{max(f.clean):.3g}")
        for f in check.findings
    ]
    right.dataframe(
        pd.DataFrame(rows, columns=["detector", "suspects", "its number", "clean, at most"]),
        hide_index=True,
        alt="What each detector says",
    )
    _triggers(check)
    _repair(asked, found)


def _numbers(check: model.ModelCheck) -> None:
    first, second, third = st.columns(3)
    first.metric("Accuracy of this network", f"{check.accuracy:.1%}")
    clean = check.clean_accuracies
    second.metric("Accuracy of the clean ones", f"{min(clean):.1%} to {max(clean):.1%}")
    named = check.brought.normalization
    third.metric("Its normalization", SHORT.get(named, named), help=_tried(check))


def _tried(check: model.ModelCheck) -> str:
    rates = ", ".join(f"{name}: {rate:.1%}" for name, rate in check.brought.accuracies.items())
    return f"Right on the trusted images with each that was tried: {rates}. Layers were found by {check.brought.by}."


def _triggers(check: model.ModelCheck) -> None:
    """The smallest trigger that was found for each class, the most suspected one first."""
    for finding in check.findings:
        triggers = finding.found.patterns
        masks = finding.found.masks
        classes = finding.found.trigger_classes
        if triggers is None or masks is None or classes is None or len(classes) < 2:
            continue
        scores = finding.found.class_scores[classes]
        order = scores.argsort(descending=True)[:TRIGGERS]
        names = [check.classes[int(classes[row])] for row in order]
        shown = (triggers[order] * masks[order]).mul(255).round().byte().cpu()
        images.strip(
            f"The smallest trigger that sends every image to a class, by {title(finding.detector)}",
            shown,
            [escape(f"{name}, {float(scores[row]):.2f}") for name, row in zip(names, order, strict=True)],
            [f"recovered trigger of class {name}" for name in names],
            help="The most suspected class first, with its score. A backdoor's is far smaller than all others.",
        )


def _repair(asked: Asked, found: Found) -> None:
    st.subheader("Repair it", anchor=False)
    names = [name for name in offered("defense") if registry.defense[name].overrides("repair")]
    first, second, _ = st.columns([2, 1, 3], vertical_alignment="bottom")
    defense = first.selectbox("Repair", names, format_func=lambda name: registry.defense[name].card.title)
    running = asked.repair is not None and asked.repair.state == "running"
    if second.button("Repair", icon=":material/healing:", disabled=running, width="stretch"):
        _start_repair(asked, found, defense)
    if asked.repair is None:
        return
    if running:
        at_work.progress(asked.repair, registry.defense[asked.defense].card.title, "")
    elif at_work.ended_well(asked.repair):
        rate, raw = asked.repair.result
        st.markdown(
            f"After {escape(registry.defense[asked.defense].card.title)} it is right about {rate:.1%} of the test "
            f"images, before about {found.check.accuracy:.1%}. Whether a backdoor is gone, only its owner knows: check "
            "the repaired one again."
        )
        st.download_button(
            "Repaired weights", raw, f"repaired_{asked.defense}.safetensors", on_click="ignore"
        )


def _start_repair(asked: Asked, found: Found, defense: str) -> None:
    spec = make_spec(found.spec.dataset.name, "none", defense, victim=_victim(found.spec))

    def work(send: Any) -> tuple[float, bytes]:
        ctx = context_at(runtime.get().results, send=send)
        network = model.repaired(spec, found.check.brought, found.splits, ctx)
        return model.right(network, found.splits.test), model.as_file(network, spec, found.splits.test)

    task = at_work.begun("repair", work)
    if task is None:
        return
    asked.repair = task
    asked.defense = defense
    st.rerun()


def _victim(spec: ExperimentSpec) -> str:
    named = getattr(spec.victim.params, "model", "")
    return f"{spec.victim.name}:{named}" if spec.victim.name in LIBRARIES else spec.victim.name


def _limits() -> None:
    """What a check can miss, and what its alarms are worth."""
    with st.expander("What this can miss", icon=":material/info:"):
        st.markdown(CHECK_MODEL_LIMITS)
