"""The index over run folders and the queue."""

import json
import math

import numpy as np
import pytest
from core_helpers import in_threads
from store_helpers import add, record_of

from poisonlab.measure import intervals
from poisonlab.records import artifacts
from poisonlab.records.record import RecordError, new_run_id, save_artifact, write_record
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.store import QueueFull, Store, StoreError, index
from poisonlab.store import jobs as jobs_module
from poisonlab.store.trials import _reading


def gallery() -> artifacts.ModelHealth:
    return artifacts.ModelHealth({"auroc": 0.9}, "fine")


# -- runs -----------------------------------------------------------------------------------------------


def test_what_is_added_is_found(store, spec):
    record = add(store, record_of(spec()))
    (row,) = store.runs.find().to_dict("records")
    assert row["run_id"] == record.run_id and row["success"] == 0.5 and row["undefended"] == 1.0
    assert store.runs.record(record.run_id) == record
    assert store.runs.names()["attack"] == ["badnets"]
    assert len(store.runs.find(kind="LangevinTrace")) == 0 and len(store.runs.find(dataset="cifar10")) == 0


def test_nan_is_stored_as_null_with_its_flag(store, spec):
    points = [("victim", "loss", 1, 2.0), ("victim", "loss", 2, None)]
    record = add(store, record_of(spec(), clean_accuracy=0.9, asr=None).model_copy(update={"points": points}))
    assert store.db.rows("SELECT value, diverged FROM metrics WHERE name = 'asr'") == [(None, True)]
    assert store.db.rows("SELECT value, diverged FROM points ORDER BY step") == [(2.0, False), (None, True)]
    assert store.db.rows("SELECT success, diverged FROM runs") == [(None, True)]
    store.jobs.update_progress(record.run_id, points=[("victim", "loss", 3, math.nan)])
    assert store.db.rows("SELECT value, diverged FROM points WHERE step = 3") == [(None, True)]
    with pytest.raises(StoreError, match="CHECK constraint"):
        store.db.rows("UPDATE own_runs SET der = 'nan'::DOUBLE")


def test_artifacts_load_by_checked_names_only(store, spec):
    record = record_of(spec())
    folder = store.index.runs / record.run_id
    folder.mkdir(parents=True)
    kept = save_artifact(gallery(), "ebm_health", "ebm", folder)
    add(store, record.model_copy(update={"artifacts": [kept]}))
    assert store.runs.load_artifact(record.run_id, "ebm_health") == gallery()
    assert store.runs.artifacts(record.run_id).to_dict("records") == [
        {"name": "ebm_health", "kind": "ModelHealth", "stage": "ebm"}
    ]
    assert len(store.runs.find(kind="ModelHealth")) == 1
    for run_id, name in [
        ("../runs", "ebm_health"),
        (record.run_id, "../ebm_health"),
        (record.run_id, "absent"),
    ]:
        with pytest.raises(RecordError):
            store.runs.load_artifact(run_id, name)
    (folder / "evil.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(RecordError):
        store.runs.load_artifact(record.run_id, "evil")


def test_folders_written_by_others_are_indexed_and_bad_ones_skipped(store, spec):
    record = record_of(spec())
    write_record(record, store.index.runs / record.run_id)
    bad = store.index.runs / new_run_id()
    bad.mkdir()
    (bad / "run.json").write_text("{}")
    (store.index.runs / new_run_id()).mkdir()  # still at work
    assert store.index.refresh() == 1 and store.index.refresh() == 0
    assert store.runs.find().run_id.tolist() == [record.run_id]
    assert list(store.skipped) == [bad.name]


@pytest.mark.parametrize("error", [KeyError("name"), RecursionError(), MemoryError(), OverflowError("date")])
def test_whatever_one_folder_makes_the_readers_raise_stops_no_other(store, spec, monkeypatch, error):
    bad, good = record_of(spec()), record_of(spec(seed=1))
    for record in (bad, good):
        write_record(record, store.index.runs / record.run_id)
    columns = index.run_columns

    def failing(record, *more):
        if record.run_id == bad.run_id:
            raise error
        return columns(record, *more)

    monkeypatch.setattr(index, "run_columns", failing)
    assert store.index.refresh() == 1
    assert list(store.skipped) == [bad.run_id] and store.runs.find().run_id.tolist() == [good.run_id]


def test_runs_with_many_points_are_indexed_a_few_at_a_time(store, spec, monkeypatch):
    monkeypatch.setattr(index, "BATCH_ROWS", 2)
    for seed in range(3):
        record = record_of(spec(seed=seed))
        write_record(record, store.index.runs / record.run_id)
    sizes = []
    insert = index.insert

    def counted(cursor, found):
        sizes.append(len(found))
        insert(cursor, found)

    monkeypatch.setattr(index, "insert", counted)
    assert store.index.refresh() == 3 and sizes == [2, 1]


def test_a_run_folder_that_a_dead_process_left_is_removed_at_the_start(store, spec, results):
    (job,) = store.jobs.enqueue([spec()])
    left = new_run_id()
    for run_id in (job, left):
        (store.index.runs / run_id).mkdir(parents=True)
        (store.index.runs / f".{run_id}.lock").touch()
    store.close()
    Store(results, results / "no reference").close()
    assert (store.index.runs / job).is_dir() and not (store.index.runs / left).exists()


def test_run_folders_that_could_not_be_indexed_for_want_of_room_are_looked_for_again(
    store, spec, monkeypatch
):
    def full(change):
        raise StoreError("the disk is full")

    record = record_of(spec())
    write_record(record, store.index.runs / record.run_id)
    with monkeypatch.context() as without_room:
        without_room.setattr(store.db, "write", full)
        with pytest.raises(StoreError):
            store.index.refresh()
    assert store.index.refresh() == 1
    assert store.runs.find().run_id.tolist() == [record.run_id] and not store.skipped


# -- leaderboard ------------------------------------------------------------------------------------------


def test_seeds_are_one_row_with_students_interval(store, spec):
    values = [0.80, 0.90, 0.85]
    for seed, value in enumerate(values):
        add(store, record_of(spec(seed=seed), clean_accuracy=value, asr=value / 10, asr_control=0.0))
    (row,) = store.leaderboard.with_run_ids(store.leaderboard.rows()).to_dict("records")
    low, high = intervals.mean_interval(values)
    assert row["n"] == 3 and row["threat"] == "backdoor" and len(row["run_ids"]) == 3
    assert row["clean_accuracy"] == pytest.approx(0.85)
    assert (row["clean_accuracy_low"], row["clean_accuracy_high"]) == pytest.approx((low, min(high, 1.0)))


def test_one_seed_has_no_interval_and_the_same_seed_twice_counts_once(store, spec):
    add(store, record_of(spec(), day=0, clean_accuracy=0.5, asr=0.5))
    newest = add(store, record_of(spec(), day=1, clean_accuracy=0.7, asr=0.3))
    add(store, record_of(spec(), day=2, state="failed", clean_accuracy=0.1, asr=0.1))
    (row,) = store.leaderboard.with_run_ids(store.leaderboard.rows()).to_dict("records")
    assert row["n"] == 1 and row["success"] == 0.3 and row["run_ids"] == [newest.run_id]
    assert np.isnan(row["success_low"]) and np.isnan(row["clean_accuracy_high"])


def test_targeted_attacks_pool_their_targets(store, spec):
    for seed, (success, targets) in enumerate([(0.5, 20.0), (0.1, 10.0)]):
        add(store, record_of(spec(seed=seed), clean_accuracy=0.9, poison_success=success, targets=targets))
    (row,) = store.leaderboard.rows().to_dict("records")
    assert row["threat"] == "targeted" and row["targets"] == 30
    assert row["success"] == pytest.approx(11 / 30)
    assert (row["success_low"], row["success_high"]) == pytest.approx(intervals.proportion_interval(11, 30))


def test_a_diverged_seed_is_counted_but_never_leads(store, spec):
    add(store, record_of(spec(attack__poison_rate=0.2), clean_accuracy=0.9, asr=None))
    add(store, record_of(spec(), clean_accuracy=0.9, asr=0.4))
    for descending in (True, False):
        board = store.leaderboard.rows(sort="success", descending=descending)
        assert board.success.iloc[0] == 0.4 and board.diverged.tolist() == [0, 1]


def test_a_row_says_what_its_preset_would_not_have_chosen(store, spec):
    add(store, record_of(spec(), clean_accuracy=0.9, asr=0.4))
    add(store, record_of(spec(attack__poison_rate=0.2), clean_accuracy=0.9, asr=0.6))
    plain, changed = store.leaderboard.rows().settings
    assert changed == f"{plain}, attack.poison_rate=0.2".removeprefix(", ")


def test_runs_indexed_before_there_were_settings_get_them(store, results, spec):
    add(store, record_of(spec(attack__poison_rate=0.2), clean_accuracy=0.9, asr=0.6))
    before = store.leaderboard.rows().settings.tolist()
    store.db.rows("UPDATE own_runs SET settings = NULL")
    store.close()
    again = Store(results)
    assert again.leaderboard.rows(source="local").settings.tolist() == before != [""]
    again.close()


def test_sorting_by_anything_else_is_refused(store):
    with pytest.raises(ValueError, match="choose one of: group, dataset"):
        store.leaderboard.rows(sort="success; DROP TABLE runs")
    assert store.leaderboard.rows().empty


# -- the queue --------------------------------------------------------------------------------------------


def test_jobs_are_claimed_once_each_and_in_order(store, spec):
    run_ids = store.jobs.enqueue([spec(seed=s) for s in range(6)])
    taken: list[str] = []

    def work(_: int) -> None:
        while job := store.jobs.claim("cpu"):
            taken.append(job.run_id)

    in_threads(work, 3)
    assert sorted(taken) == sorted(run_ids)
    assert set(store.jobs.find().state) == {"running"}


def test_a_job_knows_its_spec_progress_and_log(store, spec):
    (run_id,) = store.jobs.enqueue([spec()])
    store.jobs.claim("cpu")
    asked = store.jobs.update_progress(
        run_id, stage="victim", step=3, total=9, rate=math.inf, logs=[("victim", "info", "x")]
    )
    job = store.jobs.get(run_id)
    assert not asked
    assert (job.spec.experiment(), job.state, job.step, job.rate) == (spec(), "running", 3, None)
    assert job.logs == (("victim", "info", "x"),)
    assert store.jobs.request_cancel(run_id) == ("running", True)
    assert store.jobs.update_progress(run_id)


def test_jobs_queued_together_stay_together_until_the_last_has_ended(store, spec):
    first, second = store.jobs.enqueue([spec(), spec(seed=1)])
    (alone,) = store.jobs.enqueue([spec(seed=2)])
    store.jobs.claim("cpu")
    store.jobs.set_state(first, "done")

    active = store.jobs.active().set_index("run_id")

    assert active.submission.fillna("").to_dict() == {second: first, alone: "", first: first}
    assert active.state.to_dict() == {second: "queued", alone: "queued", first: "done"}
    store.jobs.request_cancel(second)
    assert list(store.jobs.active().run_id) == [alone]


def test_specs_of_jobs_come_in_the_order_of_their_ids_without_those_that_cannot_run(store, spec):
    first, second, gone = store.jobs.enqueue([spec(), spec(seed=1), spec(seed=2)])
    changed = json.dumps(json.loads(spec().model_dump_json()) | {"gone": 1})
    store.db.rows("UPDATE jobs SET spec = ? WHERE run_id = ?", [changed, gone])

    assert store.jobs.specs([second, gone, first]) == [spec(seed=1), spec()]
    assert store.jobs.specs([]) == []


def test_the_queue_has_a_limit(store, spec, monkeypatch):
    monkeypatch.setattr(jobs_module, "MAX_QUEUED", 2)
    with pytest.raises(QueueFull, match="limit of 2"):
        store.jobs.enqueue([spec()] * 3)
    assert store.jobs.find().empty


def test_only_unfinished_jobs_can_be_resumed(store, spec):
    (run_id,) = store.jobs.enqueue([spec()])
    with pytest.raises(StoreError, match="only jobs that are interrupted"):
        store.jobs.requeue(run_id)
    failed = add(store, record_of(spec(), state="failed"))  # never a job: from the command line
    store.jobs.requeue(failed.run_id)
    assert store.jobs.get(failed.run_id).state == "queued" and store.runs.find(state=None).empty


def test_jobs_of_a_dead_process_become_interrupted(store, spec, monkeypatch):
    mine, theirs = store.jobs.enqueue([spec(), spec(seed=1)])
    store.jobs.claim("cpu")
    monkeypatch.setattr(jobs_module, "PROCESS", "another")
    store.jobs.claim("cpu")
    assert store.jobs.recover() == 1
    assert {mine: store.jobs.get(mine).state, theirs: store.jobs.get(theirs).state} == {
        mine: "interrupted",
        theirs: "running",
    }


def test_an_exception_rolls_back(store, spec):
    store.jobs.enqueue([spec()])

    def change(cursor) -> None:
        cursor.execute("DELETE FROM jobs")
        raise KeyError

    with pytest.raises(KeyError):
        store.db.write(change)
    assert len(store.jobs.find()) == 1


def test_job_specs_that_no_longer_fit_fail_without_stopping_the_queue(store, spec):
    old, good = store.jobs.enqueue([spec(), spec()])
    changed = json.dumps(json.loads(spec().model_dump_json()) | {"gone": 1})
    store.db.rows("UPDATE jobs SET spec = ? WHERE run_id = ?", [changed, old])
    assert store.jobs.claim("cpu").run_id == good
    assert store.jobs.find(["failed"]).message[0].startswith("this spec does not fit")


# -- identity of a row ----------------------------------------------------------------------------------

ONE, OTHER = "1" * 24, "2" * 24  # fingerprints of data


def measured_on(data, spec, **kept):
    return record_of(spec, **kept).model_copy(update={"data": data})


def test_two_folders_of_pictures_under_one_name_are_two_rows(store, spec):
    for seed in range(2):
        add(store, measured_on(ONE, spec(seed=seed), clean_accuracy=0.9, asr=0.2))
        add(store, measured_on(OTHER, spec(seed=seed), clean_accuracy=0.5, asr=0.8))
    board = store.leaderboard.rows()
    assert board[["n", "clean_accuracy", "success"]].to_numpy().tolist() == [[2, 0.9, 0.2], [2, 0.5, 0.8]]
    assert [len(ids) for ids in store.leaderboard.with_run_ids(board)["run_ids"]] == [2, 2]


def test_records_that_name_no_data_keep_their_group_among_themselves(store, spec):
    old = [add(store, record_of(spec(seed=seed))) for seed in range(2)]
    add(store, measured_on(ONE, spec(seed=2)))
    board = store.leaderboard.rows()
    assert sorted(board["n"]) == [1, 2]
    assert old[0].spec.group() in set(board["group"])


def test_the_same_seed_on_other_data_is_another_observation(store, spec):
    for data in (ONE, OTHER):
        add(store, measured_on(data, spec()))
    assert store.db.rows("SELECT count(*) FROM runs WHERE latest") == [(2,)]


def test_pictures_over_budgets_keep_data_apart_but_go_on_with_older_records(store, spec):
    add(store, record_of(spec(defense="awm", clean_images=10)))
    add(store, measured_on(ONE, spec(defense="awm", clean_images=20)))
    assert len(store.budgets.settings()) == 1
    add(store, measured_on(OTHER, spec(defense="awm", clean_images=20)))
    assert len(store.budgets.settings()) == 3


def test_a_run_with_a_collapsed_model_is_marked_and_does_not_count(store, spec):
    add(store, record_of(spec(seed=0), clean_accuracy=0.9, asr=0.4, asr_undefended=1.0))
    bad = record_of(spec(seed=1), clean_accuracy=0.1, asr=1.0, asr_undefended=1.0)
    add(store, bad.model_copy(update={"collapsed": ("defended",)}))
    (row,) = store.leaderboard.rows().to_dict("records")
    assert (row["n"], row["collapsed"], row["clean_accuracy"], row["success"]) == (1, 1, 0.9, 0.4)
    assert sorted(store.runs.find()["success"]) == [0.4, 1.0]  # a run by itself shows what it measured


def test_a_row_of_collapsed_runs_alone_has_no_numbers(store, spec):
    bad = record_of(spec(), clean_accuracy=0.1, asr=0.0, asr_undefended=1.0)
    add(store, bad.model_copy(update={"collapsed": ("defended",)}))
    (row,) = store.leaderboard.rows(sort="success").to_dict("records")
    assert (row["n"], row["collapsed"]) == (0, 1)
    assert all(np.isnan(row[name]) for name in ("clean_accuracy", "success", "der", "success_low"))


def test_a_record_that_cannot_be_run_here_is_listed_and_compared(store, spec):
    values = spec().model_dump(mode="json") | {"dataset": {"name": "my_pictures", "params": {}}}
    record = add(store, record_of(RecordedSpec(values)))
    assert store.leaderboard.rows()["dataset"].tolist() == ["my_pictures"]
    assert store.runs.record(record.run_id).spec.obstacle().startswith("made with dataset 'my_pictures'")
    assert store.runs.names()["dataset"] == ["my_pictures"]


def test_lines_of_trials_stand_in_the_order_of_reading():
    names = ["ddpm (steps 100)", "ddpm (steps 50)", "awm", "ddpm (steps 0.5)"]

    assert sorted(names, key=_reading) == ["awm", "ddpm (steps 0.5)", "ddpm (steps 50)", "ddpm (steps 100)"]
