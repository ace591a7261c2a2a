"""Archives from anybody: pictures come out, everything else is refused or left where it is."""

import io
import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from poisonlab.data.base import DataError
from poisonlab.data.shared import unzip
from poisonlab.data.shared.unzip import unpack


def archive(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    packed.seek(0)
    return packed


def test_pictures_and_tables_come_out_and_the_rest_is_counted(tmp_path: Path) -> None:
    left_out = unpack(
        archive({"a/1.png": b"1", "ä/猫.JPG": b"2", "t.csv": b"3", "x.exe": b"4", "a/": b""}), tmp_path
    )

    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"a/1.png", "ä/猫.JPG", "t.csv"}
    assert left_out == {"no picture (.exe)": 1}


@pytest.mark.parametrize(
    "name",
    [
        "../1.png",
        "a/../../1.png",
        "/etc/1.png",
        "a\\..\\1.png",
        "C:/1.png",
        "a/" * 9 + "1.png",
        "x" * 300 + ".png",
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    packed = archive({"a/0.png": b"0", "placeholder.png": b"1"})
    with zipfile.ZipFile(packed, "a") as writer:
        member = zipfile.ZipInfo("x")
        member.filename = name
        writer.writestr(member, b"1")
    packed.seek(0)

    with pytest.raises(DataError, match="leads out of|too deep"):
        unpack(packed, inside)
    assert not [path for path in tmp_path.rglob("1.png")]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(kind: int, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as writer:
        member = zipfile.ZipInfo("a/1.png")
        member.create_system = 3
        member.external_attr = (kind | 0o777) << 16
        writer.writestr(member, b"/etc/passwd")
    packed.seek(0)

    with pytest.raises(DataError, match="link or a device"):
        unpack(packed, tmp_path)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="hundred times"):
        unpack(archive({"a/1.png": bytes(20 * 2**20)}, zipfile.ZIP_DEFLATED), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_an_archive_says_about_sizes_is_not_believed(tmp_path: Path) -> None:
    """A file of 3 MB that says it had 10 bytes."""
    raw = bytearray(archive({"a/1.png": bytes(3 * 2**20)}, zipfile.ZIP_DEFLATED).getvalue())
    central = raw.rindex(b"PK\x01\x02")
    raw[central + 24 : central + 28] = struct.pack("<I", 10)

    with pytest.raises(DataError):
        unpack(io.BytesIO(bytes(raw)), tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 2 * 2**20


def test_too_many_files_and_twice_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "twice.zip", "w") as writer:
        writer.writestr("a/1.png", b"1")
        writer.writestr("a/1.png", b"2")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="twice"):
        unpack(tmp_path / "twice.zip", tmp_path / "out")

    monkeypatch.setattr(unzip, "MOST_FILES", 3)
    with pytest.raises(DataError, match="at most 3"):
        unpack(archive({f"a/{i}.png": b"1" for i in range(4)}), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(40)])
def test_no_archive(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no whole ZIP archive"):
        unpack(io.BytesIO(content), tmp_path)


def test_a_cut_archive_and_a_damaged_one(tmp_path: Path) -> None:
    raw = archive({f"a/{i}.png": bytes(range(256)) * 50 for i in range(5)}).getvalue()
    damaged = bytearray(raw)
    damaged[200] ^= 255

    for content in (raw[: len(raw) // 2], bytes(damaged)):
        with pytest.raises(DataError, match="no whole ZIP archive"):
            unpack(io.BytesIO(content), tmp_path)


def test_a_password_is_refused(tmp_path: Path) -> None:
    raw = bytearray(archive({"a/1.png": b"1"}).getvalue())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1

    with pytest.raises(DataError, match="encrypted"):
        unpack(io.BytesIO(bytes(raw)), tmp_path)


@pytest.mark.parametrize("name", ["", ".", "a/\n1.png", "a\x1b[31m/1.png", "a/\u0085.png"])
def test_names_that_cannot_be_written_are_refused(name: str, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as writer:
        member = zipfile.ZipInfo("x")
        member.filename = name
        writer.writestr(member, b"1")

    with pytest.raises(DataError, match="cannot be written|no whole ZIP archive"):
        unpack(packed, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_colon_in_a_name_is_no_drive(tmp_path: Path) -> None:
    assert unpack(archive({"12:30/1.png": b"1"}), tmp_path) == {}
    assert (tmp_path / "12:30" / "1.png").exists()


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_forms_that_unpack_gigabytes_at_once_are_refused(compression: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ordinary ZIP"):
        unpack(archive({"a/1.png": bytes(1000)}, compression), tmp_path)


def test_a_directory_of_too_many_files_is_not_even_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unzip, "MOST_FILES", 3)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *args: pytest.fail("read"))

    with pytest.raises(DataError, match="holds 4 files"):
        unpack(io.BytesIO(b"PK\x01\x02" * 4), tmp_path)


def test_whatever_is_damaged_is_said_in_one_line(tmp_path: Path) -> None:
    """Bytes at random, many of them where the archive says what it holds."""
    raw = archive({"a/1.png": b"ab" * 400, "é/2.png": b"2"}, zipfile.ZIP_DEFLATED).getvalue()
    chance = random.Random(0)
    for number in range(400):
        damaged = bytearray(raw)
        for _ in range(3):
            damaged[chance.randrange(len(raw))] = chance.choice((0, 255, chance.randrange(256)))
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            unpack(io.BytesIO(bytes(damaged)), folder)
        except DataError as error:
            assert len(str(error).splitlines()) == 1
