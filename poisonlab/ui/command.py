"""The command line that does what a page shows. Knows nothing of the browser."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from poisonlab.measure import catalogue
from poisonlab.spec.command import PROGRAM
from poisonlab.spec.overrides import write_setting


def sweep_command(
    datasets: Iterable[str],
    attacks: Iterable[str],
    defenses: Iterable[str],
    seeds: Iterable[int],
    preset: str,
    *,
    victim: str = "",
    clean_images: Iterable[int] = (),
    settings: Mapping[str, Any] | None = None,
) -> str:
    """``python -m poisonlab sweep ...`` over every combination.

    Args:
        victim: where it is not the usual one. settings: dotted name -> value, for all runs.
    """

    def listed(values: Iterable[object]) -> str:
        return shlex.quote(",".join(str(v) for v in values))

    parts = [
        f"{PROGRAM} sweep --dataset {listed(datasets)} --attack {listed(attacks)} "
        f"--defense {listed(defenses)} --seed {listed(seeds)} --preset {preset}"
    ]
    parts += [f"--victim {shlex.quote(victim)}"] if victim else []
    budgets = listed(clean_images)
    parts += [f"--clean-images {budgets}"] if budgets.strip("'") else []
    parts += [f"--set {shlex.quote(write_setting(name, value))}" for name, value in (settings or {}).items()]
    return " ".join(parts)


def leaderboard_command(sort: str, descending: bool, **filters: str | None) -> str:
    """``python -m poisonlab leaderboard ...`` with the filters that are set."""
    chosen = [f"--{name} {shlex.quote(value)}" for name, value in filters.items() if value]
    order = [] if sort == "success" else [f"--sort {shlex.quote(sort)}"]
    return " ".join([PROGRAM, "leaderboard", *chosen, *order, *_direction(sort, descending)])


def _direction(sort: str, descending: bool) -> list[str]:
    """The option of an order that is not the column's own."""
    if descending == catalogue.largest_first(sort):
        return []
    return ["--descending" if descending else "--no-descending"]


def reproduce_command(table: str, recipe: str, only: str | None = None) -> str:
    """``python -m poisonlab reproduce ...``, on a GPU unless the recipe fits a processor."""
    parts = [PROGRAM, "reproduce", shlex.quote(table)]
    parts += ["--device cuda"] if recipe != "full" else []
    parts += [f"--only {shlex.quote(only)}"] if only else []
    option = {"published": ["--published-epochs"], "full": ["--full"]}
    return " ".join(parts + option.get(recipe, []))
