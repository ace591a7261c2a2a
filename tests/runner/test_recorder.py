"""From a run to its folder, whatever happens on the way."""

import errno
import json
import math
import re
from pathlib import Path

import pytest
import torch
from core_helpers import in_threads

import poisonlab
from poisonlab.context import Context
from poisonlab.events import Cancelled, Event, Metric, StageStarted
from poisonlab.pipeline.experiment import Result
from poisonlab.records import record as run_folder
from poisonlab.records.record import RecordError, check_run_id, new_run_id, read_record
from poisonlab.records.revision import checkout_revision
from poisonlab.runner import recorder
from poisonlab.runner.recorder import Interrupted, run_and_record
from poisonlab.runner.remote import program

EVIL_ARTIFACT = {"name": "a", "kind": "K", "stage": "", "file": "../a.safetensors", "sha256": "0" * 64}
RUN_ID = "01a1fc07-7bbc-7a0d-b5e0-eaf5ec6abc50"


def raising(error: BaseException):
    def run_experiment(spec, ctx: Context) -> Result:
        ctx.emit(StageStarted("victim"))
        raise error

    return run_experiment


def test_a_run_leaves_a_folder_that_reads_back(results, spec):
    record = run_and_record(spec(), results / "runs", cache_root=results / "cache")

    folder = results / "runs" / record.run_id
    read, _ = read_record(folder)
    assert read == record
    assert record.state == "done"
    assert set(record.metrics) >= {"clean_accuracy", "clean_accuracy_undefended", "asr", "asr_control"}
    assert {a.name: a.kind for a in record.artifacts}["poison"] == "PoisonGallery"
    assert sorted(f.name for f in folder.iterdir()) == [
        "poison.safetensors",
        "run.json",
        "true_trigger.safetensors",
    ]
    assert record.torch and record.device == "cpu" and record.peak_memory_mb > 0
    assert sum(record.timings.values()) == pytest.approx(record.seconds, rel=0.5, abs=0.3)


def test_same_spec_with_an_empty_cache_gives_identical_metrics(results, spec):
    first = run_and_record(spec("awm", defense__rounds=1), results / "runs", cache_root=results / "cache1")
    again = run_and_record(spec("awm", defense__rounds=1), results / "runs", cache_root=results / "cache2")
    assert first.metrics == again.metrics
    assert not first.cached and not again.cached


def test_a_second_run_takes_its_stages_from_the_cache(results, spec):
    first = run_and_record(spec(), results / "runs", cache_root=results / "cache")
    again = run_and_record(spec(), results / "runs", cache_root=results / "cache")
    assert again.cached == ["poison", "control", "victim"]
    assert all(again.timings[stage] == 0 for stage in again.cached)
    assert again.metrics == first.metrics and again.points == first.points


def test_two_threads_with_one_spec_compute_each_stage_once(results, spec):
    done = []

    def run(_: int) -> None:
        shared = spec(training__epochs=4)
        done.append(run_and_record(shared, results / "runs", cache_root=results / "cache"))

    in_threads(run, 2)
    assert [record.state for record in done] == ["done", "done"]
    for stage in ("poison", "control", "victim"):
        assert sum(stage in record.cached for record in done) == 1, stage
    assert done[0].metrics == done[1].metrics


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("poison_rate=1.0 asks for 100\nof 90"), "poison_rate=1.0 asks for 100 of 90"),
        (torch.OutOfMemoryError("CUDA out of memory"), "lower training.batch_size \\(now 50\\)"),
        (RuntimeError("CUDA error: device-side assert triggered\nmore"), "the GPU failed .*nvidia-smi"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "the disk is full"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero .*please report"),
    ],
)
def test_a_failed_run_is_recorded_with_what_to_do(results, spec, monkeypatch, error, expected):
    monkeypatch.setattr(recorder, "run_experiment", raising(error))
    record = run_and_record(spec(), results / "runs")
    assert record.state == "failed"
    assert re.search(expected, record.message) and "\n" not in record.message
    assert read_record(results / "runs" / record.run_id)[0].state == "failed"


def test_a_gpu_that_is_not_there_fails_the_run_and_names_the_others(results, spec, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    record = run_and_record(spec(), results / "runs", device="cuda")
    assert record.state == "failed" and "use cpu or auto" in record.message


def test_numbers_that_diverged_become_null(results, spec, monkeypatch):
    def diverging(spec, ctx: Context) -> Result:
        ctx.emit(Metric("victim", "loss", 1, math.inf))
        return Result({"clean_accuracy": math.nan}, {}, [], data="0" * 24, collapsed=())

    monkeypatch.setattr(recorder, "run_experiment", diverging)
    record = run_and_record(spec(), results / "runs")
    assert record.metrics == {"clean_accuracy": None} and record.points == [("victim", "loss", 1, None)]
    assert record.diverged
    json.loads((results / "runs" / record.run_id / "run.json").read_text(), parse_constant=pytest.fail)


def test_a_cancelled_run_is_recorded_and_an_interrupted_one_is_not(results, spec):
    def send(error: type[Exception]):
        def hear(event: Event) -> None:
            if isinstance(event, StageStarted) and event.stage == "victim":
                raise error

        return hear

    record = run_and_record(spec(), results / "runs", send=send(Cancelled))
    assert record.state == "cancelled" and record.timings.keys() == {"poison", "control"}
    with pytest.raises(Interrupted):
        run_and_record(spec(), results / "runs", run_id=RUN_ID, send=send(Interrupted))
    assert not (results / "runs" / RUN_ID / "run.json").exists()


def test_a_full_disk_at_the_end_fails_the_run(results, spec, monkeypatch):
    def full(record, folder) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(recorder, "write_record", full)
    record = run_and_record(spec(), results / "runs")
    assert record.state == "failed" and "disk is full" in record.message
    assert not list((results / "runs").iterdir())


# -- folders from elsewhere -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["../../etc", "01A1FC07-7BBC-7A0D-B5E0-EAF5EC6ABC50", "x' OR 1=1 --", "", None, 7]
)
def test_only_plain_uuids_are_run_ids(value):
    with pytest.raises(RecordError, match="not a run id"):
        check_run_id(value)


def test_new_ids_are_uuids_that_sort_by_time():
    first = new_run_id()
    assert check_run_id(first) == first and first[14] == "7"


@pytest.mark.parametrize("name", ["../x", "a/b", "A", "", "x.y", "a" * 65, "a\n"])
def test_only_plain_names_are_artifact_names(name):
    with pytest.raises(RecordError, match="is refused"):
        run_folder.artifact_file(name)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"run_id": "../evil"}, "run_id"),
        ({"metrics": {"asr; DROP TABLE runs": 1}}, "metrics"),
        ({"metrics": {"asr": math.nan}}, "metrics"),
        ({"state": "running"}, "state"),
        ({"artifacts": [EVIL_ARTIFACT]}, "must lie"),
        ({"spec": {"seed": 0}}, "spec"),
    ],
)
def test_a_record_that_breaks_a_rule_is_refused(results, spec, change, expected):
    record = run_and_record(spec(), results / "runs")
    path = results / "runs" / record.run_id / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RecordError, match=expected):
        read_record(path.parent)


def test_links_and_oversized_files_are_refused(tmp_path: Path, monkeypatch):
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "run.json").symlink_to(tmp_path / "secret")
    with pytest.raises(RecordError, match="links are refused"):
        read_record(tmp_path)
    monkeypatch.setattr(run_folder, "MAX_RECORD_BYTES", 1)
    (tmp_path / "run.json").unlink()
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RecordError, match="at most 1"):
        read_record(tmp_path)


def test_revision_is_read_without_git(tmp_path: Path):
    assert checkout_revision(tmp_path) == ""
    (tmp_path / ".git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / ".git" / "packed-refs").write_text("# pack\n" + "ab" * 20 + " refs/heads/main\n")
    assert checkout_revision(tmp_path) == "ababababab"
    (tmp_path / ".git" / "refs" / "heads" / "main").write_text("cd" * 20)
    assert checkout_revision(tmp_path) == "cdcdcdcdcd"


def test_a_checkout_that_moves_on_under_a_program_does_not_change_what_it_says_it_is(
    spec, tmp_path, monkeypatch
):
    before = program()
    first = run_and_record(spec(), tmp_path / "runs", device="cpu")
    (tmp_path / "REVISION").write_text("0123456789")
    monkeypatch.setattr(poisonlab, "app_folder", lambda: tmp_path)
    assert program() == before
    assert run_and_record(spec(), tmp_path / "runs", device="cpu").revision == first.revision
