"""How far two settings agree on which defense is better: rank correlation over what both measured."""

from itertools import combinations

import pandas as pd

from poisonlab.measure.ranking import spearman
from poisonlab.published.tables import published_tables
from poisonlab.store.ranking import NOTHING, Block

LEAST = 4  # methods in common; of fewer, any order is likely by chance
PUBLISHED = "published:"  # begins the name that a published table has in place of a preset


def published_runs(measured: pd.DataFrame) -> pd.DataFrame:
    """The cells of published tables in the form of runs, for :func:`agreement`; the table stands in place of a preset.

    Of several cells of one attack and defense the first counts, which is the usual setting.

    Args:
        measured: runs as :func:`agreement` takes them; they say which kind of threat an attack is.
    """
    threats = dict(zip(measured["attack"], measured["threat"], strict=True))
    rows = []
    for table in published_tables().values():
        if table.reproduce is None:
            continue
        dataset = table.reproduce.dataset
        for attack, defense, number in table.numbers():
            names = table.attacks[attack].name, table.defenses[defense].name
            if number.success is not None and names[0] in threats and names[1] is not None:
                place = (dataset, threats[names[0]], f"{PUBLISHED} {table.id}")
                rows.append((*place, *names, 0, number.success / 100))
    columns = ["dataset", "threat", "preset", "attack", "defense", "seed", "success"]
    found = pd.DataFrame(rows, columns=columns)
    return found.drop_duplicates(columns[:-2], ignore_index=True)


def agreement(runs: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of the defenses' mean success, over the attacks that both blocks measured.

    Args:
        runs: one row a run: dataset, threat, preset, attack, defense, seed, success.

    Returns:
        A row for each pair of blocks of one threat with enough in common, those with most first: ``first``, ``second``
        (blocks, as text), ``attacks``, ``defenses`` (how many in common), ``spearman``, ``p``.
    """
    blocks = {}
    for names, part in runs[runs["defense"] != NOTHING].groupby(["dataset", "threat", "preset"]):
        block = Block(*(str(name) for name in names))
        blocks[block] = part.pivot_table(index="defense", columns="attack", values="success")
    pairs = [
        _correlated(*one, *other)
        for one, other in combinations(blocks.items(), 2)
        if not (one[0].preset.startswith(PUBLISHED) and other[0].preset.startswith(PUBLISHED))
    ]
    columns = ["first", "second", "attacks", "defenses", "spearman", "p"]
    table = pd.DataFrame([pair for pair in pairs if pair], columns=columns)
    return table.sort_values(["attacks", "defenses"], ascending=False, ignore_index=True)


def _correlated(
    first: Block, one: pd.DataFrame, second: Block, other: pd.DataFrame
) -> tuple[str, str, int, int, float, float] | None:
    """The pair's row; ``None`` where both have too little in common, or one of them tells no defenses apart."""
    if first.threat != second.threat:
        return None
    attacks = sorted(set(one.columns) & set(other.columns))
    both = (
        one.reindex(columns=attacks)
        .dropna()
        .index.intersection(other.reindex(columns=attacks).dropna().index)
    )
    if not attacks or len(both) < LEAST:
        return None
    left = one.loc[both, attacks].mean(axis=1)
    right = other.loc[both, attacks].mean(axis=1)
    if left.nunique() < 2 or right.nunique() < 2:
        return None
    rho, chance = spearman(left.tolist(), right.tolist())
    return str(first), str(second), len(attacks), len(both), rho, chance
