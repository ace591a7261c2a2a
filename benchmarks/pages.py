"""Page script time with 100,000 runs in the store, through AppTest: what a reader waits for, the browser aside.

python benchmarks/pages.py [runs]
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests" / "pages")]

from leaderboard import fill  # noqa: E402
from page_helpers import tiny_backdoor, tiny_targeted  # noqa: E402
from streamlit.testing.v1 import AppTest  # noqa: E402

from poisonlab.runner import runtime  # noqa: E402
from poisonlab.runner.recorder import run_and_record  # noqa: E402
from poisonlab.store import Store  # noqa: E402
from poisonlab.ui.navigation import PAGES, SHOWS  # noqa: E402

LIMIT_SECONDS = 1.0
REPEATS = 5


def artifacts(store: Store) -> None:
    """Give every run something to look at, so that the pages have 100,000 to choose from."""
    kinds = sorted({kind for shown in SHOWS.values() for kind in shown})
    with store.db.transaction() as cursor:
        for kind in kinds:
            cursor.execute(
                "INSERT INTO artifacts SELECT run_id, ?, ?, 'evaluate' FROM runs", [kind.lower(), kind]
            )


def main(count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        os.environ["POISONLAB_RESULTS"] = folder
        store = runtime.start(results).store
        fill(store, count)
        artifacts(store)
        for spec in (tiny_targeted(), tiny_backdoor()):  # the newest two are real: these the pages draw
            store.index.add(
                run_and_record(spec, results / "runs", device="cpu", cache_root=results / "cache")
            )
        app = AppTest.from_file(str(ROOT / "poisonlab" / "ui" / "main.py"), default_timeout=120).run()
        slow = 0
        print(f"{count} runs; median of {REPEATS} warm script runs, limit {LIMIT_SECONDS:.1f} s")
        for name in [entry[0] for section in PAGES.values() for entry in section]:
            started = time.perf_counter()
            app.switch_page(f"../../pages/{name}.py").run()
            first = time.perf_counter() - started
            seconds = []
            for _ in range(REPEATS):
                started = time.perf_counter()
                app.run()
                seconds.append(time.perf_counter() - started)
            assert not app.exception, (name, app.exception)
            median = statistics.median(seconds)
            slow += median > LIMIT_SECONDS
            print(
                f"{name:14} first {first:6.2f} s   warm {median:6.2f} s   {'SLOW' if median > LIMIT_SECONDS else 'ok'}"
            )
        runtime.stop()
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
