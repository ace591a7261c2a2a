"""What a report tells of the runs behind it."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from store_helpers import add, record_of

from poisonlab.records.artifacts import KINDS
from poisonlab.records.differences import differing_metrics, differing_settings
from poisonlab.records.record import save_artifact
from poisonlab.report.board import board_report
from poisonlab.report.compare import compare_report
from poisonlab.report.recorded import SECTIONS, sections
from poisonlab.report.run import TRIALS, curves, headline, recorded, run_report, words_of
from poisonlab.store import Store


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The runs that come with the program."""
    opened = Store(tmp_path_factory.mktemp("shipped"))
    yield opened
    opened.close()


def test_every_kind_of_artifact_has_a_section() -> None:
    assert SECTIONS.keys() == KINDS.keys()


def test_every_artifact_that_is_shipped_gets_its_section(shipped: Store) -> None:
    seen = set()
    for run_id in sorted(shipped.runs.shipped.showcase):
        record = shipped.runs.record(run_id)
        kinds = {item.kind for item in record.artifacts}
        if kinds <= seen:
            continue
        seen |= kinds
        found = recorded(shipped.runs, record)
        assert len(found.sections) == len([item for item in record.artifacts if item.trial < TRIALS])
        assert all("are left out" in sentence for sentence in found.missing)
        assert all(one.drawings or one.strips or one.text for one in found.sections)
    assert seen == KINDS.keys()


def test_a_board_names_every_run_that_it_is_made_of(shipped: Store) -> None:
    block = shipped.rankings.blocks()[0]
    text = board_report(shipped, block, "defense", 0.05)
    runs = shipped.rankings.runs(block)

    assert len(runs) > 100
    assert all(f'<tr id="run-{run_id}">' in text for run_id in runs["run_id"])
    assert "@inproceedings{wu2021adversarial," in text and "leaderboard --rank defense --dataset" in text


def test_a_run_stands_beside_the_undefended_model_and_the_control(spec) -> None:
    rows = headline(record_of(spec()))

    assert rows[0] == {"name": "clean_accuracy", "value": 0.9, "undefended": None, "control": None}
    assert rows[1] == {"name": "asr", "value": 0.5, "undefended": 1.0, "control": 0.0}
    assert len(rows) == 2


def test_a_measure_is_explained_once_and_so_is_each_model() -> None:
    assert words_of(["asr", "asr_control", "asr_undefended", "der"]) == [
        "asr",
        "der",
        "control",
        "undefended",
    ]


def test_a_quantity_that_no_stage_reported_twice_is_no_curve() -> None:
    rows = [
        ("victim", "loss", 1, 2.0),
        ("victim", "loss", 2, 1.0),
        ("purify", "psnr", 5, 20.0),
        ("other", "psnr", 5, 9.0),
    ]
    points = pd.DataFrame(rows, columns=["stage", "name", "step", "value"])

    assert [one.caption.partition(".")[0] for one in curves(points)] == ["Training loss"]


def test_a_shipped_run_without_its_pictures_says_so(shipped: Store) -> None:
    rows = shipped.runs.find(limit=5000)
    run_id = next(run_id for run_id in rows["run_id"] if not shipped.runs.has_pictures(run_id))

    text = run_report(shipped.runs, shipped.runs.record(run_id))

    assert "Pictures of this run are not part of the download" in text


def folder_and_histogram(store: Store, run_id: str) -> tuple[Path, Any]:
    """The folder of a run that is to be, and an artifact for it."""
    folder = store.index.runs / run_id
    folder.mkdir(parents=True)
    counts = torch.ones(2, dtype=torch.long)
    return folder, KINDS["PredictionHistogram"](counts, counts.clone(), ["a", "b"])


def test_a_damaged_artifact_is_named_and_the_rest_is_shown(store: Store, spec) -> None:
    record = record_of(spec())
    folder, histogram = folder_and_histogram(store, record.run_id)
    items = [save_artifact(histogram, name, "defend", folder) for name in ("broken", "whole")]
    (folder / items[0].file).write_bytes(b"")
    add(store, record.model_copy(update={"artifacts": items}))

    found = recorded(store.runs, store.runs.record(record.run_id))

    assert len(found.sections) == 1
    assert "broken of this run cannot be read" in found.missing[0]


def test_pictures_of_the_first_trials_are_shown_and_the_others_counted(store: Store, spec) -> None:
    record = record_of(spec())
    folder, histogram = folder_and_histogram(store, record.run_id)
    trials = [save_artifact(histogram, "each", "defend", folder, trial) for trial in range(TRIALS + 2)]
    once = save_artifact(histogram, "once", "defend", folder)
    add(store, record.model_copy(update={"artifacts": [*trials, once]}))

    found = recorded(store.runs, store.runs.record(record.run_id))
    first = recorded(store.runs, store.runs.record(record.run_id), trials=1)

    named = [f"After unlearning, trial {number}" for number in range(1, TRIALS + 1)]
    assert [section.title for section in found.sections] == ["After unlearning", *named]
    assert found.missing == (f"Of {TRIALS + 2} trials the first {TRIALS} are shown; 2 are left out.",)
    assert [section.title for section in first.sections] == ["After unlearning"] * 2
    assert first.missing == (f"Of {TRIALS + 2} trials trial 1 is shown; {TRIALS + 1} are left out.",)


def test_unknown_kinds_are_passed_over() -> None:
    assert sections([object()]) == []


def test_a_comparison_holds_what_differs_and_all_metrics_of_each(store: Store, spec) -> None:
    first = add(store, record_of(spec(seed=0), clean_accuracy=0.91, asr=0.25))
    second = add(store, record_of(spec(seed=1), clean_accuracy=0.91, asr=0.75))

    text = compare_report(store.runs, [first, second])

    assert differing_metrics([first, second]) == {"asr": [0.25, 0.75]}
    assert differing_settings([first, second]) == {"seed": [0, 1]}
    assert text.count('data-name="clean_accuracy"') == 2
    assert 'data-value="0.25"' in text and 'data-value="0.75"' in text
    assert all(f'<tr id="run-{record.run_id}">' in text for record in (first, second))


@pytest.mark.parametrize("count", [1, 9])
def test_a_comparison_takes_two_to_eight_runs(count: int, store: Store, spec) -> None:
    with pytest.raises(ValueError, match="2 to 8 runs"):
        compare_report(store.runs, [record_of(spec(seed=seed)) for seed in range(count)])
