"""Two nodes of Ray on this machine, one of which is killed in the middle of a sweep."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from poisonlab.measure.recorded import read_record
from poisonlab.runner.engines import make_runner
from poisonlab.runner.recorder import run_and_record
from poisonlab.spec.config import make_spec

SWEEP = 40
PATIENCE = 600.0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes with a processor each."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'poisonlab[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    ray.shutdown()
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.mark.slow
@pytest.mark.long
def test_a_node_that_dies_in_a_sweep_costs_nothing_but_time(cluster, store, results, tmp_path) -> None:
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    few = {"training.epochs": 1, "dataset.train_images": 100, "dataset.test_images": 60}
    defenses = ("none", "ft", "clp", "fp")
    specs = [make_spec("digits", "badnets", d, seed=s, overrides=few) for s in range(10) for d in defenses]
    assert len(specs) == SWEEP
    runner = make_runner(store, results, "ray", [f"address={cluster.address}"])
    assert runner.workers == 2
    runner.start()
    run_ids = runner.submit_many(specs)
    deadline = time.monotonic() + PATIENCE
    killed = False
    while len(store.jobs.endings(run_ids)) < SWEEP:
        assert time.monotonic() < deadline
        if not killed and len(store.jobs.endings(run_ids)) >= SWEEP // 4:
            cluster.remove_node(node, allow_graceful=False)
            killed = True
        time.sleep(0.1)
    runner.stop()

    assert killed and {state for state, _ in store.jobs.endings(run_ids).values()} == {"done"}
    for spec, run_id in zip(specs, run_ids, strict=True):
        by_hand = run_and_record(spec, tmp_path / "runs", device="cpu", cache_root=tmp_path / "cache")
        assert read_record(results / "runs" / run_id)[0].metrics == by_hand.metrics
