"""The board of a block: what counts, what is complete, and in which order rows stand."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from poisonlab.store import Store
from poisonlab.store.agreement import agreement, published_runs
from poisonlab.store.latex import as_latex, escaped
from poisonlab.store.ranking import Block, ranked

BLOCK = Block("cifar10", "backdoor", "quick")


def runs(*cells: tuple[str, str, int, float, float]) -> pd.DataFrame:
    """Attack, defense, seed, success, accuracy lost; undefended, each attack succeeds always."""
    frame = pd.DataFrame(cells, columns=["attack", "defense", "seed", "success", "loss"])
    return frame.assign(success_undefended=1.0, seconds=2.0)


TABLE = runs(
    ("a", "none", 0, 1.0, 0.0),
    ("b", "none", 0, 1.0, 0.0),
    ("a", "good", 0, 0.1, 0.01),
    ("b", "good", 0, 0.3, 0.03),
    ("b", "good", 1, 0.5, 0.03),
    ("a", "dear", 0, 0.0, 0.20),
    ("b", "dear", 0, 0.2, 0.00),
    ("a", "once", 0, 0.0, 0.00),
)


def test_a_row_is_the_mean_over_tasks_of_the_mean_over_seeds() -> None:
    rows = ranked(TABLE, BLOCK, "defense", 0.05).rows.set_index("name")

    assert rows.loc["good", "success"] == pytest.approx((0.1 + 0.4) / 2)
    assert rows.loc["good", "worst"] == pytest.approx(0.4) and rows.loc["good", "worst_on"] == "b"
    assert rows.loc["good", "loss"] == pytest.approx(0.02)
    assert (rows.loc["good", "seeds_least"], rows.loc["good", "seeds_most"]) == (1, 2)


def test_an_attack_repaired_at_too_high_a_price_counts_as_not_repaired() -> None:
    strict = ranked(TABLE, BLOCK, "defense", 0.05).rows.set_index("name")
    lenient = ranked(TABLE, BLOCK, "defense", 0.25).rows.set_index("name")

    assert strict.loc["dear", "success"] == pytest.approx((1.0 + 0.2) / 2)
    assert strict.loc["dear", "too_dear"] == 1
    assert lenient.loc["dear", "success"] == pytest.approx(0.1) and lenient.loc["dear", "too_dear"] == 0


def test_incomplete_rows_stand_below_complete_ones_and_none_stands_first() -> None:
    rows = ranked(TABLE, BLOCK, "defense", 0.05).rows

    assert list(rows["name"]) == ["none", "good", "dear", "once"]
    assert list(rows["complete"]) == [True, True, True, False]
    assert pd.isna(rows["rank"].iloc[-1])  # although it let nothing through


def test_an_attack_that_few_defenses_met_is_no_task() -> None:
    rare = pd.concat([TABLE, runs(("c", "good", 0, 0.9, 0.0))])

    board = ranked(rare, BLOCK, "defense", 0.05)

    assert board.tasks == ["a", "b"]
    assert board.rows.set_index("name").loc["good", "success"] == pytest.approx(0.25)


def test_attacks_are_ranked_by_what_they_keep_against_defenses() -> None:
    board = ranked(TABLE, BLOCK, "attack", 0.05)

    rows = board.rows.set_index("name")
    assert board.tasks == ["dear", "good", "once"]
    assert rows.loc["b", "success"] == pytest.approx((0.2 + 0.4) / 2)
    assert rows["complete"].to_dict() == {"a": True, "b": False}


def test_a_single_method_has_no_rank() -> None:
    board = ranked(runs(("a", "good", 0, 0.1, 0.0)), BLOCK, "defense", 0.05)

    assert board.ranks is None and board.rows["rank"].isna().all()


def test_the_shipped_runs_open_on_the_block_with_most_evidence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    try:
        blocks = store.rankings.blocks()
        board = store.rankings.board(blocks[0])
    finally:
        store.close()

    assert (blocks[0].dataset, blocks[0].threat) == ("cifar10", "backdoor")
    assert len(board.tasks) >= 8 and board.rows["name"].iloc[0] == "none"
    assert board.ranks is not None and board.ranks.friedman is not None and board.ranks.friedman < 1e-4
    complete = board.rows[board.rows["complete"]]
    assert (complete["rank_low"] <= complete["mean_rank"]).all()
    assert list(complete["rank"].iloc[1:]) == sorted(complete["rank"].iloc[1:])


def test_a_screen_which_changes_no_network_has_no_place_among_repairs(tmp_path: Path) -> None:
    """Its success would be that of the undefended victim behind it."""
    store = Store(tmp_path)
    try:
        ranked_runs = store.rankings.all_runs()
        measured = set(store.leaderboard.rows()["defense"])
    finally:
        store.close()

    screens = {"ibd_psc", "scale_up", "cognitive_distillation", "strip"}
    assert screens <= measured
    assert not screens & set(ranked_runs["defense"])
    assert {"none", "rnp", "neural_cleanse", "abl", "jpeg", "spectral_signatures"} <= set(
        ranked_runs["defense"]
    )


def test_settings_agree_as_far_as_their_orders_of_defenses_do() -> None:
    """Spearman by hand: orders 1234 and 2134 differ in two places by one, 1 - 6 (1 + 1) / (4 (16 - 1)) = 0.8."""
    success = {"quick": (0.1, 0.2, 0.3, 0.4), "full": (0.3, 0.1, 0.5, 0.6)}
    rows = [
        ("cifar10", "backdoor", preset, attack, f"d{number}", 0, value)
        for preset, values in success.items()
        for number, value in enumerate(values)
        for attack in ("a", "b" if preset == "quick" else "c")
    ]
    columns = ["dataset", "threat", "preset", "attack", "defense", "seed", "success"]

    found = agreement(pd.DataFrame(rows, columns=columns))

    assert list(found[["attacks", "defenses"]].iloc[0]) == [1, 4]
    assert found["spearman"].iloc[0] == pytest.approx(0.8)
    assert agreement(pd.DataFrame(rows[:3], columns=columns)).empty


def test_a_latex_table_escapes_names_and_marks_the_best() -> None:
    named = TABLE.replace({"defense": {"good": "good_one"}})

    text = as_latex(ranked(named, BLOCK, "defense", 0.05), "Defense")

    assert r"1 & \textbf{good\_one} & 1." in text
    assert r"-- & once & -- & 0.0" in text
    assert text.count(r"\midrule") == 2 and text.count(r"\\") == 5
    assert escaped("50%_{x}^2~\\") == r"50\%\_\{x\}\textasciicircum{}2\textasciitilde{}\textbackslash{}"


def has_latex() -> bool:
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_latex(), reason="needs LaTeX (apt-get install texlive-latex-recommended)")
def test_the_latex_table_compiles(tmp_path: Path) -> None:
    table = as_latex(ranked(TABLE, BLOCK, "defense", 0.05), "Defense")
    document = (
        f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{table}\n\\end{{document}}"
    )
    (tmp_path / "board.tex").write_text(document)

    subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "board.tex"], cwd=tmp_path, check=True
    )

    assert (tmp_path / "board.pdf").stat().st_size > 1000


def test_an_unreasonable_price_is_refused() -> None:
    with pytest.raises(ValueError, match="loss_allowed"):
        ranked(TABLE, BLOCK, "defense", 1.5)


def test_published_tables_agree_with_what_is_measured_and_are_not_compared_with_each_other() -> None:
    columns = ["dataset", "threat", "preset", "attack", "defense", "seed", "success"]
    published = published_runs(
        pd.DataFrame([("x", "backdoor", "full", "badnets", "anp", 0, 0.1)], columns=columns)
    )
    table = published[published["preset"] == "published: ftsam_cifar10"]
    measured = table.assign(preset="full", success=2 * table["success"])  # the same order, other rates

    found = agreement(pd.concat([measured, published]))

    assert set(published["attack"]) == {"badnets"}  # what nobody measured is of no known kind of threat
    assert table.set_index("defense")["success"]["ft_sam"] == pytest.approx(0.0163)
    both = set(found["first"]) | set(found["second"])
    assert all("full" in (one + other) for one, other in zip(found["first"], found["second"], strict=True))
    row = found[found["second"].str.contains("ftsam_cifar10") | found["first"].str.contains("ftsam_cifar10")]
    assert row["spearman"].tolist() == [pytest.approx(1.0)] and len(both) > 1
