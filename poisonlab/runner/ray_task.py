"""What a worker of Ray does. It imports no database: a machine of the cluster needs the core alone."""

import os
import shutil
import tempfile
from contextlib import suppress
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
    with suppress(OSError):
        if (results / MARK).read_text() == mark:
            ending = carry_out(wanted, say, results / "runs", results / "cache")
            return ending.state, ending.message, {}
    own = Path(tempfile.gettempdir()) / f"poisonlab-{os.getuid()}"
    ending = carry_out(wanted, say, own / "runs", own / "cache")
    folder = own / "runs" / wanted.run_id
    files = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}
    shutil.rmtree(folder, ignore_errors=True)
    return ending.state, ending.message, files
