"""Pictures out of a ZIP archive from anybody, into a folder."""

import re
import shutil
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import IO

from poisonlab.data.base import DataError
from poisonlab.data.shared.pixels import SUFFIXES

MOST_FILES = 50_000
MOST_BYTES = 2 * 2**30  # of all files, unpacked
MOST_RATIO = 100  # unpacked bytes for one of the archive; pictures hardly shrink
LEAST_FREE = 2 * 2**30  # bytes that stay free on the disk
MOST_DEPTH = 8  # folders within each other
MOST_NAME = 200  # bytes of a file's or a folder's name
TAKEN = (*SUFFIXES, ".csv")
_CHUNK = 2**20
_FORMS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack gigabytes at once out of a few bytes
_ENTRY = b"PK\x01\x02"  # begins what an archive's directory says of a file
_DRIVE = re.compile("[A-Za-z]:")


def unpack(archive: Path | IO[bytes], folder: Path) -> dict[str, int]:
    """Unpack pictures and tables; everything else is left where it is.

    Args:
        archive: a file, or what was uploaded.
        folder: an empty one.

    Returns:
        what was left out, and how often.

    Raises:
        DataError: no ZIP archive, or one that is larger, deeper or odder than a set of pictures.
    """
    try:
        _check_count(archive)
        with zipfile.ZipFile(archive) as packed:
            members = packed.infolist()
            _check_size(members, shutil.disk_usage(folder).free)
            left_out: Counter[str] = Counter()
            for member, path in _wanted(members, left_out):
                target = folder.joinpath(*path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(packed, member, target)
    except DataError:
        raise
    except Exception as error:  # a damaged archive raises what it likes, out of zipfile and its decoders
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(
                f"the archive cannot be unpacked into {folder}: {error.strerror or error}"
            ) from error
        said = " ".join(str(error).split())[:MOST_NAME]
        raise DataError(f"this is no whole ZIP archive ({said or type(error).__name__})") from error
    return dict(left_out)


def _check_count(archive: Path | IO[bytes]) -> None:
    """Count files before ``zipfile`` reads of each: a million takes it half a minute and a gigabyte."""
    with archive.open("rb") if isinstance(archive, Path) else nullcontext(archive) as source:
        source.seek(0)
        count = 0
        edge = b""
        for chunk in iter(lambda: source.read(_CHUNK), b""):
            count += (edge + chunk).count(_ENTRY)
            edge = chunk[1 - len(_ENTRY) :]
    if count > MOST_FILES:
        raise DataError(f"the archive holds {count:,} files; at most {MOST_FILES:,} are possible")


def _check_size(members: list[zipfile.ZipInfo], free: int) -> None:
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if unpacked > MOST_BYTES:
        raise DataError(
            f"the archive unpacks to {unpacked / 2**30:.1f} GiB; at most {MOST_BYTES / 2**30:.0f} are possible"
        )
    if unpacked > MOST_RATIO * max(packed, 1) and unpacked > _CHUNK:
        raise DataError("the archive unpacks to more than a hundred times its size; pictures do not")
    if unpacked > free - LEAST_FREE:
        raise DataError(f"the archive unpacks to {unpacked / 2**30:.1f} GiB, for which the disk has no room")


def _wanted(
    members: list[zipfile.ZipInfo], left_out: Counter[str]
) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Pictures and tables, and where they go below the folder."""
    seen: set[str] = set()
    for member in members:
        if member.is_dir():
            continue
        path = _checked(member)
        if path.suffix.lower() not in TAKEN:
            left_out[f"no picture ({path.suffix.lower()[:12] or 'without a suffix'})"] += 1
            continue
        if str(path) in seen:
            raise DataError(f"the archive holds {str(path)[:120]!r} twice")
        seen.add(str(path))
        yield member, path


def _checked(member: zipfile.ZipInfo) -> PurePosixPath:
    """Where a file goes, by its name."""
    name = member.filename
    path = PurePosixPath(name)
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise DataError(f"the archive holds a link or a device: {name[:120]!r}")
    if member.flag_bits & 1:
        raise DataError("the archive is encrypted; pack it without a password")
    if member.compress_type not in _FORMS:
        raise DataError("the archive is packed in an uncommon way; pack it as an ordinary ZIP (deflate)")
    if not path.parts or any(unicodedata.category(letter) == "Cc" for letter in name):
        raise DataError(f"the archive holds a file whose name is empty or cannot be written: {name[:120]!r}")
    if path.is_absolute() or ".." in path.parts or "\\" in name or _DRIVE.match(name):
        raise DataError(f"the archive holds a file that leads out of its folder: {name[:120]!r}")
    if len(path.parts) > MOST_DEPTH or any(len(part.encode()) > MOST_NAME for part in path.parts):
        raise DataError(f"the archive holds a file too deep or with too long a name: {name[:120]!r}")
    return path


def _copy(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Unpack a file; what it says about its size is not believed."""
    left = member.file_size
    with packed.open(member) as source, target.open("xb") as written:
        for chunk in iter(lambda: source.read(_CHUNK), b""):
            left -= len(chunk)
            if left < 0:
                raise DataError(f"{member.filename[:120]!r} is larger than the archive says")
            written.write(chunk)
