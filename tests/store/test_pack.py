"""Shipped results: packed from run folders, read where they lie, equal to what they were packed from."""

import json
import shutil
from pathlib import Path

import pytest
from store_helpers import record_of, ship

from poisonlab.cli import main
from poisonlab.records.artifacts import ModelHealth
from poisonlab.records.record import RecordError, read_record, read_values, save_artifact, write_record
from poisonlab.store import Store
from poisonlab.store.pack import pack
from poisonlab.store.shipped import NotShipped, extract, open_shipped, shipped_ids


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return tmp_path / "reference"


def runs_with_pictures(folder: Path, specs) -> list:
    """Run folders, each with an artifact."""
    records = []
    for spec in specs:
        record = record_of(spec).model_copy(
            update={
                "points": [
                    ("victim", "loss", 1, 2.0),
                    ("victim", "loss", 2, None),
                    ("victim", "accuracy", 1, 0.1),
                ],
                "logs": [("victim", "warning", "two words"), ("repair", "info", "more")],
            }
        )
        kept = save_artifact(
            ModelHealth({"psnr": 30.0}, "fine"), "health", "ebm", _made(folder / record.run_id)
        )
        record = record.model_copy(update={"artifacts": [kept]})
        write_record(record, folder / record.run_id)
        records.append(record)
    return records


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_the_same_runs_give_the_same_bytes_whether_from_folders_or_from_a_pack(tmp_path, spec):
    runs_with_pictures(tmp_path / "runs", [spec(seed=seed) for seed in range(5)])

    pack(tmp_path, tmp_path / "first")
    pack(tmp_path / "runs", tmp_path / "second")
    pack(tmp_path / "first", tmp_path / "third")

    assert contents(tmp_path / "first") == contents(tmp_path / "second") == contents(tmp_path / "third")


def test_new_runs_are_added_to_a_pack_and_none_counts_twice(tmp_path, spec):
    runs_with_pictures(tmp_path / "old", [spec(seed=seed) for seed in range(3)])
    shutil.copytree(tmp_path / "old", tmp_path / "all")
    new = runs_with_pictures(tmp_path / "new", [spec(seed=seed) for seed in (3, 4)])
    for record in new:
        shutil.copytree(tmp_path / "new" / record.run_id, tmp_path / "all" / record.run_id)
    pack(tmp_path / "old", tmp_path / "grown")

    packed = pack(tmp_path / "grown", tmp_path / "grown", [tmp_path / "new", tmp_path / "old"])
    pack(tmp_path / "all", tmp_path / "at once")

    assert packed.runs == 5 and contents(tmp_path / "grown") == contents(tmp_path / "at once")


def test_runs_of_code_that_has_changed_are_taken_out(tmp_path, spec, capsys):
    records = runs_with_pictures(tmp_path / "runs", [spec(seed=seed) for seed in range(3)])
    (tmp_path / "old.txt").write_text(f"{records[0].run_id}\n{records[2].run_id}\n", encoding="utf-8")

    main.main(
        [
            "results",
            "pack",
            str(tmp_path / "runs"),
            str(tmp_path / "pack"),
            "--without",
            str(tmp_path / "old.txt"),
        ]
    )

    assert capsys.readouterr().out.startswith("1 runs in")
    assert shipped_ids(tmp_path / "pack") == {records[1].run_id}


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (b"\xff\xfe not text", 2, "--without takes a text file of run ids"),
        (b"01a22891-f534,", 2, "'01a22891-f534,' is not a run id"),
        (b"01a22891-f534-73ca-8a35-92e2697bafc1", 0, "is in no source"),
    ],
)
def test_a_list_that_names_no_run_is_not_passed_over(tmp_path, spec, capsys, text, code, said):
    runs_with_pictures(tmp_path / "runs", [spec()])
    (tmp_path / "old.txt").write_bytes(text)
    names = [str(tmp_path / name) for name in ("runs", "pack", "old.txt")]

    assert main.main(["results", "pack", *names[:2], "--without", names[2]]) == code
    assert said in capsys.readouterr().err


def test_a_source_without_runs_is_named_and_so_is_a_list_of_all_runs(tmp_path, spec):
    (record,) = runs_with_pictures(tmp_path / "runs", [spec()])

    with pytest.raises(RecordError, match="elsewhere holds no run"):
        pack(tmp_path / "runs", tmp_path / "pack", [tmp_path / "elsewhere"])
    with pytest.raises(RecordError, match="all 1 runs are to be left out"):
        pack(tmp_path / "runs", tmp_path / "pack", without=[record.run_id])
    assert not (tmp_path / "pack").exists()


def test_a_packed_record_is_the_one_that_was_written(results, tmp_path, reference, spec):
    (record,) = runs_with_pictures(tmp_path / "runs", [spec()])
    pack(tmp_path / "runs", reference)
    store = Store(results, reference)

    assert store.runs.record(record.run_id) == record.model_copy(update={"source": "reference"})
    assert (
        store.runs.shipped.values(store.db, record.run_id)
        == read_values(tmp_path / "runs" / record.run_id)[0]
    )
    assert store.runs.load_artifact(record.run_id, "health") == ModelHealth({"psnr": 30.0}, "fine")
    assert store.runs.points(record.run_id)["step"].tolist() == [1, 2, 1]
    store.close()


def test_shipped_rows_stand_beside_ones_own_and_are_not_copied(results, reference, spec):
    shipped = record_of(spec(seed=1))
    ship([shipped, record_of(spec(seed=2))], reference)
    for _ in range(2):
        store = Store(results, reference)
        assert sorted(store.runs.find(source="reference")["seed"]) == [1, 2]
        assert store.counts()["done"] == 2 and len(store.leaderboard.rows()) == 1
        assert store.db.rows("SELECT count(*) FROM own_runs") == [(0,)]
        store.close()
    shutil.rmtree(reference)
    store = Store(results, reference)
    assert store.runs.find().empty and not store.skipped
    store.close()


def test_a_run_that_is_ones_own_too_counts_once(results, reference, spec):
    record = record_of(spec())
    ship([record], reference)
    write_record(record, results / "runs" / record.run_id)
    store = Store(results, reference)
    assert store.runs.find()["source"].tolist() == ["local"]
    assert len(store.runs.points(record.run_id)) == 1
    store.close()


def test_a_damaged_pack_is_named_and_ones_own_runs_stay(results, reference, spec):
    ship([record_of(spec())], reference)
    raw = bytearray((reference / "points.parquet").read_bytes())
    raw[len(raw) // 2] ^= 1
    (reference / "points.parquet").write_bytes(bytes(raw))
    own = record_of(spec(seed=1))
    write_record(own, results / "runs" / own.run_id)

    store = Store(results, reference)

    assert store.runs.find()["run_id"].tolist() == [own.run_id]
    assert "points.parquet does not have the hash" in store.skipped["reference"]
    store.close()


def test_artifacts_that_are_not_shipped_are_said_to_be_missing(
    results, tmp_path, reference, spec, monkeypatch
):
    monkeypatch.setattr("poisonlab.store.showcase.choose.__defaults__", (1, 10**6, ()))
    first, second = runs_with_pictures(tmp_path / "runs", [spec(seed=0), spec(seed=1)])
    assert [shown.run_id for shown in pack(tmp_path / "runs", reference).showcase] == [first.run_id]
    store = Store(results, reference)

    with pytest.raises(NotShipped, match="run it again to see them"):
        store.runs.load_artifact(second.run_id, "health")
    assert store.runs.has_pictures(first.run_id) and not store.runs.has_pictures(second.run_id)
    assert store.runs.find(kind="ModelHealth")["run_id"].tolist() == [first.run_id]
    assert len(store.runs.artifacts(second.run_id)) == 1
    store.close()


def test_a_shipped_run_is_exported_with_what_there_is_of_it(tmp_path, reference, spec):
    (record,) = runs_with_pictures(tmp_path / "runs", [spec()])
    pack(tmp_path / "runs", reference)

    extract([record.run_id], reference, tmp_path / "out")

    assert read_record(tmp_path / "out" / record.run_id)[0] == record
    assert shipped_ids(reference) == {record.run_id}


def test_a_run_of_an_unknown_method_is_packed_too(results, tmp_path, reference, spec):
    record = record_of(spec())
    values = json.loads(record.model_dump_json())
    values["spec"]["attack"] = {"kind": "attack", "name": "of_tomorrow", "params": {"strength": 3}}
    (tmp_path / "runs" / record.run_id).mkdir(parents=True)
    (tmp_path / "runs" / record.run_id / "run.json").write_text(json.dumps(values))

    packed = pack(tmp_path / "runs", reference)

    store = Store(results, reference)
    assert packed.runs == 1 and store.leaderboard.rows()["attack"].tolist() == ["of_tomorrow"]
    assert store.runs.record(record.run_id).spec.attack.params.strength == 3
    store.close()


def test_a_folder_with_other_files_is_not_overwritten(tmp_path, spec):
    write_record(record_of(spec()), tmp_path / "runs" / "one")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.tex").write_text("words")
    with pytest.raises(RecordError, match="other files"):
        pack(tmp_path / "runs", tmp_path / "thesis")
    assert (tmp_path / "thesis" / "text.tex").exists()


def test_the_command_says_what_it_packed_and_what_not(tmp_path, spec, capsys):
    runs_with_pictures(tmp_path / "runs", [spec()])
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "run.json").write_text("{")

    code = main.main(["results", "pack", str(tmp_path / "runs"), str(tmp_path / "packed")])

    said = capsys.readouterr()
    assert code == 1 and "broken left out" in said.err
    assert said.out.startswith("1 runs in") and "1 of them with their pictures" in said.out
    assert open_shipped(tmp_path / "packed").problem == ""


def test_a_page_opens_on_the_run_that_was_named_also_after_the_next_pack(tmp_path, spec, monkeypatch):
    monkeypatch.setattr("poisonlab.store.showcase.choose.__defaults__", (1, 10**6, ()))
    records = runs_with_pictures(tmp_path / "runs", [spec(seed=seed) for seed in range(3)])
    wanted = records[2].run_id

    pack(tmp_path / "runs", tmp_path / "pack", openers={"energy": wanted})
    assert open_shipped(tmp_path / "pack").openers == {"energy": wanted}
    pack(tmp_path / "pack", tmp_path / "pack", [tmp_path / "runs"])
    assert open_shipped(tmp_path / "pack").openers == {"energy": wanted}
    pack(tmp_path / "pack", tmp_path / "pack", [tmp_path / "runs"], openers={"energy": records[1].run_id})
    assert open_shipped(tmp_path / "pack").openers == {"energy": records[1].run_id}


def test_a_page_cannot_open_on_a_run_without_pictures(tmp_path, spec, monkeypatch, capsys):
    monkeypatch.setattr("poisonlab.store.showcase.choose.__defaults__", (1, 10**6, ()))
    records = runs_with_pictures(tmp_path / "runs", [spec(seed=seed) for seed in range(2)])
    pack(tmp_path / "runs", tmp_path / "pack")
    names = [str(tmp_path / name) for name in ("pack", "pack")]

    assert main.main(["results", "pack", *names, "--open", f"energy={records[1].run_id}"]) != 0
    assert "no source holds its pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (["nowhere={}"], 1, "there is no page 'nowhere' that opens on a run; choose one of: poisons"),
        (["triggers={}"], 1, "it recorded none of TriggerTruth"),
        (["energy={}", "energy={}"], 2, "names the page energy twice"),
        (["energy"], 2, "takes PAGE=RUN"),
    ],
)
def test_a_page_that_cannot_open_on_a_run_is_refused(tmp_path, spec, capsys, asked, code, said):
    (record,) = runs_with_pictures(tmp_path / "runs", [spec()])
    options = [word for text in asked for word in ("--open", text.format(record.run_id))]

    found = main.main(["results", "pack", str(tmp_path / "runs"), str(tmp_path / "pack"), *options])
    assert found == code
    assert said in capsys.readouterr().err and not (tmp_path / "pack").exists()
