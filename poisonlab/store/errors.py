"""What can be wrong with the database, each said in one sentence with what to do about it."""

import errno
import re
from pathlib import Path

import duckdb

_FULL = re.compile(r"no space left|disk full|disk is full|not enough space|quota exceeded", re.IGNORECASE)
_FILE = re.compile(r"could not (read|write|sync|truncate)", re.IGNORECASE)
_HELD = re.compile(r"conflicting lock|could not set lock|being used by another process", re.IGNORECASE)
_DENIED = re.compile(r"permission denied|read-only file system|access is denied", re.IGNORECASE)
# the place is at fault: no file that lies there could be read or would be missed
_PLACE = re.compile(
    r"is a directory|not a directory|no such file|name too long|too many open files|input/output error|stale file",
    re.IGNORECASE,
)
_NEWER = re.compile(r"database file with version number|storage version", re.IGNORECASE)
# Errors of a query, not of the file that it reads.
_OF_THE_QUERY = (
    duckdb.ProgrammingError,
    duckdb.DataError,
    duckdb.IntegrityError,
    duckdb.NotSupportedError,
    duckdb.ConnectionException,
    duckdb.PermissionException,
)


class StoreError(RuntimeError):
    """The database cannot be used; the message says why and what to do."""


class StoreLocked(StoreError):
    """Another process has the database open; ``pid`` names it where it is known."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = f"another process (PID {pid})" if pid else "another process"
        super().__init__(
            f"{path} is open in {holder}, most likely the dashboard: use that one, or stop it first, "
            "or choose another folder with --results"
        )
        self.pid = pid


class Refused(StoreError):
    """A value or a query that does not fit the schema; the file is sound."""


class Conflict(StoreError):
    """Another writer was faster; the same change may be tried again."""


class Invalidated(StoreError):
    """DuckDB gave up its instance, on a full disk for example; the next use opens the file anew."""


def explained(error: BaseException, path: Path, *, opening: bool = False) -> StoreError:
    """The sentence for an error of DuckDB or of the file system.

    Args:
        path: the database file.
        opening: whether it was raised while the file was opened and brought up to date: no query of the program is
            wrong then, so whatever DuckDB complains of is in the file.
    """
    text = _first_line(error)
    # a commit that the disk refused is a TransactionException too, and trying it again at once does not help
    if isinstance(error, duckdb.TransactionException) and not opening and not _FILE.search(text):
        return Conflict(f"{path.name}: another change came first ({text}): try again")
    kind = Invalidated if isinstance(error, duckdb.FatalException) else StoreError
    if _FULL.search(text) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return kind(
            f"the disk that holds {path.parent} is full: free some space, then go on; nothing is lost"
        )
    if _HELD.search(text):
        found = re.search(r"PID (\d+)", text)
        return StoreLocked(path, int(found[1]) if found else None)
    if _DENIED.search(text) or isinstance(error, PermissionError):
        return kind(
            f"{path} may not be read and written ({text}): check its permissions, or choose another folder "
            "with --results"
        )
    if _PLACE.search(text) or isinstance(error, OSError):
        return kind(f"{path} cannot be used ({text}): choose another folder with --results")
    if isinstance(error, duckdb.InterruptException):
        return kind(f"a query took too long ({text}): the machine is very busy; try again")
    if _NEWER.search(text):
        return kind(
            f"{path} was written by another version of DuckDB ({text}): install that version, or move the "
            "file away and start again; all runs are indexed anew from their folders"
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return kind(
            f"the database needs more memory than there is ({text}): close other programs and try again"
        )
    if isinstance(error, _OF_THE_QUERY) and not opening:
        return Refused(
            f"the program asked the database for something that it refuses; please report this: {text}"
        )
    return kind(
        f"{path} is damaged or no database ({text}): move the file away and start again; "
        "all runs are indexed anew from their folders"
    )


def not_a_folder(path: Path) -> StoreError:
    """The sentence for a results folder that is a file, or lies in one."""
    return StoreError(
        f"{path} is a file or lies inside one, so results cannot be kept there: choose a folder with "
        "--results"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:300] if lines else type(error).__name__
