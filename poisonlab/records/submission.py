"""A run and its networks in one file that proves itself: every byte follows from what it holds.

A ZIP archive, stored, with a fixed order and fixed times, so that the same run gives the same file. ``manifest.json``
comes first and holds the SHA-256 of every other member; its own SHA-256 names the submission. A file comes from a
stranger: sizes are capped before anything is read, nothing is unpacked to disk, and what differs in one byte from what
:func:`pack` would write is refused.
"""

import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

from poisonlab.records.record import MAX_RECORD_BYTES, RECORD, RecordError, read_plain

MANIFEST = "manifest.json"
SETTINGS = "settings.json"
MODELS = ("control", "undefended", "defended")
FORMAT = 1
MAX_BYTES = 2**30  # of a whole file
_KIB = 2**10
_STAMP = (2000, 1, 1, 0, 0, 0)
# members in their order, and the most bytes of each
_MEMBERS = {
    MANIFEST: 8 * _KIB,
    RECORD: MAX_RECORD_BYTES,
    SETTINGS: 256 * _KIB,
    **{f"weights/{model}.safetensors": MAX_BYTES for model in MODELS},
}
_NEEDED = (MANIFEST, RECORD, SETTINGS, "weights/control.safetensors")


class SubmissionError(RecordError):
    """A file that is no submission, or not the one that was made; the message names the member."""


def weights_member(model: str) -> str:
    """Where the weights of ``control``, ``undefended`` or ``defended`` lie."""
    return f"weights/{model}.safetensors"


def pack(members: Mapping[str, bytes]) -> tuple[bytes, str]:
    """The file, and the SHA-256 of its manifest.

    Args:
        members: all but the manifest.

    Raises:
        SubmissionError: more than a submission may hold.
    """
    manifest = _manifest(members)
    whole = {MANIFEST: manifest} | dict(members)
    for name, raw in whole.items():
        if len(raw) > _MEMBERS[name]:
            raise SubmissionError(f"{name} has {len(raw):,} bytes; a submission holds {_MEMBERS[name]:,}")
    if sum(map(len, whole.values())) > MAX_BYTES - 64 * _KIB:
        raise SubmissionError(
            f"the networks of this run are more than the {MAX_BYTES >> 20} MiB of a submission"
        )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in _MEMBERS:
            if name in whole:
                archive.writestr(_entry(name), whole[name])
    return file.getvalue(), hashlib.sha256(manifest).hexdigest()


def unpack(path: Path) -> tuple[dict[str, bytes], str]:
    """The members of a file, the manifest left out, and the SHA-256 of the manifest.

    Raises:
        SubmissionError: another file than :func:`pack` wrote, by one byte or by all; names the member.
    """
    raw = read_plain(path, MAX_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            members = {entry.filename: archive.read(entry) for entry in entries}
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        OverflowError,
    ) as error:
        if isinstance(error, SubmissionError):
            raise
        raise SubmissionError(f"this is no whole submission: {str(error)[:200]}") from None
    manifest = members.pop(MANIFEST)
    _check_hashes(manifest, members)
    if manifest != _manifest(members):
        raise SubmissionError(f"{MANIFEST} is not the one of these members")
    packed, name = pack(members)
    if packed != raw:
        raise SubmissionError(
            f"{_differing(packed, raw)} is not as `submit` writes it, outside of its content"
        )
    return members, name


def _manifest(members: Mapping[str, bytes]) -> bytes:
    hashes = {name: hashlib.sha256(members[name]).hexdigest() for name in _MEMBERS if name in members}
    return json.dumps({"format": FORMAT, "members": hashes}, indent=1).encode()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _STAMP)
    entry.create_system = 3  # whatever system this is
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    """Names, kinds and sizes, before anything is read."""
    if len(entries) > len(_MEMBERS):
        raise SubmissionError(f"this holds {len(entries)} members; a submission has at most {len(_MEMBERS)}")
    names = [entry.filename for entry in entries]
    for entry in entries:
        name = entry.filename
        if name not in _MEMBERS:
            raise SubmissionError(f"{name[:120]!r} is no member of a submission")
        if names.count(name) > 1:
            raise SubmissionError(f"{name} is there twice")
        if stat.S_IFMT(entry.external_attr >> 16) != stat.S_IFREG:
            raise SubmissionError(f"{name} is no plain file; links are refused")
        if entry.flag_bits & 1:
            raise SubmissionError(f"{name} is encrypted")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise SubmissionError(f"{name} is compressed; a submission is stored")
        if entry.file_size > _MEMBERS[name]:
            raise SubmissionError(
                f"{name} has {entry.file_size:,} bytes; at most {_MEMBERS[name]:,} are read"
            )
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise SubmissionError(f"{missing[0]} is missing")


def _check_hashes(manifest: bytes, members: Mapping[str, bytes]) -> None:
    try:
        said = json.loads(manifest)
        version = said["format"]
        hashes = dict(said["members"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SubmissionError(f"{MANIFEST} cannot be read") from None
    if version != FORMAT:
        raise SubmissionError(f"{MANIFEST} is of format {str(version)[:20]}; this program reads {FORMAT}")
    for name, raw in members.items():
        if hashes.get(name) != hashlib.sha256(raw).hexdigest():
            raise SubmissionError(f"{name} does not have the hash that {MANIFEST} names")


def _differing(expected: bytes, found: bytes) -> str:
    """The member whose entry holds the first byte that differs; the archive's own list of members comes after all."""
    shortest = min(len(expected), len(found))
    first = next((i for i in range(shortest) if expected[i] != found[i]), shortest)
    with zipfile.ZipFile(io.BytesIO(expected)) as archive:
        if first >= archive.start_dir:
            return "the list of members"
        before = [entry.filename for entry in archive.infolist() if entry.header_offset <= first]
    return before[-1]
