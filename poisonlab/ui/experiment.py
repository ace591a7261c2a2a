"""Setting up one experiment with all its parameters, and what it will cost."""

from collections.abc import Iterable, Sequence
from typing import Any

import streamlit as st
from pydantic import create_model

from poisonlab import registry, runtime
from poisonlab.config import PRESETS, Config, ExperimentSpec, SpecError, make_spec
from poisonlab.ui import cards, forms, page, selector
from poisonlab.ui.command import run_command
from poisonlab.ui.wording import duration, escape

DEFAULTS = dict(zip(selector.FILTERS, page.BACKDOOR_DEMO, strict=True))
SEED_HELP = "Every random draw follows from the seed: the same seed gives the same numbers. Repeats show the spread."


def single() -> None:
    """One experiment: methods first, because they decide which parameters there are."""
    like = _like()
    names, seeds = _methods()
    base = _base(names, like)
    if base is None:
        return
    cards.row([("dataset", names["dataset"]), ("attack", names["attack"]), ("defense", names["defense"])])
    above = st.container()  # stands above the form, but follows from what is entered there
    launch, overrides = _parameters(base, names)
    try:
        specs = [_spec(names, seed, overrides) for seed in seeds]
    except (SpecError, registry.UnknownName) as error:
        st.error(escape(error), icon=":material/error:")
        return
    with above:
        cost(specs)
    st.code("\n".join(run_command(spec) for spec in specs[:5]), language="bash", wrap_lines=True)
    if launch:
        page.submit(specs)


def _like() -> ExperimentSpec | None:
    """The spec of the run that the reader wants to change, from the URL; a new link sets the choices below."""
    asked = st.query_params.get("like")
    if asked is None:
        return None
    record = page.known(asked)
    if record is None:
        st.warning("The run to start from is not among the results here; the preset's values are shown instead.")
        return None
    spec: ExperimentSpec = record.spec
    if st.session_state.get("liked") != asked:
        st.session_state["liked"] = asked
        for kind in selector.FILTERS:
            st.session_state[f"new_{kind}"] = getattr(spec, kind).name
        st.session_state["new_preset"], st.session_state["seed"] = spec.preset, spec.seed
        st.session_state[_victim_key(spec.dataset.name, spec.preset)] = spec.victim.name
    st.caption(f"Starts from the values of run {asked[:8]}: {page.title_of(record)}.")
    return spec


def _methods() -> tuple[dict[str, Any], list[int]]:
    """Dataset, attack, defense, victim and preset, each in the URL; and the seeds."""
    chosen: dict[str, Any] = {}
    for column, kind in zip(st.columns(3), selector.FILTERS, strict=True):
        options = _first(DEFAULTS[kind], registry.KINDS[kind])
        chosen[kind] = column.selectbox(kind.capitalize(), options, key=f"new_{kind}", bind="query-params")
    columns = st.columns(4)
    chosen["preset"] = columns[1].selectbox(
        "Preset", PRESETS, key="new_preset", bind="query-params",
        help="quick: what a 2-core laptop does in minutes. paper: the published values, for a GPU.",
    )  # fmt: skip
    usual = registry.dataset[chosen["dataset"]].presets[chosen["preset"]]["victim"]
    chosen["victim"] = columns[0].selectbox(
        "Victim", _first(usual, registry.victim), key=_victim_key(chosen["dataset"], chosen["preset"]),
        bind="query-params", help="The network that is trained on the poisoned images.",
    )  # fmt: skip
    if chosen["preset"] == "paper" and chosen["dataset"] != "digits":
        st.caption("The preset paper takes the published values: hours on a GPU, days on a laptop.")
    return chosen, _seeds(columns[2], columns[3])


def _first(usual: str, names: Iterable[str]) -> list[str]:
    """The usual choice, then all others."""
    return [usual, *(name for name in names if name != usual)]


def _victim_key(dataset: str, preset: str) -> str:
    """Each dataset and preset has its own usual victim."""
    return f"victim_{dataset}_{preset}"


def _seeds(left: Any, right: Any) -> list[int]:
    start = left.number_input("First seed", 0, 2**31 - 1, step=1, key="seed", help=SEED_HELP)
    count = right.number_input("Repeats", 1, 20, step=1, key="repeats", help="Runs with consecutive seeds.")
    return [start + i for i in range(count)]


def _base(names: dict[str, Any], like: ExperimentSpec | None) -> ExperimentSpec | None:
    """What the form starts from: the preset, or the run to change while the methods are still its own."""
    if like and all(getattr(like, kind).name == names[kind] for kind in ("dataset", "attack", "defense", "victim")):
        return like
    try:
        return _spec(names, 0, {})
    except SpecError as error:
        st.error(escape(error), icon=":material/error:")
        return None


def _parameters(base: ExperimentSpec, names: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """The form: a tab for each part. Returns whether to launch, and the values that differ from the preset."""
    preset = _spec(names, 0, {})
    parts = [("attack", "Attack"), ("defense", "Defense"), ("training", "Training"), ("dataset", "Dataset"),
             ("victim", "Victim")]  # fmt: skip
    if base.protocol == "linear_transfer":
        parts.insert(3, ("head", "Linear head"))
    where = "-".join([*names.values(), base.group()])
    overrides: dict[str, Any] = {}
    with st.form("parameters"):
        tabs = st.tabs([*(title for _, title in parts), "Run"])
        for tab, (part, _) in zip(tabs, parts, strict=False):
            with tab:
                values, usual = _params(base, part), _params(preset, part)
                entered = forms.fields(values, f"{where}.{part}", usual)
                overrides |= {f"{part}.{k}": v for k, v in entered.items() if v != getattr(usual, k)}
        with tabs[-1]:
            entered = forms.fields(_loose(base), f"{where}.run", _loose(preset))
            overrides |= {k: v for k, v in entered.items() if v != getattr(preset, k)}
        left, right = st.columns([1, 5])
        launch = left.form_submit_button("Launch", type="primary", icon=":material/play_arrow:", width="stretch")
        right.form_submit_button("Check and estimate", icon=":material/fact_check:")
    return launch, overrides


def _params(spec: ExperimentSpec, part: str) -> Config:
    value = getattr(spec, part)
    params: Config = getattr(value, "params", value)
    return params


# The fields of a spec that belong to no part, with their own declarations.
_LOOSE = ("clean_images", "protocol", "precision")
_definitions: dict[str, Any] = {
    name: (field.annotation, field) for name, field in ExperimentSpec.model_fields.items() if name in _LOOSE
}
_Loose: type[Config] = create_model("_Loose", __base__=Config, **_definitions)


def _loose(spec: ExperimentSpec) -> Config:
    return _Loose(**{name: getattr(spec, name) for name in _LOOSE})


def _spec(names: dict[str, Any], seed: int, overrides: dict[str, Any]) -> ExperimentSpec:
    return make_spec(
        names["dataset"], names["attack"], names["defense"], preset=names["preset"], seed=seed,
        victim=names["victim"], overrides=overrides,
    )  # fmt: skip


def cost(specs: Sequence[ExperimentSpec]) -> None:
    """What past runs say about time and memory."""
    store = runtime.get().store
    estimates = [store.estimate(spec) for spec in specs]
    known = [e.seconds for e in estimates if e.seconds is not None]
    left, middle, right = st.columns(3)
    left.metric("Runs to queue", len(specs), border=True, help="One for each seed or combination.")
    total = duration(sum(known)) if known else "unknown"
    if known and sum(known) < 1:
        total = "under 1 s"
    unknown = len(estimates) - len(known)
    middle.metric(
        "Time, at most",
        f"{total} + {unknown} unknown" if known and unknown else total,
        border=True,
        help="From past runs of similar experiments on this machine. Stages that are already in the cache, "
        "or that several runs share, are computed once and make it shorter.",
    )
    memory = [e.peak_memory_mb for e in estimates if e.peak_memory_mb is not None]
    right.metric("Peak memory", f"{max(memory):.0f} MB" if memory else "unknown", border=True, help="Of past runs.")
    cached = list(dict.fromkeys(stage for e in estimates for stage in e.cached))
    if cached:
        st.caption(f"Already in the cache: {escape(', '.join(cached))}.")
