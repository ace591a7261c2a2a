"""Seconds from a key press on a lesson's slider until the browser has drawn the answer; needs a Chromium.

    python benchmarks/lessons.py
    python benchmarks/lessons.py lesson_poison multilevel    # some lessons
    python benchmarks/lessons.py --clock cpu    # on a machine that others use, too

Every slider of a lesson is moved five times, in turn: most settings are new then, and nothing of them is remembered.
An answer has been drawn when the script has ended and the page does not change any more. Beside the seconds on the wall
stand the CPU seconds of dashboard and browser together, from /proc: those of an idle machine with one core.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 2.0
REPEATS = 5
PORT = 8599
PREDICTIONS = {
    "lesson_poison": "some",
    "lesson_backdoor": "few",
    "lesson_crafting": "all",
    "lesson_langevin": "soon",
    "lesson_trigger": "yes",
    "multilevel": "above",
    "lesson_cleaning": "drop",
    "lesson_adaptive": "fainter",
}
# Time from the key press to the last change of the page, once the script has run and half a second nothing changed.
ANSWERED = """() => new Promise(answered => {
    const app = document.querySelector('[data-testid=stApp]');
    const begun = performance.now();
    let ran = false, last = begun;
    const state = () => app.getAttribute('data-test-script-state');
    const watch = new MutationObserver(() => {
        last = performance.now();
        ran = ran || state() === 'running';
    });
    watch.observe(app, {subtree: true, childList: true, attributes: true, characterData: true});
    const look = setInterval(() => {
        if (ran && state() === 'notRunning' && performance.now() - last > 500) {
            clearInterval(look);
            watch.disconnect();
            answered((last - begun) / 1000);
        }
    }, 50);
})"""


@contextmanager
def dashboard() -> Iterator[str]:
    """The address of a dashboard of its own, on an empty results folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "POISONLAB_RESULTS": folder,
            "STREAMLIT_SERVER_PORT": str(PORT),
            "STREAMLIT_SERVER_HEADLESS": "true",
        }
        server = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/_stcore/health", timeout=2).close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{PORT}"
        finally:
            server.terminate()
            server.wait()


def cpu_seconds() -> float:
    """What all processes that this one has started have spent until now."""
    parents, ticks = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[int(file.parent.name)], ticks[int(file.parent.name)] = (
            int(fields[1]),
            int(fields[11]) + int(fields[12]),
        )

    def ours(pid: int) -> bool:
        return parents.get(pid) == os.getpid() or (pid in parents and ours(parents[pid]))

    return sum(spent for pid, spent in ticks.items() if ours(pid)) / os.sysconf("SC_CLK_TCK")


def seconds(page: Any, thumb: Any, key: str) -> dict[str, float]:
    """How long the answer to a key takes, by clock."""
    thumb.focus()
    page.evaluate(f"() => {{ window.answer = ({ANSWERED})() }}")
    before = cpu_seconds()
    page.keyboard.press(key)
    wall = float(page.evaluate("() => window.answer"))
    return {"wall": wall, "cpu": cpu_seconds() - before}


def measure(page: Any, url: str) -> dict[str, list[dict[str, float]]]:
    """Seconds of each slider of a lesson by its label; a slider at its end turns back."""
    page.goto(url)
    page.locator(".js-plotly-plot").first.wait_for(timeout=120_000)
    page.wait_for_timeout(3000)
    thumbs = {str(thumb.get_attribute("aria-label")): thumb for thumb in page.get_by_role("slider").all()}
    keys = dict.fromkeys(thumbs, "ArrowRight")
    taken: dict[str, list[dict[str, float]]] = {label: [] for label in thumbs}
    for _ in range(REPEATS):
        for label, thumb in thumbs.items():
            now, low, high = thumb.evaluate("input => [+input.value, +input.min, +input.max]")
            keys[label] = "ArrowLeft" if now == high else "ArrowRight" if now == low else keys[label]
            taken[label].append(seconds(page, thumb, keys[label]))
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", metavar="lesson", help=", ".join(PREDICTIONS))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which the limit is for")
    chosen = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        parser.error("no Chromium found: apt-get install chromium")
    slow = 0
    print(f"medians of {REPEATS}, limit {LIMIT_SECONDS:.1f} s on the {chosen.clock} clock")
    with dashboard() as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for lesson in chosen.lessons or PREDICTIONS:
            for label, taken in measure(page, f"{address}/{lesson}?guess={PREDICTIONS[lesson]}").items():
                median = {
                    clock: statistics.median(each[clock] for each in taken) for clock in ("wall", "cpu")
                }
                over = median[chosen.clock] > LIMIT_SECONDS
                slow += over
                print(
                    f"{lesson:16} {label:40} wall {median['wall']:5.2f} s   cpu {median['cpu']:5.2f} s   "
                    f"{'SLOW' if over else 'ok':4}   load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
        browser.close()
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main())
