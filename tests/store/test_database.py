"""The database file: damaged, held, in the way, without room, and what each of these says."""

import errno
import subprocess
import sys

import duckdb
import pytest
from core_helpers import in_threads
from store_helpers import add, record_of

from poisonlab.store import Store, StoreError, StoreLocked
from poisonlab.store.database import MIGRATIONS, Database
from poisonlab.store.errors import Conflict, Invalidated, Refused, explained

FILE = "poisonlab.duckdb"


def damaged(raw: bytes, how: str) -> bytes:
    changed = bytearray(raw)
    if how == "first bit flipped":
        changed[0] ^= 1
    elif how == "byte 5000 flipped":
        changed[5000] ^= 255
    elif how == "every 4099th byte flipped":
        for place in range(20_000, len(raw), 4099):
            changed[place] ^= 255
    elif how == "first 100 bytes":
        return raw[:100]
    elif how == "first half":
        return raw[: len(raw) // 2]
    elif how == "empty":
        return b""
    elif how == "junk":
        return b"x" * 5000
    return bytes(changed)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a store with some runs."""
    from core_helpers import tiny_spec

    folder = tmp_path_factory.mktemp("sound")
    store = Store(folder, folder / "reference")
    for seed in range(3):
        add(store, record_of(tiny_spec(seed=seed)))
    store.close()
    return (folder / FILE).read_bytes()


@pytest.mark.parametrize(
    "how",
    (
        "first bit flipped",
        "byte 5000 flipped",
        "every 4099th byte flipped",
        "first 100 bytes",
        "first half",
        "empty",
        "junk",
    ),
)
def test_a_damaged_file_is_called_damaged(results, tmp_path, sound, how):
    results.mkdir()
    (results / FILE).write_bytes(damaged(sound, how))
    try:
        store = Store(results, tmp_path / "reference")
        board = store.leaderboard.rows()
        store.close()
    except StoreError as error:
        assert not isinstance(error, StoreLocked) and "move the file away" in str(error), error
        assert "\n" not in str(error)
    else:
        assert len(board) == 1  # the flipped bytes held nothing


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    (
        (
            duckdb.IOException("Could not set lock: Conflicting lock is held in python (PID 12)"),
            StoreLocked,
            "PID 12",
        ),
        (duckdb.IOException("Corrupt database file: checksum of block 3"), StoreError, "move the file away"),
        (
            duckdb.FatalException("Could not write file: No space left on device"),
            Invalidated,
            "free some space",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), StoreError, "free some space"),
        (PermissionError(errno.EACCES, "Permission denied"), StoreError, "permissions"),
        (duckdb.InterruptException("Query timeout exceeded"), StoreError, "try again"),
        (duckdb.OutOfMemoryException("failed to allocate"), StoreError, "memory"),
        (duckdb.BinderException("no column x"), Refused, "report this"),
        (duckdb.TransactionException("Conflict on update!"), Conflict, "try again"),
        (
            duckdb.TransactionException("Failed to commit: Could not write file: No space left on device"),
            StoreError,
            "free some space",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StoreError, "free some space"),
        (OSError(errno.EROFS, "Read-only file system"), StoreError, "permissions"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), StoreError, "another folder"),
        (OSError(errno.EIO, "Input/output error"), StoreError, "another folder"),
        (duckdb.IOException("Could not read from file: Input/output error"), StoreError, "another folder"),
        (duckdb.IOException("Cannot open file: Too many open files"), StoreError, "another folder"),
        (duckdb.IOException("Cannot open file: Permission denied"), StoreError, "permissions"),
    ),
)
def test_every_error_is_one_sentence_with_its_advice(tmp_path, error, kind, words):
    found = explained(error, tmp_path / FILE)

    assert type(found) is kind and words in str(found) and "\n" not in str(found)
    assert ("move the file away" in str(found)) == (words == "move the file away")


def test_a_file_in_the_place_of_the_results_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("a file")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(StoreError, match="choose a folder") as caught:
            Store(folder, tmp_path / "reference")
        assert "move the file away" not in str(caught.value)


def test_a_folder_in_the_place_of_the_file_is_not_called_damaged(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(StoreError, match="choose another folder") as caught:
        Store(tmp_path, tmp_path / "reference")
    assert "move the file away" not in str(caught.value)


def test_a_results_folder_that_cannot_be_made_is_not_called_damaged(tmp_path):
    with pytest.raises(StoreError, match="choose another folder") as caught:
        Store(tmp_path / ("x" * 300), tmp_path / "reference")
    assert "move the file away" not in str(caught.value)


def test_after_duckdb_gave_up_its_instance_the_next_use_opens_the_file_anew(store, spec):
    record = add(store, record_of(spec()))

    def give_up(cursor):
        raise duckdb.FatalException("database has been invalidated: No space left on device")

    with pytest.raises(StoreError, match="free some space"):
        store.db.write(give_up)
    assert store.runs.find()["run_id"].tolist() == [record.run_id]
    add(store, record_of(spec(seed=1)))
    assert len(store.runs.find()) == 2


def test_a_closed_database_says_so_and_does_not_call_itself_damaged(results, tmp_path):
    store = Store(results, tmp_path / "reference")
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.runs.find()


def test_only_queries_of_pages_have_a_time_limit(store):
    limit = "SELECT current_setting('max_execution_time')::VARCHAR AS ms"

    assert store.db.rows(limit) == [("0",)]
    assert store.db.write(lambda cursor: cursor.execute(limit).fetchall()) == [("0",)]
    assert store.db.frame(limit)["ms"].tolist() == ["60000"]


def test_readers_and_writers_in_many_threads_do_not_disturb_each_other(store, spec):
    problems = []

    def work(number):
        try:
            store.jobs.enqueue([spec(seed=number)])
            store.runs.find()
        except StoreError as error:
            problems.append(error)

    in_threads(work, 8)
    assert not problems and len(store.jobs.find()) == 8


def test_a_database_in_memory_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    db = Database(None)
    assert db.rows("SELECT count(*) FROM own_runs") == [(0,)]
    db.close()
    assert not list(tmp_path.iterdir())


def test_a_file_held_by_another_process_names_its_pid(results):
    results.mkdir()
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(results / "poisonlab.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match=rf"PID {holder.pid}\).*stop it first") as caught:
            Store(results)
        assert caught.value.pid == holder.pid
        holder.stdin.close()


def test_a_damaged_or_newer_file_says_what_to_do(results, tmp_path):
    results.mkdir()
    (results / "poisonlab.duckdb").write_text("this is not a database " * 1000)
    with pytest.raises(StoreError, match="move the file away"):
        Store(results, tmp_path / "reference")
    (results / "poisonlab.duckdb").unlink()
    store = Store(results, tmp_path / "reference")
    store.db.rows("INSERT INTO migrations VALUES (9999, 'later')")
    store.close()
    with pytest.raises(StoreError, match="newer version"):
        Store(results, tmp_path / "reference")


def test_migrations_are_numbered_without_gaps():
    numbers = [int(f.name[:4]) for f in sorted(MIGRATIONS.glob("*.sql"))]

    assert numbers == list(range(1, len(numbers) + 1))


def test_sql_cannot_reach_files(store, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for sql in (f"SELECT * FROM '{tmp_path}/secret.csv'", f"ATTACH '{tmp_path}/x.duckdb'", "INSTALL httpfs"):
        with pytest.raises(StoreError, match="disabled|Cannot"):
            store.db.rows(sql)
