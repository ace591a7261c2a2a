"""From a cell of a published table to the experiments that would measure it here.

The recipes ``faster`` and ``published`` are the preset ``paper`` under the table's setting. ``full`` is the preset of
that name: the table's attack on another network, with values of our own; no reproduction of the table. What tells
defenses of the table apart that are one method here, such as JPEG at several qualities, stays the table's.
"""

from poisonlab import registry
from poisonlab.published.tables import Method, PublishedTable, Recipe, Settings
from poisonlab.spec.config import ExperimentSpec, Preset, SpecError, make_spec


class NotRunnable(ValueError):
    """A cell that can only be quoted; the message says why."""


def specs_of(
    table: PublishedTable, attack: str, defense: str, recipe: Recipe = "faster", seed: int = 0
) -> list[ExperimentSpec]:
    """The specs of a cell: one for each choice of its attack, of which the cell is the mean.

    Args:
        attack, defense: the table's own keys.
        seed: another one, another repeat of the cell.

    Raises:
        NotRunnable: no method or no dataset here stands for what the table names.
    """
    plan = table.reproduce
    if plan is None:
        raise NotRunnable("its setting cannot be run here")
    for kind, name in (("dataset", plan.dataset), ("victim", plan.victim)):
        if name not in registry.KINDS[kind]:
            raise NotRunnable(f"there is no {kind} {name} here")
    methods: dict[str, Method] = {"attack": table.attacks[attack], "defense": table.defenses[defense]}
    names = {kind: _registered(kind, method) for kind, method in methods.items()}
    if recipe == "full":
        preset: Preset = "full"
        victim = None
        settings = _of_full(table, attack, defense)
    else:
        preset = "paper"
        victim = plan.victim
        settings = _settings(table, attack, defense, recipe)
    choices = table.attacks[attack].choices()
    specs = []
    for choice in choices:
        if "seed" in choice:
            choice["seed"] = int(choice["seed"]) + seed * len(table.attacks[attack].over["seed"])
        own = settings | choice
        try:
            spec = make_spec(plan.dataset, **names, preset=preset, seed=seed, victim=victim, overrides=own)
        except SpecError as error:
            raise NotRunnable(f"the spec does not fit: {error}") from None
        specs.append(spec)
    return specs


def _settings(table: PublishedTable, attack: str, defense: str, recipe: Recipe) -> Settings:
    """All that the table sets for a cell: its own recipe, the attack's, the defense's, the cell's."""
    plan = table.reproduce
    assert plan is not None
    settings = plan.settings | (plan.faster if recipe == "faster" else plan.published)
    for method in (table.attacks[attack], table.defenses[defense]):
        settings |= method.settings | (method.faster if recipe == "faster" else {})
    return settings | table.cell_settings.get(attack, {}).get(defense, {})


def _of_full(table: PublishedTable, attack: str, defense: str) -> Settings:
    """What makes a cell what it is on any network: protocol and attack, and what tells its defense from others.

    How many images each part of a dataset has is the preset's own affair.
    """
    whole = _settings(table, attack, defense, "published")
    own = table.defenses[defense]
    alike = [method.settings for method in table.defenses.values() if method.name == own.name]
    telling = {name for settings in alike for name in settings if len({s.get(name) for s in alike}) > 1}
    kept = (
        {"protocol"} | telling | {n for n in table.attacks[attack].settings if not n.startswith("dataset.")}
    )
    return {name: value for name, value in whole.items() if name in kept or name.startswith("attack.")}


def spec_of(
    table: PublishedTable, attack: str, defense: str, recipe: Recipe = "faster", seed: int = 0
) -> ExperimentSpec:
    """The first of a cell's specs.

    Raises:
        NotRunnable: as :func:`specs_of`.
    """
    return specs_of(table, attack, defense, recipe, seed)[0]


def _registered(kind: str, method: Method) -> str:
    if method.name is None:
        raise NotRunnable(f"no {kind} here stands for {method.label}")
    if method.name not in registry.KINDS[kind]:
        raise NotRunnable(f"there is no {kind} {method.name} here")
    return method.name


def cells(table: PublishedTable) -> list[tuple[str, str]]:
    """Attack and defense of every cell, attack by attack: those with a number, then those that stand beside them."""
    every = [(attack, defense) for attack in table.attacks for defense in table.defenses]
    return sorted(every, key=lambda cell: cell[1] not in table.values.get(cell[0], {}))
