"""Setting up one experiment with all its parameters, and what it will cost."""

from collections.abc import Iterable
from typing import Any, Literal

import streamlit as st
from pydantic import create_model
from streamlit.errors import StreamlitAPIException

from poisonlab import registry
from poisonlab.spec.command import run_command
from poisonlab.spec.config import PRESETS, Config, ExperimentSpec, SpecError, make_spec, usual_victim
from poisonlab.spec.overrides import changed
from poisonlab.ui import cards, entered, forms, launch, link, page, selector
from poisonlab.ui.offered import offered
from poisonlab.ui.wording import escape

DEFAULTS = dict(zip(selector.FILTERS, page.BACKDOOR_DEMO, strict=True))
LAUNCH = "Launch"
MAX_SEED = 2**31 - 1
MAX_REPEATS = 20
SEED_HELP = (
    "Every random draw follows from the seed: the same seed gives the same numbers. Repeats show the spread."
)
REPEATS_HELP = "Runs with consecutive seeds."


def start_from_run() -> None:
    """Turn ``like=<run>`` in the URL into that run's values, so that the link shows the same form everywhere.

    Stands before all widgets of the page, because it sets them.
    """
    asked = st.query_params.get("like")
    if asked is None:
        return
    spec = page.spec_of(asked)
    if spec is None:
        st.warning(
            "The run to start from is not among the results here; the preset's values are shown instead."
        )
        return
    if spec.obstacle():
        st.warning(f"The run to start from cannot be run here: {escape(spec.obstacle())}.")
        return
    if spec.dataset.name not in offered("dataset"):
        st.warning(
            "The run to start from reads a folder of its machine; the command line names such folders."
        )
        return
    methods = {f"new_{kind}": getattr(spec, kind).name for kind in selector.FILTERS}
    values = {**methods, "new_preset": spec.preset, "seed": spec.seed, "repeats": 1}
    values[_victim_key(spec.dataset.name, spec.preset)] = spec.victim.name
    usual: dict[str, Any] = {f"new_{kind}": name for kind, name in DEFAULTS.items()}
    usual |= {"new_preset": PRESETS[0], "seed": 0, "repeats": 1}
    usual[_victim_key(spec.dataset.name, spec.preset)] = usual_victim(spec.dataset.name, spec.preset)
    query = {key: str(value) for key, value in values.items() if value != usual[key]}
    try:
        st.query_params.from_dict(query | {entered.NAME: entered.as_settings(changed(spec))})
    except StreamlitAPIException:  # widgets hold these already: somebody went back, and on to the page before
        return
    st.session_state.pop("mode", None)  # a matrix has no single values
    st.session_state.update(
        values
    )  # what was chosen before would win over the usual values, which no URL names
    st.session_state["started_from"] = asked
    st.rerun()


def single() -> None:
    """One experiment: methods first, because they decide which parameters there are."""
    run_id = st.session_state.pop("started_from", None)
    if run_id:
        st.caption(f"These are the values of run {run_id[:8]}. Change what you like.")
    names, seeds = _methods()
    try:
        preset = _spec(names, 0, {})
    except SpecError as error:
        st.error(escape(error), icon=":material/error:")
        return
    settings, link_number = entered.read(names)
    parts = _parts(preset)
    overrides = entered.usable(settings, _flat(parts), lambda overrides: _spec(names, 0, overrides))
    with st.expander("What these are, from which papers, and where they differ from them"):
        cards.row([("dataset", names["dataset"]), ("attack", names["attack"]), ("defense", names["defense"])])
    start = _parts(_spec(names, 0, overrides))
    overrides = _parameters(start, parts, "-".join([*names.values(), str(link_number)]), names["dataset"])
    try:
        specs = [_spec(names, seed, overrides) for seed in seeds]
    except (SpecError, registry.UnknownName) as error:
        st.error(escape(error), icon=":material/error:")
        launch.refused(LAUNCH)
        return
    entered.write(overrides)
    st.code("\n".join(run_command(spec) for spec in specs[:5]), language=None, wrap_lines=True)
    device = launch.bar(specs, LAUNCH)
    if device is not None:
        page.submit(specs, device)


def _methods() -> tuple[dict[str, Any], list[int]]:
    """Dataset, attack, defense, victim and preset, each in the URL; and the seeds."""
    chosen: dict[str, Any] = {}
    for column, kind in zip(st.columns(3), selector.FILTERS, strict=True):
        options = _first(DEFAULTS[kind], offered(kind))
        link.hint_choice(f"new_{kind}", kind, options)
        chosen[kind] = column.selectbox(kind.capitalize(), options, key=f"new_{kind}", bind="query-params")
    columns = st.columns(4)
    link.hint_choice("new_preset", "preset", PRESETS)
    chosen["preset"] = columns[1].selectbox(
        "Preset",
        PRESETS,
        key="new_preset",
        bind="query-params",
        help="quick: what a 2-core laptop does in minutes. full: real resolution, a fast network; half an hour a "
        "victim on two cores. paper: the published values, for a GPU.",
    )
    key = _victim_key(chosen["dataset"], chosen["preset"])
    options = _first(usual_victim(chosen["dataset"], chosen["preset"]), registry.victim)
    link.hint_choice(key, "victim", options)
    chosen["victim"] = columns[0].selectbox(
        "Victim",
        options,
        key=key,
        bind="query-params",
        help="The network that is trained on the poisoned images.",
    )
    if chosen["preset"] == "paper" and chosen["dataset"] != "digits":
        st.caption("The preset paper takes the published values: hours on a GPU, days on a laptop.")
    if chosen["preset"] == "full" and chosen["dataset"] != "digits":
        st.caption(
            "The preset full takes all images at their real size: about half an hour a network on two cores."
        )
    return chosen, _seeds(columns[2], columns[3])


def _first(usual: str, names: Iterable[str]) -> list[str]:
    """The usual choice, then all others."""
    return [usual, *(name for name in names if name != usual)]


def _victim_key(dataset: str, preset: str) -> str:
    """Each dataset and preset has its own usual victim."""
    return f"victim_{dataset}_{preset}"


def _seeds(left: Any, right: Any) -> list[int]:
    start = link.number(left, "First seed", 0, MAX_SEED, key="seed", help=SEED_HELP)
    count = link.number(right, "Repeats", 1, MAX_REPEATS, key="repeats", help=REPEATS_HELP)
    return [start + i for i in range(count)]


def _parameters(
    start: dict[str, Config], preset: dict[str, Config], key: str, dataset: str
) -> dict[str, Any]:
    """A tab for each part; the values that differ from the preset, by their dotted names.

    Args:
        start: what the fields hold until somebody changes them. key: different for every choice of methods.
    """
    overrides: dict[str, Any] = {}
    named = {"target_class": getattr(registry.dataset[dataset], "class_names", ())}
    for tab, (part, usual) in zip(st.tabs([TITLES[part] for part in preset]), preset.items(), strict=True):
        prefix = "" if part == "run" else f"{part}."
        with tab:
            held = forms.fields(start[part], f"{key}.{part}", usual, prefix.rstrip("."), named)
        overrides |= {prefix + name: v for name, v in held.items() if v != getattr(usual, name)}
    return overrides


TITLES = {
    "attack": "Attack",
    "defense": "Defense",
    "training": "Training",
    "head": "Linear head",
    "fine_tune": "Fine-tuning",
    "dataset": "Dataset",
    "victim": "Victim",
    "run": "Run",
}


def _parts(spec: ExperimentSpec) -> dict[str, Config]:
    """The parameters of each tab; what belongs to one protocol is shown for attacks that run under it."""
    protocols = registry.attack[spec.attack.name].protocols
    idle = {part for part, protocol in _PROTOCOL_OF.items() if protocol not in protocols}
    parts = [name for name in TITLES if name not in idle | {"run"}]
    return {part: _params(spec, part) for part in parts} | {"run": _loose(spec)}


def _flat(parts: dict[str, Config]) -> dict[str, Any]:
    """Dotted names, as in overrides -> values."""
    return {
        name if part == "run" else f"{part}.{name}": getattr(params, name)
        for part, params in parts.items()
        for name in type(params).model_fields
    }


def _params(spec: ExperimentSpec, part: str) -> Config:
    value = getattr(spec, part)
    params: Config = getattr(value, "params", value)
    return params


_PROTOCOL_OF = {"head": "linear_transfer", "fine_tune": "fine_tune_transfer"}

# The fields of a spec that belong to no part, with their own declarations.
_LOOSE = ("clean_images", "protocol", "precision", "weights", "public_poison")


def _loose(spec: ExperimentSpec) -> Config:
    """These fields; the protocols to choose from are those that the attack runs under."""
    fields = {name: ExperimentSpec.model_fields[name] for name in _LOOSE}
    definitions: dict[str, Any] = {name: (field.annotation, field) for name, field in fields.items()}
    definitions["protocol"] = (Literal[registry.attack[spec.attack.name].protocols], fields["protocol"])
    loose: type[Config] = create_model("_Loose", __base__=Config, **definitions)
    return loose(**{name: getattr(spec, name) for name in _LOOSE})


def _spec(names: dict[str, Any], seed: int, overrides: dict[str, Any]) -> ExperimentSpec:
    return make_spec(
        names["dataset"],
        names["attack"],
        names["defense"],
        preset=names["preset"],
        seed=seed,
        victim=names["victim"],
        overrides=overrides,
    )
