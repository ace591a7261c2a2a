"""The file of a submission: what is written is read again, and nothing else is."""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from poisonlab.records import submission
from poisonlab.records.record import RecordError
from poisonlab.records.submission import MANIFEST, SubmissionError, pack, unpack

MEMBERS = {
    "run.json": b'{"a": 1}',
    "settings.json": b'{"b": 2}',
    "weights/control.safetensors": bytes(range(200)),
    "weights/defended.safetensors": b"y" * 50,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "submission.zip"
    path.write_bytes(pack(MEMBERS)[0])
    return path


def refused(path: Path) -> str:
    with pytest.raises(RecordError) as caught:
        unpack(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


def zipped(path: Path, members: dict[str, bytes], **changes: int) -> Path:
    """A ZIP archive of anybody's making, as ``pack`` writes it but for changes of its entries."""
    with zipfile.ZipFile(path, "w", changes.pop("method", zipfile.ZIP_STORED)) as archive:
        for name, raw in members.items():
            entry = submission._entry("run.json")
            entry.filename = name
            entry.compress_type = archive.compression
            for field, value in changes.items():
                setattr(entry, field, value)
            archive.writestr(entry, raw)
    return path


def manifest_of(members: dict[str, bytes]) -> bytes:
    hashes = {name: hashlib.sha256(raw).hexdigest() for name, raw in members.items()}
    return json.dumps({"format": 1, "members": hashes}, indent=1).encode()


def whole(**more: bytes) -> dict[str, bytes]:
    return {MANIFEST: manifest_of(MEMBERS)} | MEMBERS | more


def test_what_is_packed_is_unpacked_and_named_by_its_manifest(file: Path) -> None:
    members, name = unpack(file)

    assert members == MEMBERS
    with zipfile.ZipFile(file) as archive:
        assert name == hashlib.sha256(archive.read(MANIFEST)).hexdigest()
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_same_members_give_the_same_bytes_in_any_order() -> None:
    assert pack(MEMBERS) == pack(dict(reversed(MEMBERS.items())))


def test_one_changed_byte_anywhere_is_refused(file: Path) -> None:
    raw = file.read_bytes()
    for place in range(len(raw)):
        file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        refused(file)


@pytest.mark.parametrize("name", [MANIFEST, *MEMBERS])
def test_a_changed_byte_in_a_member_is_refused_by_its_name(file: Path, name: str) -> None:
    raw = file.read_bytes()
    content = whole()[name]
    place = raw.index(content) + len(content) // 2
    file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])

    assert name in refused(file)


@pytest.mark.parametrize("name", list(MEMBERS))
def test_a_member_that_was_exchanged_with_its_checksum_is_refused_by_its_name(
    tmp_path: Path, name: str
) -> None:
    path = zipped(tmp_path / "x.zip", whole(**{name: b"other"}))

    assert f"{name} does not have the hash" in refused(path)


@pytest.mark.parametrize("place", [0, -1])
def test_bytes_around_the_archive_are_refused(file: Path, place: int) -> None:
    raw = file.read_bytes()
    file.write_bytes(b"x" + raw if place == 0 else raw + b"x")

    refused(file)


@pytest.mark.parametrize(
    "name", ["../run.json", "/etc/passwd", "weights/x.pkl", "weights\\..\\x", "run.json/"]
)
def test_unknown_members_and_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    assert "no member of a submission" in refused(zipped(tmp_path / "x.zip", whole(**{name: b"\x80\x04."})))


def test_more_members_than_there_are_names_are_refused_unread(tmp_path: Path) -> None:
    many = {f"a{i}": b"" for i in range(1000)}

    assert "1000 members" in refused(zipped(tmp_path / "x.zip", many))


def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for name in ("run.json", "run.json"):
            archive.writestr(submission._entry(name), b"1")

    assert "run.json is there twice" in refused(path)


def test_links_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", whole(), external_attr=0o120777 << 16)

    assert "links are refused" in refused(path)


def test_a_file_that_is_a_link_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link.zip").symlink_to(file)

    assert "links are refused" in refused(tmp_path / "link.zip")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")

    assert "not a plain file" in refused(tmp_path / "pipe.zip")


def test_a_bomb_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = whole(**{"weights/control.safetensors": b"\0" * 20_000_000})
    path = zipped(tmp_path / "x.zip", bomb, method=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was read"))

    assert "compressed" in refused(path)


def test_a_member_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", whole(**{"settings.json": b" " * 300_000}))

    assert "settings.json has 300,000 bytes" in refused(path)


def test_a_file_that_is_too_large_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "MAX_BYTES", 100)

    assert "at most 100 are read" in refused(file)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    without = {name: raw for name, raw in whole().items() if name != "settings.json"}

    assert "settings.json is missing" in refused(zipped(tmp_path / "x.zip", without))


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b'{"format": 2, "members": {}}', b"[" * 8000])
def test_a_manifest_that_is_none_is_refused_by_its_name(tmp_path: Path, manifest: bytes) -> None:
    assert MANIFEST in refused(zipped(tmp_path / "x.zip", whole(**{MANIFEST: manifest})))


def test_a_manifest_that_says_more_is_refused(tmp_path: Path) -> None:
    said = json.loads(manifest_of(MEMBERS)) | {"verified": True}

    path = zipped(tmp_path / "x.zip", whole(**{MANIFEST: json.dumps(said).encode()}))

    assert f"{MANIFEST} is not the one of these members" in refused(path)


@pytest.mark.parametrize("raw", [b"", b"PK", b"\x80\x04.", b"x" * 1000])
def test_what_is_no_archive_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(raw)

    assert "no whole submission" in refused(tmp_path / "x.zip")


def test_too_much_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SubmissionError, match="settings.json has"):
        pack(MEMBERS | {"settings.json": b" " * 300_000})
    monkeypatch.setattr(submission, "MAX_BYTES", 70_000)
    with pytest.raises(SubmissionError, match="networks of this run are more"):
        pack(MEMBERS | {"weights/control.safetensors": b"x" * 10_000})


def test_other_programs_read_it(file: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [MANIFEST, *MEMBERS]
