"""Start the dashboard: ``python app.py``, ``streamlit run app.py`` or ``poisonlab ui``.

The script that lays out the pages is ``poisonlab/ui/main.py``: a script that calls ``st.navigation``
must not have a sibling folder named ``pages``, or the first deep link after a start runs a page alone.
"""

import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

import poisonlab
from poisonlab.ui.gate import Gate, hosts

MAIN = Path(poisonlab.__file__).resolve().parent / "ui" / "main.py"


HEAD_START = 5.0  # seconds that a browser has for its first page before torch takes the processor
BROWSER_DRAWS = 1.0  # what it needs of the server after the page's script has ended


def start() -> None:
    """Open the store, and start the workers once a first page stands; the pages, too, say why when that fails."""
    from poisonlab.runner import runtime
    from poisonlab.store import StoreError
    from poisonlab.ui import collector, notices

    collector.install()
    try:
        current = runtime.start()
        if notices.first_page.wait(HEAD_START):
            time.sleep(BROWSER_DRAWS)
        current.runner  # noqa: B018 - its first use starts it
    except StoreError as error:
        print(f"\n{error}\n", flush=True)


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Workers live as long as the server.

    They start beside it: importing torch takes seconds, and a page of tables does not wait for it.
    """
    threading.Thread(target=start, daemon=True).start()
    try:
        yield
    finally:
        from poisonlab.runner import runtime

        runtime.stop()


def from_environment() -> dict[str, str | int | bool]:
    """Settings such as ``STREAMLIT_SERVER_PORT=8600``, which Streamlit itself reads under ``streamlit run`` only."""
    names = {
        "server.port": "PORT",
        "server.address": "ADDRESS",
        "server.headless": "HEADLESS",
        "server.trustedUserHeaders": "TRUSTED_USER_HEADERS",
    }
    found = {option: os.environ.get(f"STREAMLIT_SERVER_{name}") for option, name in names.items()}
    given: dict[str, str | int | bool] = {option: value for option, value in found.items() if value}
    if "server.port" in given:
        given["server.port"] = int(given["server.port"])
    if "server.headless" in given:
        given["server.headless"] = str(given["server.headless"]).lower() in ("1", "true", "yes")
    return given


app = st.App(MAIN, lifespan=lifespan, middleware=[Middleware(Gate, allowed=hosts())])

if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # Ctrl-C is how one ends a server
        app.run(config=from_environment())
