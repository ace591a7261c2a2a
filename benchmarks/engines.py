"""What engines cost and gain on this machine: two workers against one, the order of jobs, the queue, a job's overhead.

    python benchmarks/engines.py [--only workers,order,queue,overhead,share] [--engine ray]

Ratios within one call. Nothing else should run meanwhile.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker is one thread
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from poisonlab.runner.base import Runner
from poisonlab.runner.engines import make_runner
from poisonlab.runner.recorder import run_and_record
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.store import Store, jobs

WORK = {"training.epochs": 30, "dataset.train_images": 1000}  # ten to thirty seconds of one core
IN_ORDER_OF_QUEUEING = """SELECT run_id FROM jobs WHERE state = 'queued' AND device IN ('auto', $device)
    AND ($each, $unlimited, $kept_back) IS NOT NULL ORDER BY position LIMIT 1"""


def spec(attack: str, defense: str, seed: int, **more: object) -> ExperimentSpec:
    return make_spec("digits", attack, defense, seed=seed, overrides=WORK | more)


def settings(engine: str, workers: int) -> list[str]:
    local = ["cluster=local", "gpus=0", "cpus=1"] if engine == "slurm" else []
    return [f"workers={workers}", *local]


def carried_out(runner: Runner, store: Store, specs: list[ExperimentSpec], look: float = 0.2) -> float:
    """Seconds from submitting some runs until the last has ended, looked up each ``look`` seconds."""
    begun = time.perf_counter()
    run_ids = runner.submit_many(specs)
    while len(store.jobs.endings(run_ids)) < len(run_ids):
        time.sleep(look)
    states = store.jobs.endings(run_ids)
    if {state for state, _ in states.values()} != {"done"}:
        raise SystemExit(f"a run failed: {states}")
    return time.perf_counter() - begun


@contextmanager
def started(engine: str, workers: int) -> Iterator[tuple[Runner, Store]]:
    """A runner at work on an empty results folder."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        runner = make_runner(store, Path(folder), engine, settings(engine, workers))
        runner.start()
        yield runner, store
        runner.stop()
        store.close()


def measured(engine: str, workers: int, specs: list[ExperimentSpec], warm: int = 2) -> float:
    """Seconds of runs on workers that have run something before."""
    with started(engine, workers) as (runner, store):
        carried_out(
            runner, store, [spec("badnets", "none", 900 + i, **{"training.epochs": 20}) for i in range(warm)]
        )
        return carried_out(runner, store, specs)


def workers(engine: str) -> None:
    four = [spec("badnets", "none", seed) for seed in range(4)]
    one = measured(engine, 1, four)
    two = measured(engine, 2, four)
    print(f"four disjoint runs: {one:.1f} s on one worker, {two:.1f} s on two: {one / two:.2f} (goal 1.7)")


def order(engine: str) -> None:
    runs = [spec(a, d, 0) for a in ("badnets", "blend") for d in ("ft", "nad")]
    with patch.object(jobs, "_NEXT", IN_ORDER_OF_QUEUEING):
        before = measured(engine, 2, runs)
    after = measured(engine, 2, runs)
    print(
        f"2 attacks x 2 defenses: {before:.1f} s as queued, {after:.1f} s by victims: {before / after:.2f} (goal 1.25)"
    )


def queue(engine: str) -> None:
    del engine
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        specs = [spec("badnets", "none", seed) for seed in range(5000)]
        begun = time.perf_counter()
        store.jobs.enqueue(specs)
        queued = time.perf_counter() - begun
        took = [timed(lambda: store.jobs.claim("cpu")) for _ in range(200)]
        store.close()
    late = statistics.quantiles(took, n=20)[-1]
    print(
        f"5,000 jobs queued in {queued:.1f} s; a claim takes {1000 * statistics.median(took):.1f} ms, "
        f"p95 {1000 * late:.1f} ms (goal 20)"
    )


def overhead(engine: str) -> None:
    """Of a warm run in a queue beside calling it directly: its stages are cached, so that little else remains."""
    runs = [spec("badnets", "none", 0, **{"training.epochs": 2}) for _ in range(30)]
    with started(engine, 1) as (runner, store):
        results = store.results
        carried_out(runner, store, runs[:2])
        through = carried_out(runner, store, runs) / len(runs)
        direct = [
            timed(
                lambda: run_and_record(runs[0], results / "runs", device="cpu", cache_root=results / "cache")
            )
            for _ in runs
        ]
    alone = 1000 * statistics.median(direct)
    more = 1000 * through - alone
    print(f"a warm run: {alone:.0f} ms directly, {more:.0f} ms more through {engine} (goal 50)")


def share(engine: str) -> None:
    """Of one core that the program takes while a job runs elsewhere, without anybody looking at pages."""
    long = [spec("badnets", "none", 0, **{"training.epochs": 40})]
    with started(engine, 1) as (runner, store):
        carried_out(runner, store, [spec("badnets", "none", 1, **{"training.epochs": 10})])
        begun = time.perf_counter()
        busy = time.process_time()
        carried_out(runner, store, long, 1.0)
        seconds = time.perf_counter() - begun
        busy = time.process_time() - busy
    print(
        f"a run of {seconds:.0f} s through {engine}: the program takes {100 * busy / seconds:.1f} % of a core (goal 2)"
    )


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


PARTS = {"workers": workers, "order": order, "queue": queue, "overhead": overhead, "share": share}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--engine", default="local", choices=("local", "ray", "slurm"))
    options = parser.parse_args()
    for name in options.only.split(","):
        PARTS[name](options.engine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
