"""Twenty trials of Bullseye Polytope in one job against twenty jobs of one trial, white box and linear.

    python benchmarks/jobs.py --like digits

Measured: a run from the dataset to its metrics with a fresh cache. Jobs of one trial need seeds of their own, hence
extractors of their own; they are alike, so the median of one in each turn is taken twenty times.
"""

import itertools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ratio import conditions, medians, options
from poisonlab import machine
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import make_spec

GOAL = 0.50
TRIALS = 20


def main() -> int:
    chosen = options(__doc__, victims=False, steps=None, repeats=3)
    machine.set_threads()
    seeds = itertools.count()

    def job(trials: int) -> None:
        dataset, overrides = chosen.like.removesuffix("-quick"), {"attack.targets": trials}
        spec = make_spec(dataset, "bullseye_polytope", "none", seed=next(seeds), overrides=overrides)
        with tempfile.TemporaryDirectory() as folder:
            run_experiment(spec, Context(device=chosen.device, cache=StageCache(Path(folder))))

    together, alone = medians(lambda: job(TRIALS), lambda: job(1), chosen)
    ratio = together / (TRIALS * alone)
    print(conditions(chosen))
    print(f"one job of {TRIALS} trials {together:.2f} s, {TRIALS} jobs of one {TRIALS * alone:.2f} s")
    print(f"ratio {ratio:.3f}, goal <= {GOAL:.2f}: {'met' if ratio <= GOAL else 'MISSED'}")
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())
