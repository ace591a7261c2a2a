"""How right the estimates are: twenty varied runs, each estimated before it is measured.

    python benchmarks/estimates.py [--only NUMBER ...]

An estimate is made of the shipped runs and of those measured before it in this script, in a results folder of their
own. A factor is measured over estimated, or the other way round where that is larger. On a machine that does other
things as well, ``--processor`` counts what one thread computes instead of what the clock says; and the last line is
free of how fast the machine is, a factor beside the median one.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

if "--processor" in sys.argv:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is there

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from poisonlab.runner import cost
from poisonlab.runner.recorder import run_and_record
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.store import Store

MEDIAN = 1.5
WORST = 3.0
FEW = {"dataset.train_images": 1500, "dataset.test_images": 800, "training.epochs": 4}
TRANSFER = {"dataset.head_images": 200, "dataset.pretrain_images": 400, "attack.targets": 4}

# dataset, attack, defense, and what differs from the preset quick
RUNS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("digits", "badnets", "none", {"training.epochs": 12}),
    ("digits", "badnets", "awm", {"training.epochs": 6, "defense.rounds": 3}),
    ("digits", "blend", "ft", {"training.epochs": 5, "defense.epochs": 40}),
    ("digits", "badnets", "anp", {"dataset.train_images": 400, "defense.iterations": 40}),
    ("digits", "label_noise", "none", {"training.epochs": 3}),
    ("digits", "bullseye_polytope", "none", TRANSFER | {"attack.steps": 50}),
    ("digits", "bullseye_polytope", "puregen_ebm", TRANSFER | {"attack.steps": 20, "defense.steps": 100}),
    ("digits", "sig", "clp", {"training.epochs": 30, "dataset.train_images": 200}),
    ("digits", "trojan_square", "nad", {"victim.width": 8, "training.epochs": 8}),
    ("digits", "badnets", "rnp", {"training.epochs": 4, "defense.recover_epochs": 10}),
    ("digits", "wanet", "strip", {"training.epochs": 5}),
    ("digits", "badnets", "i_bau", {"victim.width": 24, "training.epochs": 3, "dataset.test_images": 200}),
    ("cifar10", "badnets", "none", FEW),
    ("cifar10", "blend", "ft_sam", FEW | {"clean_images": 250, "defense.epochs": 8}),
    ("cifar10", "trojan_watermark", "jpeg", FEW | {"dataset.train_images": 3000, "training.epochs": 2}),
    ("cifar10", "badnets", "spectral_signatures", FEW | {"training.epochs": 6}),
    (
        "cifar10",
        "bullseye_polytope",
        "none",
        TRANSFER | {"attack.poisons": 10, "attack.steps": 40},
    ),
    ("cifar10", "label_noise", "finetune_without", FEW | {"defense.adapt_epochs": 6}),
    ("cifar10", "badnets", "fp", FEW | {"victim.width": 32, "training.epochs": 1, "defense.epochs": 4}),
    ("cifar10", "blend", "mcr", FEW | {"defense.epochs": 4, "defense.curve_epochs": 4}),
)


def spec_of(number: int) -> ExperimentSpec:
    """A run of the list, counted from 1; each has a seed of its own, so that none finds its stages in the cache."""
    dataset, attack, defense, overrides = RUNS[number - 1]
    return make_spec(dataset, attack, defense, seed=1000 + number, overrides=overrides)


def measured(number: int, store: Store, processor: bool) -> float | None:
    """Measured over estimated seconds of a run, which is indexed for those after it; ``None`` without an estimate.

    Args:
        processor: count what this process computes and not what passes on the clock.
    """
    spec = spec_of(number)
    started = time.perf_counter()
    estimate = cost.estimate(store, spec, "cpu")
    asked = 1000 * (time.perf_counter() - started)
    with patch("time.perf_counter", time.process_time) if processor else nullcontext():
        record = run_and_record(
            spec, store.results / "runs", device="cpu", cache_root=store.results / "cache"
        )
    if record.state != "done":
        raise SystemExit(f"run {number} {record.state}: {record.message}")
    store.index.add(record)
    took = sum(record.timings.values())
    name = f"{number:2} {spec.dataset.name} {spec.attack.name} {spec.defense.name}"
    if estimate.seconds is None:
        print(f"{name:46} unknown: {', '.join(estimate.unknown)}; measured {took:6.1f} s", flush=True)
        return None
    origin = "shipped" if estimate.elsewhere else "here"
    ratio = took / estimate.seconds
    print(
        f"{name:46} {estimate.seconds:7.1f} s from {origin:7}  measured {took:7.1f} s  factor {either(ratio):5.2f}"
        f"  ({asked:.0f} ms to ask)",
        flush=True,
    )
    known = {each.stage: each.seconds for each in estimate.computed}
    off = [
        f"{stage} {known.get(stage) or 0:.1f} for {record.timings.get(stage, 0.0):.1f}"
        for stage in dict.fromkeys((*known, *record.timings))
        if abs((known.get(stage) or 0) - record.timings.get(stage, 0.0)) > 0.25 * took
    ]
    if off:
        print(f"{'':46} most of it: {', '.join(off)}", flush=True)
    return ratio


def either(ratio: float) -> float:
    """A ratio as a factor of at least 1."""
    return max(ratio, 1 / ratio)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=int, nargs="+", default=range(1, len(RUNS) + 1), metavar="NUMBER")
    parser.add_argument("--processor", action="store_true", help="one thread, and its seconds alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        found = {number: measured(number, store, options.processor) for number in options.only}
        store.close()
    ratios = [ratio for ratio in found.values() if ratio]
    usual = math.exp(statistics.median(math.log(ratio) for ratio in ratios))
    median = statistics.median(map(either, ratios))
    worst = max(map(either, ratios))
    beside = [either(ratio / usual) for ratio in ratios]
    met = median <= MEDIAN and worst <= WORST and len(ratios) == len(found)
    print(f"\n{len(ratios)} of {len(found)} runs estimated; measured over estimated, the median: {usual:.2f}")
    print(f"factor: median {median:.2f}, goal <= {MEDIAN}; worst {worst:.2f}, goal <= {WORST}: ", end="")
    print("met" if met else "MISSED")
    print(f"beside the median run: median {statistics.median(beside):.2f}, worst {max(beside):.2f}")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
