"""Which runs the board shows as verified: those that ``verify`` marked on this machine, and no others."""

import json
from pathlib import Path

import pytest
from store_helpers import add, record_of

from poisonlab.records.record import RECORD, RunRecord, write_record
from poisonlab.records.verified import FOLDER, claim_of, mark, read_mark
from poisonlab.store import Store
from poisonlab.store.leaderboard import verified_words

SUBMISSION = "ab" * 32


@pytest.fixture
def record(store: Store, spec) -> RunRecord:
    return add(store, record_of(spec()))


def marked(store: Store) -> list[int]:
    store.verified.index()
    return list(store.leaderboard.rows()["verified"])


def test_a_marked_run_is_counted_in_its_row(store: Store, spec, record: RunRecord) -> None:
    add(store, record_of(spec(seed=1)))
    assert marked(store) == [0]

    mark(store.results, record, SUBMISSION, "cpu")

    assert marked(store) == [1] and store.verified.has(record.run_id)
    assert verified_words(store.leaderboard.rows()).tolist() == ["1 of 2 verified"]


def test_a_row_of_verified_runs_alone_says_so(store: Store, record: RunRecord) -> None:
    assert verified_words(store.leaderboard.rows()).tolist() == [None]

    mark(store.results, record, SUBMISSION, "cpu")
    store.verified.index()

    assert verified_words(store.leaderboard.rows()).tolist() == ["verified"]


def test_marks_are_found_when_the_store_opens_again(store: Store, record: RunRecord, tmp_path: Path) -> None:
    mark(store.results, record, SUBMISSION, "cpu")
    store.close()

    again = Store(store.results, reference=tmp_path / "reference")

    assert again.verified.run_ids() == [record.run_id]
    again.close()


def test_a_run_that_comes_after_its_mark_is_marked(store: Store, spec) -> None:
    late = record_of(spec())
    mark(store.results, late, SUBMISSION, "cpu")
    assert marked(store) == []

    add(store, late)

    assert marked(store) == [1]


def test_other_numbers_under_the_same_id_are_not_verified(store: Store, record: RunRecord) -> None:
    mark(store.results, record, SUBMISSION, "cpu")
    assert marked(store) == [1]

    add(store, record.model_copy(update={"metrics": record.metrics | {"asr": 0.0}}))

    assert list(store.leaderboard.rows()["verified"]) == [0] == marked(store)[0:1]


def test_a_record_that_says_it_was_verified_is_not_believed(store: Store, spec) -> None:
    claimed = record_of(spec(), source="imported")
    folder = store.index.runs / claimed.run_id
    write_record(claimed, folder)
    said = json.loads((folder / RECORD).read_text()) | {"verified": True, "mark": {"submission": SUBMISSION}}
    (folder / RECORD).write_text(json.dumps(said))
    (folder / FOLDER).mkdir()
    mark(folder, claimed, SUBMISSION, "cpu")

    store.refresh()

    assert marked(store) == [0]


def test_a_record_that_changed_after_it_was_indexed_is_not_marked(store: Store, record: RunRecord) -> None:
    other = record.model_copy(update={"metrics": record.metrics | {"asr": 0.25}})
    write_record(other, store.index.runs / record.run_id)  # the board still shows what was indexed

    mark(store.results, other, SUBMISSION, "cpu")

    assert marked(store) == [0]


def test_a_mark_that_is_taken_away_is_forgotten(store: Store, record: RunRecord) -> None:
    mark(store.results, record, SUBMISSION, "cpu")
    assert marked(store) == [1]

    (store.results / FOLDER / f"{record.run_id}.json").unlink()

    assert marked(store) == [0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run_id": "x"}', "[" * 5000])
def test_marks_that_are_none_stop_nothing(store: Store, record: RunRecord, text: str) -> None:
    mark(store.results, record, SUBMISSION, "cpu")
    (store.results / FOLDER / f"{'0' * 8}-0000-0000-0000-{'0' * 12}.json").write_text(text)
    (store.results / FOLDER / "evil'; DROP TABLE runs; --.json").write_text(text)

    assert marked(store) == [1]


def test_a_mark_names_its_run_and_what_was_claimed(store: Store, record: RunRecord) -> None:
    mark(store.results, record, SUBMISSION, "cpu")

    found = read_mark(store.results / FOLDER / f"{record.run_id}.json")

    assert found.claim == claim_of(record) and found.device == "cpu"
    assert claim_of(record) == claim_of(record.model_copy(update={"source": "imported", "artifacts": []}))
    assert claim_of(record) != claim_of(record.model_copy(update={"threat": "targeted"}))
