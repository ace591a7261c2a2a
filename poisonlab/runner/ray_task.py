"""What a worker of Ray does. It imports no database: a machine of the cluster needs the core alone."""

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from poisonlab.runner.remote import Order, carry_out
from poisonlab.runner.wire import STOP, Row

MARK = ".shared"  # a file by which a worker sees whether the results folder is the program's own
SILENT = 30.0  # seconds that either side waits for an answer

Files = dict[str, bytes]


def attempt(order: dict[str, Any], mark: str, key: str, post: Any) -> tuple[str, str, Files]:
    """Carry out an order on the machine of a worker.

    Returns:
        State and message of its end; the files of the run, where the program cannot see them.
    """
    wanted = Order(**order)

    def say(rows: list[Row]) -> str:
        try:
            return str(ray.get(post.post.remote(key, rows), timeout=SILENT))
        except RayError:  # the program is gone, and with it whoever wants the result
            return STOP

    results = Path(wanted.results)
    if _is_marked(results, mark):
        ending = carry_out(wanted, say, results / "runs", results / "cache")
        return ending.state, ending.message, {}
    try:
        own = _own_folder()
    except OSError as error:
        return "refused", f"a worker has no folder of its own: {error}", {}
    ending = carry_out(wanted, say, own / "runs", own / "cache")
    folder = own / "runs" / wanted.run_id
    files = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}
    shutil.rmtree(folder, ignore_errors=True)
    return ending.state, ending.message, files


def _is_marked(results: Path, mark: str) -> bool:
    """Whether a results folder is that of the program which made the mark."""
    try:
        return (results / MARK).read_text() == mark
    except (OSError, ValueError):
        return False


def _own_folder() -> Path:
    """Where a worker works that does not see the program's results folder: of this account alone.

    Its name is known, and everybody may write where it is: another account may have made it, to read or to plant what
    is kept there.

    Raises:
        OSError: it cannot be made, or is another account's.
    """
    own = Path(tempfile.gettempdir()) / f"poisonlab-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{own} belongs to another account or is a link: remove it, or set TMPDIR")
    own.chmod(0o700)
    return own
