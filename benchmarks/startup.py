"""How long a start takes until there is something to read: server, sidebar, first title, Home whole; medians.

    python benchmarks/startup.py --starts 5

Needs playwright and a Chromium (``playwright install chromium``, or ``--browser PATH``). Measure on an idle machine.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 180.0
MOMENTS = ("server answers", "sidebar", "first title", "Home whole")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_server(url: str, begun: float) -> float:
    """Seconds from ``begun`` until the server answers."""
    while time.monotonic() - begun < LIMIT_SECONDS:
        try:
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
            return time.monotonic() - begun
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"the server does not answer within {LIMIT_SECONDS:.0f} s")


def one_start(browser: Browser, results: Path) -> dict[str, float]:
    """Start the app on ``results`` and open Home; seconds from the command to each of ``MOMENTS``."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "POISONLAB_RESULTS": str(results),
        "STREAMLIT_SERVER_PORT": str(port),
        "STREAMLIT_SERVER_HEADLESS": "true",
    }
    begun = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py")], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        seconds = {"server answers": wait_for_server(url, begun)}
        page = browser.new_page()
        page.goto(url)
        for moment, selector in (
            ("sidebar", "[data-testid=stSidebarNav]"),
            ("first title", "h1"),
            ("Home whole", "[data-testid=stDataFrame]"),
        ):
            page.wait_for_selector(selector, timeout=LIMIT_SECONDS * 1000)
            seconds[moment] = time.monotonic() - begun
        page.close()
        return seconds
    finally:
        server.terminate()
        server.wait(timeout=30)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    asked.add_argument("--starts", type=int, default=5, help="first starts, and as many later ones")
    asked.add_argument(
        "--browser", default=shutil.which("chromium"), help="a Chromium; playwright's own by default"
    )
    options = asked.parse_args()
    found: dict[str, list[dict[str, float]]] = {"first": [], "later": []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        for _ in range(options.starts):
            with tempfile.TemporaryDirectory() as folder:
                for which in found:
                    found[which].append(one_start(browser, Path(folder) / "results"))
        browser.close()
    for which, starts in found.items():
        for moment in MOMENTS:
            values = sorted(start[moment] for start in starts)
            print(
                f"{which:5} {moment:15} median {statistics.median(values):5.1f} s  (up to {values[-1]:.1f} s)"
            )


if __name__ == "__main__":
    main()
