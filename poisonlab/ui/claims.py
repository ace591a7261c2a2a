"""What the page of published numbers shows: choosing a table, its cells, its setting, its source."""

from typing import Any

import pandas as pd
import streamlit as st

from poisonlab import registry
from poisonlab.published.specs import NotRunnable, cells, specs_of
from poisonlab.published.tables import PublishedTable, Recipe, published_tables
from poisonlab.runner import runtime
from poisonlab.spec.citation import linked
from poisonlab.spec.config import ExperimentSpec, FineTuneConfig, HeadConfig, Preset, TrainingConfig
from poisonlab.spec.shares import parse_shares
from poisonlab.ui import glossary, link, results, shared, tables
from poisonlab.ui.command import reproduce_command
from poisonlab.ui.tables import dicts
from poisonlab.ui.wording import NONE, escape

RECIPES: tuple[Recipe, ...] = ("faster", "published", "full")
FIRST = "ftsam_cifar10"
BOTH = "both"
ONLY_PUBLISHED = "published only"
ONLY_MEASURED = "measured only"
TO_MEASURE = "not measured yet"
IN_PART = "measured in part"  # some of the runs that the cell is the mean of
ANOTHER = "another network"  # stands beside the published number and never counts as its reproduction
OPEN = (TO_MEASURE, IN_PART)
Trained = TrainingConfig | HeadConfig | FineTuneConfig


def choose() -> tuple[PublishedTable, Recipe]:
    """The table and the training recipe, both in the URL."""
    known = published_tables()
    names = sorted(known, key=lambda name: name != FIRST)
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    name = link.choice(
        left,
        "Published table",
        names,
        lambda name: known[name].title,
        key="table",
        help="What was read in papers, repositories and logs; each table names its source.",
    )
    recipe = link.segments(
        right,
        "Training of the measured victims",
        RECIPES,
        default=_measured_recipe(),
        key="recipe",
        disabled=known[name].reproduce is None,
        help="faster: fewer epochs, as the setting below says. published: as many epochs as there. full: the preset "
        "full, another network with values of our own, which is no reproduction.",
    )
    return known[name], recipe


def _measured_recipe() -> Recipe:
    """The page opens on what was measured: on another network, as long as nothing else was."""
    presets = results.names().get("preset", [])
    return "full" if "full" in presets and "paper" not in presets else "faster"


@shared.of_results
def cells_of(
    table: PublishedTable, recipe: Recipe
) -> tuple[pd.DataFrame, dict[tuple[str, str], list[ExperimentSpec]]]:
    """One row a cell that is published or measured or could be, and the specs behind those that can be run.

    The columns of ``store.claims``, with ``attack`` and ``defense`` as labels, ``cell`` as their keys, ``wanted``,
    the runs that the cell is the mean of, ``success_published_max``, the differences in points, ``state``, which says
    where only one of the two exists, and ``why``.
    """
    specs: dict[tuple[str, str], list[ExperimentSpec]] = {}
    reasons = {}
    for cell in cells(table):
        try:
            specs[cell] = specs_of(table, *cell, recipe)
        except NotRunnable as reason:
            reasons[cell] = str(reason)
    groups = [
        (*cell, group) for cell, own in specs.items() for group in sorted({spec.group() for spec in own})
    ]
    preset: Preset = "full" if recipe == "full" else "paper"
    rows = runtime.get().store.published.claims(table.id, groups, preset)
    rows["cell"] = list(zip(rows["attack"], rows["defense"], strict=True))
    rows["wanted"] = [len(specs.get(cell, ())) for cell in rows["cell"]]
    highest = {(attack, defense): number.success_max for attack, defense, number in table.numbers()}
    rows["success_published_max"] = [_rate(highest.get(cell)) for cell in rows["cell"]]
    order = {cell: place for place, cell in enumerate(_in_table_order(table))}
    rows = rows.sort_values("cell", key=lambda column: column.map(order), ignore_index=True)
    rows["attack_key"] = rows["attack"]
    rows["attack"] = rows["attack"].map(lambda key: table.attacks[key].label)
    rows["label"] = rows["defense"].map(lambda key: table.defenses[key].label)
    for name in ("clean_accuracy", "success"):
        rows[f"{name}_difference"] = 100 * (rows[name] - rows[f"{name}_published"])
    both = ANOTHER if recipe == "full" else BOTH
    rows["state"] = [_state(row, reasons, both) for row in dicts(rows)]
    rows["why"] = rows["cell"].map(reasons)
    return rows, specs


def _in_table_order(table: PublishedTable) -> list[tuple[str, str]]:
    return [(attack, defense) for attack in table.attacks for defense in table.defenses]


def _rate(percent: float | None) -> float:
    return float("nan") if percent is None else percent / 100


def _state(row: dict[str, Any], reasons: dict[tuple[str, str], str], both: str) -> str:
    published = not (pd.isna(row["success_published"]) and pd.isna(row["clean_accuracy_published"]))
    if 0 < row["n"] < row["wanted"]:
        return IN_PART
    if row["n"]:
        return both if published else ONLY_MEASURED
    return ONLY_PUBLISHED if row["cell"] in reasons else TO_MEASURE


def choose_attack(table: PublishedTable, rows: pd.DataFrame) -> str:
    """One attack of the table, in the URL; its defenses are drawn."""
    measured = rows[rows["n"] > 0]["attack_key"].value_counts()
    keys = list(dict.fromkeys(rows["attack_key"]))

    def label(key: str) -> str:
        count = int(measured.get(key, 0))
        return table.attacks[key].label + (f" ({count} measured)" if count else "")

    return link.choice(st, "Attack", keys, label, key="against")


def warn(table: PublishedTable) -> None:
    """Numbers that nobody read in the paper are plainly marked."""
    if table.provenance == "recalled":
        st.warning(
            "These numbers were not read in the paper but recalled: check them there before you quote them."
        )


def source(table: PublishedTable) -> None:
    """Where the numbers stand and how they came here."""
    st.markdown(
        f"**Source.** {linked(table.paper)}: {escape(table.place)}. Read in: {escape(table.read_in)}."
    )
    for note in table.notes:
        st.caption(escape(note))


def setting(table: PublishedTable, recipe: Recipe, spec: ExperimentSpec | None) -> None:
    """The published setting beside the one here, and every known deviation."""
    setting = table.setting
    here = [NONE] * 5 if spec is None else _here(spec)
    names = ("Images", "Network", "Poisoned", "Clean images", "Epochs")
    lines = zip(names, setting.model_dump().values(), here, strict=True)
    st.markdown(
        "\n".join(
            ["| | Published | Here |", "|---|---|---|"]
            + [f"| **{name}** | {escape(there)} | {escape(mine)} |" for name, there, mine in lines]
        )
    )  # wraps, as no data frame does
    if recipe == "full":
        st.markdown(
            "**Differs here**\n- Every line above whose two halves differ. What the table sets for the attack, or to "
            "tell columns of one defense apart, is kept; all other values are those of the preset full. Another "
            "network, so that no number here reproduces one there."
        )
    elif table.reproduce:
        st.markdown(
            "**Differs here**\n" + "\n".join(f"- {escape(line)}" for line in table.reproduce.deviations)
        )


def _here(spec: ExperimentSpec) -> list[str]:
    params: Any = spec.dataset.params
    attack = spec.attack.params.model_dump()
    share = attack.get("poison_rate")
    of = attack.get("rate_of", "all").replace("_", "-")
    poisoned = "as the attack's card says" if share is None else f"{100 * share:g} % of {_OF.get(of, of)}"
    if "poisons" in attack:
        poisoned = f"{attack['poisons']:,} images for each target"
    attacked = params.train_images if spec.protocol == "from_scratch" else params.head_images
    title = registry.KINDS["victim"][spec.victim.name].card.title
    return [
        f"{registry.KINDS['dataset'][spec.dataset.name].card.title}, {attacked:,} to train on",
        title,
        f"{poisoned} ({spec.attack.name})",
        f"{spec.clean_images:,}, held out",
        _training_here(spec),
    ]


def _training_here(spec: ExperimentSpec) -> str:
    """The recipe of the victims on the poisoned images, by protocol."""
    recipe: Trained = spec.training
    if spec.protocol == "linear_transfer":
        recipe = spec.head
    if spec.protocol == "fine_tune_transfer":
        recipe = spec.fine_tune
    optimizer = "SGD" if isinstance(recipe, TrainingConfig) else "Adam"
    return f"{recipe.epochs} ({optimizer} {recipe.lr:g}, {_schedule(recipe)}, batch {recipe.batch_size})"


def _schedule(recipe: Trained) -> str:
    if isinstance(recipe, TrainingConfig) and recipe.schedule != "steps":
        return recipe.schedule.replace("_", " ")
    epochs = [f"{share * recipe.epochs:g}" for share in parse_shares(recipe.drops)]
    return f"divided by 10 at {', '.join(epochs)}"


_OF = {"all": "all training images", "non-target": "the non-target images", "target": "the target class"}


OF = "k of N: the cell is a mean over N runs, such as one a target class, of which k are measured."
_SPREADS = {
    "success_published_sd": "± published",
    "success_sd": "± measured",
    "success_published_max": "worst published",
    "success_max": "worst measured",
}


def table_of(rows: pd.DataFrame, table: PublishedTable) -> None:
    """Every cell: published, measured, difference; deviations and worst runs where the table has any."""
    column = st.column_config
    rows = rows.copy()
    rows["runs"] = [
        f"{n} of {wanted}" if wanted > 1 else str(n)
        for n, wanted in zip(rows["n"], rows["wanted"], strict=True)
    ]
    spreads = [name for name in _SPREADS if (rows["wanted"] > 1).any() and rows[name].notna().any()]
    points = "Measured minus published, in percentage points."
    success = "ASR" if table.success == "asr" else "PSR"
    st.dataframe(
        rows,
        column_order=[
            "attack",
            "label",
            "clean_accuracy_published",
            "clean_accuracy",
            "clean_accuracy_difference",
            "success_published",
            "success",
            "success_difference",
            *spreads,
            "runs",
            "state",
            "provenance",
            "why",
        ],
        column_config={
            "attack": "Attack",
            "label": "Defense",
            "state": column.TextColumn("State", help="Which of the two exist."),
            "why": column.TextColumn("Why not here", help="Why a cell is only published."),
            "runs": column.TextColumn("n", help=f"{glossary.help_for('n')} {OF}", width="small"),
            **{
                name: tables.percentage(table.success, f"{success} {words}")
                for name, words in _SPREADS.items()
            },
            "clean_accuracy_published": tables.percentage("clean_accuracy", "ACC published"),
            "clean_accuracy": tables.percentage("clean_accuracy", "ACC measured"),
            "clean_accuracy_difference": column.NumberColumn(
                "Δ ACC", help=points, format="%+.2f", width="small"
            ),
            "success_published": tables.percentage(table.success, f"{success} published"),
            "success": tables.percentage(table.success, f"{success} measured"),
            "success_difference": column.NumberColumn(
                f"Δ {success}", help=points, format="%+.2f", width="small"
            ),
            "provenance": column.TextColumn(
                "Numbers", help="read: in the source. recalled: from memory, unchecked."
            ),
        },
        hide_index=True,
        placeholder=NONE,
        height=tables.height(len(rows)),
        key=f"cells-{table.id}",
        alt="Every cell of the table: published and measured accuracy and attack success, and their difference",
    )


def missing(table: PublishedTable, recipe: Recipe, rows: pd.DataFrame, attack: str) -> None:
    """What is not measured yet, and the command that does it."""
    states = rows["state"]
    open_cells = int(states.isin(OPEN).sum())
    measured = int(states.isin((BOTH, ANOTHER, ONLY_MEASURED)).sum())
    begun = int((rows["n"] > 0).sum())
    if open_cells + measured == 0:
        st.info("None of this table can be measured here; its numbers are quoted only.")
        return
    if not begun:
        where = "They take half an hour a victim on two cores" if recipe == "full" else "They need a GPU"
        st.info(
            f"Nothing of this table is measured yet: {open_cells} cells are open. {where}; the command below measures "
            "them in slices of nine minutes and goes on where it stopped. On a machine of its own, bring its results "
            "here with `import`."
        )
    elif open_cells:
        st.caption(f"{measured} cells are measured, {open_cells} are open: this command measures them.")
    else:
        st.caption("Every cell that can be run is measured. This command measured them.")
    here = rows[rows["attack_key"] == attack]
    only = attack if open_cells and len(table.attacks) > 1 and here["state"].isin(OPEN).any() else None
    st.code(reproduce_command(table.id, recipe), language=None, wrap_lines=True)
    if only:
        st.caption(f"Only {escape(table.attacks[only].label)}:")
        st.code(reproduce_command(table.id, recipe, only), language=None, wrap_lines=True)
